"""Forward and backward passes of a model at points of a path of input embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from lightning_attnflow.attention.recording import AttentionRecord
from lightning_attnflow.errors import CaptureError, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Payoff = Callable[[Tensor], Tensor]  # logits of m inputs -> (m,)


class AttentionPoint(NamedTuple):
    """Attention tensors of one layer at one point, (heads, T, d) or (heads, T, T)."""

    query: Tensor
    key: Tensor
    value: Tensor
    weights: Tensor
    slope: Tensor | float
    gradient: Tensor  # of the payoff by the context
    centre: Tensor  # <gradient_j, context_j>, (heads, T, 1)


class PathPoint(NamedTuple):
    payoff: float
    states: Tensor  # (L + 1, T, D)
    gradients: Tensor  # (L + 1, T, D)
    attention: list[AttentionPoint]


class PathPoints:
    """Forward and backward passes at points of the path; each point is evaluated once."""

    def __init__(
        self,
        model: PreTrainedModel,
        path: Callable[[Tensor], Tensor],
        inputs: Mapping[str, Tensor],
        payoff: Payoff,
        batch_size: int,
    ) -> None:
        self._model, self._path, self._inputs, self._payoff = model, path, inputs, payoff
        self._batch_size = batch_size
        self.records: list[AttentionRecord] = []  # filled by a forward pass inside `record_attention`
        self._points: dict[float, PathPoint] = {}

    def __getitem__(self, position: float) -> PathPoint:
        return self._points[position]

    @property
    def n_points(self) -> int:
        return len(self._points)

    def payoff(self, position: float) -> float:
        return self._points[position].payoff

    def plain_payoff(self, position: float) -> float:
        """Return the payoff at a point without storing anything."""
        with torch.no_grad():
            return float(self._payoff(self._forward([position]).logits)[0])

    def evaluate(self, positions: Sequence[float]) -> None:
        """Evaluate the points that are not known yet, in batches of bounded size."""
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
        layers = [
            (record, gradient, (gradient * record.context.detach()).sum(-1, keepdim=True))
            for record, gradient in zip(self.records, gradients[len(states) :], strict=True)
        ]
        for row, position in enumerate(positions):
            attention = [
                AttentionPoint(
                    record.query[row].detach(),
                    record.key[row].detach(),
                    record.value[row].detach(),
                    record.weights[row].detach(),
                    record.score_slope[row] if isinstance(record.score_slope, Tensor) else record.score_slope,
                    gradient[row],
                    centre[row],
                )
                for record, gradient, centre in layers
            ]
            self._points[position] = PathPoint(float(payoffs[row].detach()), stacked[row], backward[row], attention)
        self.records.clear()
