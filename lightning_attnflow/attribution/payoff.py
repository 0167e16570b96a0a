"""Payoffs: what a coalition of tokens is worth, from the logits the model gives it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lightning_attnflow.errors import InputError

Payoff = Callable[[torch.Tensor, int], torch.Tensor]


def probability(logits: torch.Tensor, target: int) -> torch.Tensor:
    """Return the probability of the target class, (m,), from logits (m, C)."""
    return logits.softmax(dim=-1)[:, target]


def log_probability(logits: torch.Tensor, target: int) -> torch.Tensor:
    """Return the log-probability of the target class in nats, (m,), from logits (m, C)."""
    return logits.log_softmax(dim=-1)[:, target]


def logit_margin(logits: torch.Tensor, target: int) -> torch.Tensor:
    """Return the target's logit minus the largest other logit, (m,), from logits (m, C)."""
    others = logits.clone()
    others[:, target] = -torch.inf
    return logits[:, target] - others.max(dim=-1).values


def correctness(logits: torch.Tensor, target: int) -> torch.Tensor:
    """Return 1 where the target class has the largest logit, else 0, (m,), from logits (m, C)."""
    return (logits.argmax(dim=-1) == target).to(logits.dtype)


def negative_entropy(logits: torch.Tensor, target: int) -> torch.Tensor:  # noqa: ARG001 - one signature for all
    """Return sum_c p_c log p_c in nats, (m,), from logits (m, C): how sure the model is, whatever the class."""
    log_p = logits.log_softmax(dim=-1)
    return (log_p.exp() * log_p).sum(dim=-1)


PAYOFFS: dict[str, Payoff] = {
    function.__name__: function
    for function in (probability, log_probability, logit_margin, correctness, negative_entropy)
}
_STEP_PAYOFFS = ("correctness",)


def get_payoff(payoff: str | Payoff, *, differentiable: bool = False) -> tuple[str, Payoff]:
    """Look a payoff up, or take the user's own.

    Args:
        payoff: a name of ``PAYOFFS``, or a function (logits (m, C), target) -> (m,).
        differentiable: refuse payoffs whose gradient is 0 everywhere.

    Returns:
        Its name and the function.

    Raises:
        InputError: an unknown payoff, or a step function where gradients are needed.
    """
    if callable(payoff):
        return getattr(payoff, "__name__", type(payoff).__name__), payoff
    if not isinstance(payoff, str) or payoff not in PAYOFFS:
        raise InputError("payoff", got=repr(payoff), expected=f"one of {', '.join(PAYOFFS)}", remedy="Or a function.")
    if differentiable and payoff in _STEP_PAYOFFS:
        raise InputError(
            "payoff",
            got=repr(payoff),
            expected="a payoff with a gradient",
            remedy="Pass payoff='log_probability' or 'logit_margin' to a gradient method.",
        )
    return payoff, PAYOFFS[payoff]
