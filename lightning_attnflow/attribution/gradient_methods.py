"""Explanations by gradients of the payoff with respect to the word embeddings, computed by captum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_attnflow._state import eval_mode
from lightning_attnflow.attribution.arguments import check_count, check_positive
from lightning_attnflow.attribution.attribution import TokenAttribution
from lightning_attnflow.attribution.payoff import Payoff, get_payoff
from lightning_attnflow.attribution.progress import bar_if_slow
from lightning_attnflow.attribution.registry import register
from lightning_attnflow.attribution.sentence import Sentence
from lightning_attnflow.attribution.token_game import TokenGame
from lightning_attnflow.errors import InputError, MissingDependencyError

Forward = Callable[[torch.Tensor], torch.Tensor]  # embeddings (m, T, D) -> payoffs (m,)
Attribute = Callable[[Any, Forward, torch.Tensor], torch.Tensor]  # (captum.attr, forward, (1, T, D)) -> (1, T, D)


@register("gradient")
def saliency(
    sentence: Sentence, *, payoff: str | Payoff = "log_probability", target: int | None = None
) -> TokenAttribution:
    """Norm of the gradient at a token's embedding: how sensitive, without a sign."""
    setup = _Setup(sentence, payoff, target, None)
    gradient = setup.attribute(lambda attr, forward, at: attr.Saliency(forward).attribute(at, abs=False))
    return setup.attribution("saliency", np.linalg.norm(gradient, axis=-1))


@register("gradient")
def input_x_gradient(
    sentence: Sentence, *, payoff: str | Payoff = "log_probability", target: int | None = None
) -> TokenAttribution:
    """Embedding times gradient: the first-order effect of scaling a token's embedding."""
    setup = _Setup(sentence, payoff, target, None)
    product = setup.attribute(lambda attr, forward, at: attr.InputXGradient(forward).attribute(at))
    return setup.attribution("input_x_gradient", product.sum(axis=-1))


@register("gradient")
def integrated_gradients(
    sentence: Sentence,
    *,
    payoff: str | Payoff = "log_probability",
    target: int | None = None,
    absent: str | None = None,
    n_steps: int = 50,
    batch_size: int = 32,
) -> TokenAttribution:
    """Gradients integrated from the sentence with all tokens absent to the whole: adds up to the payoff's change."""
    check_count("n_steps", n_steps)
    check_count("batch_size", batch_size)
    setup = _Setup(sentence, payoff, target, absent)
    with eval_mode(sentence.model), _gradients_on(sentence.model):
        baseline = setup.game.baseline_embeddings().detach()
    path = setup.attribute(
        lambda attr, forward, at: attr.IntegratedGradients(forward).attribute(
            at, baselines=baseline, n_steps=n_steps, internal_batch_size=batch_size
        ),
        n_steps,
    )
    ends = setup.game(np.array([[False] * setup.game.n_players, [True] * setup.game.n_players]))
    facts = {"absent": setup.game.absent, "v_empty": float(ends[0]), "v_full": float(ends[1])}
    return setup.attribution("integrated_gradients", path.sum(axis=-1), **facts)


@register("gradient")
def smooth_grad(
    sentence: Sentence,
    *,
    payoff: str | Payoff = "log_probability",
    target: int | None = None,
    n_samples: int = 25,
    noise: float = 0.1,
    batch_size: int = 32,
) -> TokenAttribution:
    """Norm of the gradient averaged over noisy embeddings; ``noise`` in standard deviations of the embeddings."""
    check_count("n_samples", n_samples)
    check_count("batch_size", batch_size)
    check_positive("noise", noise, "0.1 is usual; 0 would be saliency.")
    setup = _Setup(sentence, payoff, target, None)

    def attribute(attr: Any, forward: Forward, at: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(int(np.random.SeedSequence(sentence.seed).generate_state(1)[0]))  # inside a forked state
        tunnel = attr.NoiseTunnel(attr.Saliency(forward))
        deviation = float(at.detach().std()) * noise
        averaged: torch.Tensor = tunnel.attribute(
            at,
            nt_type="smoothgrad",
            nt_samples=n_samples,
            nt_samples_batch_size=batch_size,
            stdevs=deviation,
            abs=False,
        )
        return averaged

    return setup.attribution("smooth_grad", np.linalg.norm(setup.attribute(attribute, n_samples), axis=-1))


class _Setup:
    """The game of one sentence with a payoff that can be differentiated by the word embeddings."""

    def __init__(self, sentence: Sentence, payoff: str | Payoff, target: int | None, absent: str | None) -> None:
        name, self._payoff = get_payoff(payoff, differentiable=True)
        self.sentence = sentence
        with _gradients_on(sentence.model):  # tensors made in inference mode could not be differentiated later
            self.game: TokenGame = sentence.game(payoff=payoff, target=target, absent=absent)
        self._facts = {"payoff": name, "target": self.game.target}

    def attribute(self, attribute: Attribute, n_rows: int = 1) -> NDArray[np.float64]:
        """Return captum's attribution of the embeddings, (T, D), from ``n_rows`` forward passes of one sentence."""
        attr = _captum()
        model = self.sentence.model
        with eval_mode(model), _gradients_on(model), bar_if_slow(n_rows, "gradients") as advance:
            own = self.game.embeddings().detach()  # of half precision in some models; captum then works in float32

            def forward(embeddings: torch.Tensor) -> torch.Tensor:
                advance(len(embeddings))
                payoffs = self._payoff(self.game.embedded_logits(embeddings.to(own.dtype)), self.game.target)
                return _differentiable(payoffs, len(embeddings))

            at = own.to(torch.promote_types(own.dtype, torch.float32)).requires_grad_()
            found: torch.Tensor = attribute(attr, forward, at)[0]
        return found.detach().double().cpu().numpy()

    def attribution(self, method: str, values: NDArray[np.float64], **facts: Any) -> TokenAttribution:
        return self.sentence.by_position(values, method, "present", **self._facts, **facts)


def _differentiable(payoffs: Any, n_rows: int) -> torch.Tensor:
    if not isinstance(payoffs, torch.Tensor) or payoffs.shape != (n_rows,) or not payoffs.requires_grad:
        got = type(payoffs).__name__
        if isinstance(payoffs, torch.Tensor):
            got = f"{'' if payoffs.requires_grad else 'detached '}payoffs of shape {tuple(payoffs.shape)}"
        raise InputError(
            "payoff",
            got=got,
            expected=f"a tensor ({n_rows},), one number a row of logits, with a gradient",
            remedy="Compute it from the logits in torch, without detach(), item() or no_grad().",
        )
    return payoffs


@contextmanager
def _gradients_on(model: torch.nn.Module) -> Iterator[None]:
    """Allow gradients even inside no_grad or inference_mode, which Lightning's validation loops turn on."""
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise InputError(
            "model",
            got="parameters made in inference mode, which no gradient can pass",
            expected="parameters made outside torch.inference_mode()",
            remedy="Build or load the model outside inference_mode, or use a method of the game or attention family.",
        )
    with torch.inference_mode(mode=False), torch.enable_grad():
        yield


def _captum() -> Any:
    try:
        from captum import attr
    except ImportError as error:
        raise MissingDependencyError(
            "gradient methods",
            got="no captum",
            expected="captum >= 0.8",
            remedy="pip install 'lightning-attnflow[gradients]'",
        ) from error
    return attr
