"""Forward and backward passes of a model at points of a path of input embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from lightning_attnflow.attention.recording import AttentionRecord, attention_weights
from lightning_attnflow.errors import CaptureError, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_BYTES = 2**30
"""Memory for the points of one path."""
_MIN_POINTS = 3  # of an interval

Payoff = Callable[[Tensor], Tensor]  # logits of m inputs -> (m,)


class AttentionPoint(NamedTuple):
    """Attention tensors of one layer at one point, (heads, T, d); the weights are computed again when needed."""

    query: Tensor
    key: Tensor
    value: Tensor
    gradient: Tensor  # of the payoff by the context
    mask: Tensor | None
    scaling: float
    softcap: float | None

    def edge_factors(self) -> tuple[Tensor, Tensor]:
        """Return the factors (heads, T, T) of <gradient_j, dv_i> and of <query_j, dk_i> in the edges."""
        weights, slope = attention_weights(self.query, self.key, self.mask, self.scaling, self.softcap)
        by_weight = self.gradient @ self.value.mT
        centred = by_weight - (weights * by_weight).sum(dim=-1, keepdim=True)  # <gradient_j, v_i - context_j>
        return weights, centred * weights * slope

    @property
    def size(self) -> int:
        """Bytes."""
        return 4 * self.query.nbytes


class PathPoint(NamedTuple):
    """The payoff, states and gradients at one point, and the tensors of every attention layer."""

    payoff: float
    states: Tensor  # (L + 1, T, D)
    gradients: Tensor  # (L + 1, T, D)
    attention: list[AttentionPoint]

    @property
    def size(self) -> int:
        """Bytes."""
        return 2 * self.states.nbytes + sum(layer.size for layer in self.attention)


class PathPoints:
    """Forward and backward passes at points of the path.

    The points that were used last are kept, up to a number of bytes; others are evaluated again when they are needed.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        path: Callable[[Tensor], Tensor],
        inputs: Mapping[str, Tensor],
        payoff: Payoff,
        batch_size: int,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._model, self._path, self._inputs, self._payoff = model, path, inputs, payoff
        self._batch_size, self._max_bytes = batch_size, max_bytes
        self.records: list[AttentionRecord] = []  # filled by a forward pass inside `record_attention`
        self._points: dict[float, PathPoint] = {}  # the last used one at the end
        self._payoffs: dict[float, float] = {}

    def __getitem__(self, position: float) -> PathPoint:
        if position not in self._points:
            self.evaluate([position])
        point = self._points[position] = self._points.pop(position)
        return point

    @property
    def n_points(self) -> int:
        """Number of different points."""
        return len(self._payoffs)

    def payoff(self, position: float) -> float:
        """Return the payoff at a point that was evaluated before."""
        return self._payoffs[position]

    def plain_payoff(self, position: float) -> float:
        """Return the payoff at a point without storing anything."""
        with torch.no_grad():
            return float(self._payoff(self._forward([position]).logits)[0])

    def evaluate(self, positions: Sequence[float]) -> None:
        """Evaluate the points that are not kept, in batches of bounded size."""
        new = [position for position in positions if position not in self._points]
        for start in range(0, len(new), self._batch_size):
            self._evaluate_batch(new[start : start + self._batch_size])

    def _forward(self, positions: Sequence[float]) -> Any:
        device = next(iter(self._inputs.values())).device
        embeddings = self._path(torch.tensor(positions, dtype=torch.float64, device=device)).detach().requires_grad_()
        inputs = {name: tensor.expand(len(positions), *tensor.shape[1:]) for name, tensor in self._inputs.items()}
        return self._model(inputs_embeds=embeddings, output_hidden_states=True, return_dict=True, **inputs)

    def _evaluate_batch(self, positions: Sequence[float]) -> None:
        self.records.clear()
        output = self._forward(positions)
        states = output.hidden_states
        if not states:
            raise CaptureError(
                type(self._model).__name__, got="no hidden states", expected="the hidden states of every layer"
            )
        payoffs = self._payoff(output.logits)
        if not torch.isfinite(payoffs).all():
            raise InputError("payoff", got="NaN or infinity on the path", expected="finite numbers")
        contexts = [record.context for record in self.records]
        if not payoffs.requires_grad:
            raise InputError("payoff", got="no gradient", expected="a differentiable function of the logits")
        gradients = torch.autograd.grad(payoffs.sum(), [*states, *contexts], allow_unused=True)
        if not all(gradient is None or torch.isfinite(gradient).all() for gradient in gradients):
            raise InputError("baseline", got="gradients that are not finite on the path", expected="finite gradients")
        if any(gradient is None for gradient in gradients):
            raise CaptureError(
                type(self._model).__name__,
                got="no gradient from the logits to the hidden states",
                expected="a differentiable model; quantised models have no gradients",
            )
        stacked = torch.stack([state.detach() for state in states], dim=1)  # (m, L + 1, T, D)
        backward = torch.stack(gradients[: len(states)], dim=1)
        layers = list(zip(self.records, gradients[len(states) :], strict=True))
        for row, position in enumerate(positions):
            attention = [
                AttentionPoint(
                    record.query[row].detach(),
                    record.key[row].detach(),
                    record.value[row].detach(),
                    gradient[row],
                    None if record.mask is None else record.mask[min(row, len(record.mask) - 1)],
                    record.scaling,
                    record.softcap,
                )
                for record, gradient in layers
            ]
            self._payoffs[position] = float(payoffs[row].detach())
            self._points[position] = PathPoint(self._payoffs[position], stacked[row], backward[row], attention)
        self.records.clear()
        size = sum(point.size for point in self._points.values())
        while size > self._max_bytes and len(self._points) > _MIN_POINTS:
            size -= self._points.pop(next(iter(self._points))).size
