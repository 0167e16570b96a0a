"""Forward and backward passes of a model at points of a path of input embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from lightning_attnflow._words import counted
from lightning_attnflow.attention.recording import WITHOUT_EDGES, AttentionRecord, attention_weights
from lightning_attnflow.attention.transformer import gradient_errors
from lightning_attnflow.errors import CaptureError, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_BYTES = 2**30
"""Memory for the points of one path."""
PASS_BYTES = 2**29
"""Memory for the recorded attention of one forward pass of several points."""
BATCH_POSITIONS = 4096
"""Positions in one forward pass."""
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
    position_scores: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def stacked(cls, points: Sequence[AttentionPoint]) -> AttentionPoint:
        """Return the points (m, heads, T, d) of one layer and sentence together."""
        query, key, value, gradient = (
            torch.stack(tensors) for tensors in zip(*(point[:4] for point in points), strict=True)
        )
        masks = [point.mask for point in points]
        known = next((mask for mask in masks if mask is not None), None)
        if known is None:
            return AttentionPoint(query, key, value, gradient, None, *points[0][5:])
        zero = torch.zeros_like(known)  # transformers omits the mask of a batch without padding
        mask = torch.stack([zero if mask is None else mask for mask in masks])
        return AttentionPoint(query, key, value, gradient, mask, *points[0][5:])

    def score_changes(self, key_change: Tensor) -> Tensor:
        """Return the changes (heads, T, T) of the scores by the change of the keys, divided by the scaling."""
        changes = self.query @ key_change.mT
        return changes if self.position_scores is None else changes + self.position_scores(key_change) / self.scaling

    def edge_factors(self) -> tuple[Tensor, Tensor]:
        """Return the factors (heads, T, T) of <gradient_j, dv_i> and of `score_changes` in the edges."""
        weights, slope = attention_weights(self.query, self.key, self.mask, self.scaling, self.softcap)
        by_weight = self.gradient @ self.value.mT
        centred = by_weight - (weights * by_weight).sum(dim=-1, keepdim=True)  # <gradient_j, v_i - context_j>
        return weights, centred * weights * slope

    @property
    def size(self) -> int:
        """Bytes."""
        return 4 * self.query.nbytes + (0 if self.mask is None else self.mask.nbytes)


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
        self.model, self._path, self._inputs, self._payoff = model, path, inputs, payoff
        self._batch_size, self._max_bytes = batch_size, max_bytes
        self.records: list[AttentionRecord] = []  # filled by a forward pass inside `record_attention`
        self._points: dict[float, PathPoint] = {}  # the last used one at the end
        self._payoffs: dict[float, float] = {}

    def __getitem__(self, position: float) -> PathPoint:
        if position not in self._points:
            self.evaluate([position])
        point = self._points[position] = self._points.pop(position)
        return point

    def payoff(self, position: float) -> float:
        """Return the payoff at a point that was evaluated before."""
        return self._payoffs[position]

    def plain_payoff(self, position: float) -> float:
        """Return the payoff at a point without storing anything."""
        with torch.no_grad():
            return float(self._payoff(self._forward([position]).logits)[0])

    def evaluate(self, positions: Sequence[float]) -> None:
        """Evaluate the points that are not kept, in batches of bounded size."""
        evaluate_together([(self, position) for position in positions], self._batch_size)

    def has(self, *positions: float) -> bool:
        """Return whether the points are kept."""
        return all(position in self._points for position in positions)

    @property
    def n_positions(self) -> int:
        """T, the length of the sentence."""
        return int(next(iter(self._inputs.values())).shape[1])

    def padded_inputs(self, positions: Sequence[float], length: int) -> dict[str, Tensor]:
        """Return the inputs (m, length) of the model; the last token is repeated on the padding, with mask 0."""
        index = torch.arange(length).clamp(max=self.n_positions - 1)
        device = next(iter(self._inputs.values())).device
        embeddings = self._path(torch.tensor(positions, dtype=torch.float64, device=device)).detach()
        inputs = {name: row.expand(len(positions), *row.shape[1:])[:, index] for name, row in self._inputs.items()}
        if length > self.n_positions:
            inputs["attention_mask"][:, self.n_positions :] = 0
        return {"inputs_embeds": embeddings[:, index], **inputs}

    def payoffs(self, logits: Tensor) -> Tensor:
        """Return the payoffs (m,) of logits, (m, C) or (m, length, vocabulary)."""
        return self._payoff(logits[:, : self.n_positions] if logits.ndim == 3 else logits)

    def layers(self, position: float) -> tuple[Sequence[Tensor], list[AttentionRecord]]:
        """Return the states (1, T, D) and the recorded attention of a point, with gradients, without storing it."""
        self.records.clear()
        states, records = self._forward([position]).hidden_states, list(self.records)
        self.records.clear()
        return states, records

    def _forward(self, positions: Sequence[float]) -> Any:
        return _forward(self.model, self.padded_inputs(positions, self.n_positions))

    def drop(self) -> None:
        """Free the points; their payoffs are kept."""
        self._points.clear()

    def keep(self, position: float, point: PathPoint) -> None:
        """Keep a point, and as many of the points used last as the number of bytes allows."""
        self._payoffs[position], self._points[position] = point.payoff, point
        size = sum(point.size for point in self._points.values())
        while size > self._max_bytes and len(self._points) > _MIN_POINTS:
            size -= self._points.pop(next(iter(self._points))).size


def evaluate_together(wanted: Sequence[tuple[PathPoints, float]], batch_size: int) -> None:
    """Evaluate the points of one or several sentences that are not kept, in batches of bounded size."""
    new = [(points, position) for points, position in wanted if not points.has(position)]
    for start in range(0, len(new), batch_size):
        _evaluate_batch(new[start : start + batch_size])


def check_payoffs(payoffs: Tensor) -> None:
    """Raise if payoffs are not finite or have no gradient."""
    if not torch.isfinite(payoffs).all():
        raise InputError("payoff", got="NaN or infinity on the path", expected="finite numbers")
    if not payoffs.requires_grad:
        raise InputError("payoff", got="no gradient", expected="a differentiable function of the logits")


def check_gradients(gradients: Sequence[Tensor | None], model: Any) -> None:
    """Raise if a gradient of the payoff by the hidden states is missing or not finite."""
    if not all(gradient is None or torch.isfinite(gradient).all() for gradient in gradients):
        raise InputError("baseline", got="gradients that are not finite on the path", expected="finite gradients")
    if any(gradient is None for gradient in gradients):
        raise CaptureError(
            type(model).__name__,
            got="no gradient from the logits to the hidden states",
            expected="a differentiable model; quantised models have no gradients",
        )


def check_layers(
    states: Sequence[Tensor], records: Sequence[AttentionRecord], model: Any, shape: tuple[int, ...]
) -> None:
    """Raise unless all hidden states have one shape (B, T, D), and attention was recorded in every layer or in none.

    Args:
        states: the hidden states that the model returned.
        records: of its attention.
        model: the model.
        shape: (B, T) of the inputs.
    """
    name, n_layers = type(model).__name__, len(states) - 1
    shapes = {str(tuple(state.shape)) if isinstance(state, Tensor) else type(state).__name__ for state in states}
    if len(shapes) > 1 or any(state.ndim != 3 or state.shape[:2] != shape for state in states):
        expected = f"hidden states {(*shape, 'D')} of all layers".replace("'", "")
        raise CaptureError(name, got=f"hidden states {', '.join(sorted(shapes))}", expected=expected)
    if not all(state.requires_grad for state in states):
        raise CaptureError(name, got="no gradient of a hidden state", expected="a differentiable model")
    problem = (
        f"{counted(len(records), 'recorded attention')} in {counted(n_layers, 'layer')}"
        if len(records) not in (0, n_layers)
        else ""
    )
    for record in records:
        if record.mask is not None and record.mask.requires_grad:  # such as a learned bias, or a function of the tokens
            found = torch.autograd.grad(record.mask.sum(), states, retain_graph=True, allow_unused=True)
            problem = problem or "an attention mask that depends on the tokens" * any(g is not None for g in found)
    if problem:
        raise CaptureError(
            f"attention of {name}",
            got=problem,
            expected="one softmax attention in every layer, whose mask does not depend on the tokens",
            remedy=WITHOUT_EDGES,
        )


def _forward(model: Any, inputs: Mapping[str, Tensor]) -> Any:
    embeddings = inputs["inputs_embeds"].requires_grad_().clone()  # some models change them in place
    return model(**{**inputs, "inputs_embeds": embeddings}, output_hidden_states=True, return_dict=True)


def _evaluate_batch(rows: Sequence[tuple[PathPoints, float]]) -> None:
    """Evaluate points with one forward and one backward pass, padded to the longest sentence."""
    model, records = rows[0][0].model, rows[0][0].records
    length = max(points.n_positions for points, _ in rows)
    runs = [(points, [position for _, position in run]) for points, run in groupby(rows, key=itemgetter(0))]
    parts = [points.padded_inputs(positions, length) for points, positions in runs]
    records.clear()
    inputs = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    with gradient_errors(model):
        output = _forward(model, inputs)
    states = output.hidden_states
    if not states:
        raise CaptureError(type(model).__name__, got="no hidden states", expected="the hidden states of every layer")
    check_layers(states, records, model, tuple(inputs["inputs_embeds"].shape[:2]))
    logits = output.logits.split([len(positions) for _, positions in runs])
    payoffs = torch.cat([points.payoffs(part) for (points, _), part in zip(runs, logits, strict=True)])
    check_payoffs(payoffs)
    contexts = [record.context for record in records]
    with gradient_errors(model):
        gradients = torch.autograd.grad(payoffs.sum(), [*states, *contexts], allow_unused=True)
    check_gradients(gradients, model)
    stacked = torch.stack([state.detach() for state in states], dim=1)  # (m, L + 1, T, D)
    backward = torch.stack(gradients[: len(states)], dim=1)
    layers = list(zip(records, gradients[len(states) :], strict=True))
    for row, (points, position) in enumerate(rows):
        kept = slice(points.n_positions)
        attention = [
            AttentionPoint(
                _cropped(record.query[row].detach(), kept),
                _cropped(record.key[row].detach(), kept),
                _cropped(record.value[row].detach(), kept),
                _cropped(gradient[row], kept),
                None if record.mask is None else record.mask[min(row, len(record.mask) - 1)].detach()[..., kept, kept],
                record.scaling,
                record.softcap,
                record.position_scores,
            )
            for record, gradient in layers
        ]
        payoff = float(payoffs[row].detach())
        points.keep(position, PathPoint(payoff, _cropped(stacked[row], kept), _cropped(backward[row], kept), attention))
    records.clear()


def _cropped(tensor: Tensor, kept: slice) -> Tensor:
    """Return the tensor (..., T, d) without padding, as a copy that does not keep the padding in memory."""
    return tensor if tensor.shape[-2] == kept.stop else tensor[..., kept, :].clone()
