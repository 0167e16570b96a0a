"""Payoffs: what is computed from the logits of a model for a target class."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lightning_attnflow.errors import InputError

Payoff = Callable[[torch.Tensor, int], torch.Tensor]


def probability(logits: torch.Tensor, target: int) -> torch.Tensor:
    """Probability of the target class, (m,), from logits (m, C)."""
    return logits.softmax(dim=-1)[:, target]


def log_probability(logits: torch.Tensor, target: int) -> torch.Tensor:
    """Log-probability of the target class in nats, (m,), from logits (m, C)."""
    return logits.log_softmax(dim=-1)[:, target]


def logit_margin(logits: torch.Tensor, target: int) -> torch.Tensor:
    """Logit of the target class minus the largest other logit, (m,), from logits (m, C)."""
    others = logits.clone()
    others[:, target] = -torch.inf
    return logits[:, target] - others.max(dim=-1).values


def correctness(logits: torch.Tensor, target: int) -> torch.Tensor:
    """1 where the target class has the largest logit, else 0, (m,), from logits (m, C)."""
    return (logits.argmax(dim=-1) == target).to(logits.dtype)


def negative_entropy(logits: torch.Tensor, target: int) -> torch.Tensor:  # noqa: ARG001 - one signature for all
    """Confidence of the model in any class, sum_c p_c log p_c in nats, (m,), from logits (m, C)."""
    log_p = logits.log_softmax(dim=-1)
    return (log_p.exp() * log_p).sum(dim=-1)


PAYOFFS: dict[str, Payoff] = {
    function.__name__: function
    for function in (probability, log_probability, logit_margin, correctness, negative_entropy)
}
_STEP_PAYOFFS = ("correctness",)


def _of_label(payoff: Payoff) -> Payoff:
    """Return a payoff for labels that are independent: each is a choice between its logit and 0."""

    def of_label(logits: torch.Tensor, target: int) -> torch.Tensor:
        own = logits[:, target]
        return payoff(torch.stack([torch.zeros_like(own), own], dim=1), 1)

    return of_label


def logit(logits: torch.Tensor, target: int) -> torch.Tensor:
    """Logit of the target, (m,), from logits (m, C)."""
    return logits[:, target]


def get_payoff(payoff: str | Payoff, *, differentiable: bool = False, problem: str = "one_class") -> tuple[str, Payoff]:
    """Return the name and the function of a payoff.

    Args:
        payoff: a name in ``PAYOFFS``, or a function (logits (m, C), target) -> (m,).
        differentiable: reject payoffs whose gradient is 0 everywhere.
        problem: see `problem_of`. Payoffs of independent labels use the sigmoid; the payoff of a score is the score.
    """
    if callable(payoff):
        return getattr(payoff, "__name__", type(payoff).__name__), payoff
    if not isinstance(payoff, str) or payoff not in PAYOFFS:
        raise InputError("payoff", got=repr(payoff), expected=f"one of {', '.join(PAYOFFS)}, or a function")
    if differentiable and payoff in _STEP_PAYOFFS:
        raise InputError(
            "payoff",
            got=repr(payoff),
            expected="a payoff with a gradient",
            remedy="Pass payoff='log_probability' or 'logit_margin' to a gradient method.",
        )
    if problem == "score":
        if payoff in ("correctness", "negative_entropy"):
            raise InputError("payoff", got=f"{payoff!r} of a model with one output", expected="a payoff of its logit")
        return "logit", logit
    return payoff, _of_label(PAYOFFS[payoff]) if problem == "labels" else PAYOFFS[payoff]
