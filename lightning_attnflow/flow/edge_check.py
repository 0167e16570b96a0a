"""Whether the edges of a conductance flow are those of the model: only the recorded attention may mix positions.

The edges out of a position sum to its value. They miss it by the error of the quadrature, or because a layer mixes
positions in another way, such as a convolution over its queries. Derivatives tell the two apart: where attention alone
mixes positions, the queries, keys and values of some positions have derivatives of exactly 0 by the states of others.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_attnflow.attention.comparison import rounding
from lightning_attnflow.attention.recording import WITHOUT_EDGES, AttentionRecord
from lightning_attnflow.errors import CaptureError
from lightning_attnflow.flow.conductance import edge_error

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Floats = NDArray[np.float64]


def check_edges(
    model: PreTrainedModel,
    values: Floats,
    edges: Floats,
    tolerance: float,
    forward: Callable[[], tuple[Any, list[AttentionRecord]]],
) -> None:
    """Raise if the edges of a layer miss a value by more than the tolerance because the layer mixes positions itself.

    Args:
        model: the model.
        values: float64 (L + 1, T).
        edges: float64 (L, T, T).
        tolerance: of the sum of the edges out of a position, as a share of the total variation of the layer.
        forward: returns the hidden states of the sentence and the record of every layer, with gradients.

    Raises:
        CaptureError: positions are mixed outside the recorded attention.
    """
    error = edge_error(values, edges)
    if error.max() <= tolerance:
        return
    states, records = forward()
    for layer, (ends, record) in enumerate(zip(pairwise(states), records, strict=True)):
        problem = _mixing(*ends, record) if error[layer] > tolerance else None
        if problem:
            raise CaptureError(
                f"edges of layer {layer + 1} of {type(model).__name__}",
                got=f"{problem}, so that the edges miss the value of a position by {error[layer]:.2g} of the total "
                "variation",
                expected=f"positions that only attention mixes, and edges that sum to the values up to {tolerance:.2g}",
                remedy=WITHOUT_EDGES,
            )


def _mixing(before: Tensor, after: Tensor, record: AttentionRecord) -> str | None:
    """Return how a layer mixes positions other than by attention, from its states (1, T, D); None if it does not."""
    middle = before.shape[1] // 2
    halves = slice(middle), slice(middle, None)
    named = {"queries": record.query, "keys": record.key, "values": record.value}
    for own, other in (halves, halves[::-1]):
        for name, tensor in named.items():
            if tensor.requires_grad:  # those that hooks compute again have no gradients
                gradient = _pulled_back(tensor, before, own)
                if gradient is None:
                    return f"{name} that do not depend on the states before the layer"
                if gradient[:, other].any():
                    return f"{name} that depend on other positions"
        by_context = _pulled_back(after, record.context, own)
        if by_context is None:
            return "states after the layer that do not depend on its attention"
        if by_context[:, :, other].any():
            return "positions that are mixed after the attention"
        both = _pulled_back(after, before, own)
        (by_attention,) = torch.autograd.grad(record.context, before, by_context, retain_graph=True)
        beside = 0.0 if both is None else float((both - by_attention)[:, other].abs().max())
        if both is not None and beside > rounding(after.dtype) * float(both.abs().max()):
            return "positions that are mixed beside the attention"
    return None


def _pulled_back(output: Tensor, source: Tensor, rows: slice) -> Tensor | None:
    """Return the gradient by the source of random coefficients times some positions of the output (..., T, d)."""
    generator = torch.Generator(output.device).manual_seed(0)
    coefficients = torch.zeros_like(output)
    coefficients[..., rows, :] = 1 + torch.rand(
        coefficients[..., rows, :].shape, generator=generator, device=output.device, dtype=output.dtype
    )
    (gradient,) = torch.autograd.grad(output, source, coefficients, retain_graph=True, allow_unused=True)
    found: Tensor | None = gradient
    return found
