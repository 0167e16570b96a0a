"""Comparison of the outputs with eager attention with those of the model as it is.

The attention implementations of transformers differ for some models and inputs: one of them may ignore the padding or
round a position bias. Then the attention of the eager implementation is not that of the model, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lightning_attnflow._state import configs_of
from lightning_attnflow.errors import AttnFlowError, CaptureError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOLERANCE = 1e-3  # eager and fused attention of float32 differ by about 1e-6

_n_captures: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], int]] = WeakKeyDictionary()


def rounding(dtype: torch.dtype) -> float:
    """Return the difference of outputs, relative to the largest, that two ways of the same computation may have."""
    return max(_TOLERANCE, 16 * torch.finfo(dtype).eps)


def is_due(model: PreTrainedModel, inputs: Mapping[str, Any]) -> bool:
    """Return whether to compare at this capture, and count it.

    The first capture of a model and of every kind of input is compared, then the second, fourth, eighth and so on:
    a difference grows with the weights while the model is trained. Inputs of one kind have the same names, sides of the
    padding and number of tokens, up to a factor of two. A model with other parameters or another implementation of
    attention is a new one.
    """
    kind = (
        tuple(config._attn_implementation for config in configs_of(model)),
        hash(tuple((id(parameter), parameter.dtype) for parameter in model.parameters())),
        torch.is_autocast_enabled(next(model.parameters()).device.type),
        *sorted((name, _kind_of(value)) for name, value in inputs.items()),
    )
    counts = _n_captures.setdefault(model, {})
    counts[kind] = n = counts.get(kind, 0) + 1
    return n & (n - 1) == 0


def _kind_of(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return repr(value)
    padding: tuple[bool, ...] = ()
    if value.ndim >= 2 and not value.is_floating_point():  # such as an attention mask
        padding = bool((value[..., 0] == 0).any()), bool((value[..., -1] == 0).any())
    return f"{value.dtype} {value.ndim} {value.shape[-1].bit_length() if value.ndim else 0} {padding}"


def compared(output: Any) -> tuple[str, Tensor] | None:
    """Return the output that is compared between implementations of attention, and its name."""
    if isinstance(output, Tensor):
        return "output", output
    if not isinstance(output, Mapping):
        return None
    name = next((n for n in ("logits", "last_hidden_state") if isinstance(output.get(n), Tensor)), None)
    return None if name is None else (name, output[name])


def check_outputs(name: str, before: Tensor, eager: Any, mask: Any, model: PreTrainedModel) -> None:
    """Raise if the outputs with eager attention are not those of the model as it is.

    Args:
        name: of the output.
        before: of the model as it is.
        eager: outputs with eager attention.
        mask: attention mask (B, T) or (B, choices, T), or None.
        model: the model.
    """
    after = eager if isinstance(eager, Tensor) else eager[name]
    if isinstance(mask, Tensor) and mask.ndim in (2, 3):  # outputs at padding, and of rows of padding, are undefined
        real = mask.bool()
        if before.ndim != mask.ndim + 1 or before.shape[:-1] != mask.shape:
            real = real.any(dim=-1)
        if before.shape[: real.ndim] == real.shape:
            before, after = before[real], after[real]
    if not before.numel() or not bool(before.isfinite().all()):
        return
    tolerance = rounding(before.dtype)
    scale = max(float(before.abs().max()), 1e-6)
    difference = float((before.float() - after.float()).abs().max()) / scale
    if not difference <= tolerance:
        raise CaptureError(
            f"attention of {type(model).__name__}",
            got=f"{name} that differ by {difference:.2g} of the largest with eager attention",
            expected=f"the outputs of the model as it is, up to {tolerance:.1g}",
            remedy='Load the model with attn_implementation="eager", and compare its predictions.',
        )


class UncomparedError(Exception):
    """A forward pass with eager attention failed; whether the model as it is fails too is not known."""


@contextmanager
def eager_errors(model: PreTrainedModel, *, is_compared: bool) -> Iterator[None]:
    """Raise a CaptureError for what a forward pass with eager attention raises, if the model as it is raises nothing.

    Args:
        model: the model.
        is_compared: whether the model as it is was run.

    Raises:
        UncomparedError: if it was not.
    """
    try:
        yield
    except (AttnFlowError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if not is_compared:
            raise UncomparedError from error
        raise CaptureError(
            f"attention of {type(model).__name__}",
            got=f"{type(error).__name__} with eager attention: {' '.join(str(error).split())[:300]}",
            expected="the outputs of the model as it is",
        ) from error
