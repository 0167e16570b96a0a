"""Methods that use the gradient of the payoff with respect to the word embeddings, computed by captum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_attnflow._checks import check_integer, check_positive
from lightning_attnflow._optional import require
from lightning_attnflow._progress import progress_bar
from lightning_attnflow._state import eval_mode, gradients_enabled
from lightning_attnflow.attention.transformer import gradient_errors
from lightning_attnflow.attribution.methods import register_method
from lightning_attnflow.attribution.payoffs import Payoff, get_payoff
from lightning_attnflow.attribution.result import TokenAttribution
from lightning_attnflow.attribution.sentence import Sentence
from lightning_attnflow.attribution.token_game import TokenGame
from lightning_attnflow.attribution.token_targets import TargetArgument
from lightning_attnflow.errors import CaptureError, InputError

Forward = Callable[[torch.Tensor], torch.Tensor]  # embeddings (m, T, D) -> payoffs (m,)
Attribute = Callable[[Any, Forward, torch.Tensor], torch.Tensor]  # (captum.attr, forward, (1, T, D)) -> (1, T, D)


@register_method("saliency", family="gradient")
def saliency(
    sentence: Sentence, *, payoff: str | Payoff = "log_probability", target: TargetArgument | None = None
) -> TokenAttribution:
    """Norm of the gradient at the embedding of a token; without sign."""
    setup = _Setup(sentence, payoff, target, None)
    gradient = setup.attribute(lambda attr, forward, at: attr.Saliency(forward).attribute(at, abs=False))
    return setup.attribution("saliency", np.linalg.norm(gradient, axis=-1))


@register_method("input_x_gradient", family="gradient")
def input_x_gradient(
    sentence: Sentence, *, payoff: str | Payoff = "log_probability", target: TargetArgument | None = None
) -> TokenAttribution:
    """Inner product of embedding and gradient."""
    setup = _Setup(sentence, payoff, target, None)
    product = setup.attribute(lambda attr, forward, at: attr.InputXGradient(forward).attribute(at))
    return setup.attribution("input_x_gradient", product.sum(axis=-1))


@register_method("integrated_gradients", family="gradient")
def integrated_gradients(
    sentence: Sentence,
    *,
    payoff: str | Payoff = "log_probability",
    target: TargetArgument | None = None,
    masking: str | None = None,
    n_steps: int = 50,
    batch_size: int = 32,
) -> TokenAttribution:
    """Gradients integrated from the masked to the whole sentence; the values sum to the change of the payoff."""
    check_integer("n_steps", n_steps)
    check_integer("batch_size", batch_size)
    setup = _Setup(sentence, payoff, target, masking)
    model = sentence.reader.model
    with eval_mode(model), gradients_enabled(model):
        baseline = setup.game.baseline_embeddings().detach()
    path = setup.attribute(
        lambda attr, forward, at: attr.IntegratedGradients(forward).attribute(
            at, baselines=baseline, n_steps=n_steps, internal_batch_size=batch_size
        ),
        n_steps,
    )
    v_empty, v_full = setup.game(np.array([[False], [True]]).repeat(setup.game.n_players, axis=1)).tolist()
    fields = {"masking": setup.game.masking, "v_empty": v_empty, "v_full": v_full}
    return setup.attribution("integrated_gradients", path.sum(axis=-1), **fields)


@register_method("smooth_grad", family="gradient")
def smooth_grad(
    sentence: Sentence,
    *,
    payoff: str | Payoff = "log_probability",
    target: TargetArgument | None = None,
    n_samples: int = 25,
    noise: float = 0.1,
    batch_size: int = 32,
) -> TokenAttribution:
    """Norm of the mean gradient over noisy embeddings; ``noise`` in standard deviations of the embeddings."""
    check_integer("n_samples", n_samples)
    check_integer("batch_size", batch_size)
    check_positive("noise", noise)
    setup = _Setup(sentence, payoff, target, None)

    def attribute(attr: Any, forward: Forward, at: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(int(np.random.SeedSequence(sentence.seed).generate_state(1)[0]))  # restored by eval_mode
        noisy = attr.NoiseTunnel(attr.Saliency(forward))
        deviation = float(at.detach().std()) * noise
        averaged: torch.Tensor = noisy.attribute(
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
    """The token game of one sentence with a payoff that is differentiable in the word embeddings."""

    def __init__(
        self, sentence: Sentence, payoff: str | Payoff, target: TargetArgument | None, masking: str | None
    ) -> None:
        get_payoff(payoff, differentiable=True)
        self.sentence = sentence
        with gradients_enabled(sentence.reader.model):  # inference tensors cannot be differentiated
            self.game: TokenGame = sentence.game(payoff=payoff, target=target, masking=masking)
        if self.game.n_read > 1:
            raise InputError("target", got=repr(target), expected="one token, or a pair of tokens, for this method")
        self._fields = {"payoff": self.game.payoff, "target": self.game.target, "target_name": self.game.target_name}

    def attribute(self, attribute: Attribute, n_rows: int = 1) -> NDArray[np.float64]:
        """Return captum's attribution of the embeddings, (T, D), with a progress bar of ``n_rows`` forward passes."""
        attr = require("captum.attr", extra="gradients", purpose="gradient methods")
        model = self.game.reader.model
        with eval_mode(model), gradients_enabled(model), progress_bar(n_rows, "gradients") as bar:
            own = self.game.embeddings().detach()  # captum computes in float32 if they are of half precision

            def forward(embeddings: torch.Tensor) -> torch.Tensor:
                bar.advance(len(embeddings))
                payoffs = self.game.payoffs(self.game.embedded_logits(embeddings.to(own.dtype)))
                return _differentiable(payoffs, len(embeddings))

            at = own.to(torch.promote_types(own.dtype, torch.float32)).requires_grad_()
            with gradient_errors(model):
                try:
                    found: torch.Tensor = attribute(attr, forward, at)[0]
                except RuntimeError as error:
                    if "appears to not have been used in the graph" not in str(error):
                        raise
                    raise CaptureError(
                        type(model).__name__,
                        got="no gradient from the logits to the embeddings",
                        expected="a differentiable model; quantised models have no gradients",
                    ) from None
        return found.detach().double().cpu().numpy()

    def attribution(self, method: str, values: NDArray[np.float64], **fields: Any) -> TokenAttribution:
        return self.sentence.by_position(values, method, "present", **self._fields, **fields)


def _differentiable(payoffs: Any, n_rows: int) -> torch.Tensor:
    if not isinstance(payoffs, torch.Tensor) or payoffs.shape != (n_rows,) or not payoffs.requires_grad:
        got = type(payoffs).__name__
        if isinstance(payoffs, torch.Tensor):
            got = f"{'' if payoffs.requires_grad else 'detached '}payoffs of shape {tuple(payoffs.shape)}"
        raise InputError(
            "payoff",
            got=got,
            expected=f"a tensor ({n_rows},) with a gradient",
            remedy="Compute it from the logits without detach(), item() or no_grad().",
        )
    return payoffs
