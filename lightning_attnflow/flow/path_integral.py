"""Integrals of the conductance of layers, positions and attention edges along a path of input embeddings.

Let x_0(a), a in [0, 1], be a path of input embeddings from a baseline to the sentence, x_l(a) the hidden states after
layer l and y(a) the payoff. The value of position i at layer l, and the flow from position i of layer l - 1 to
position j of layer l, are

    R_l[i]    = integral of < dx_l[i]/da, dy/dx_l[i] > da
    E_l[j, i] = integral of < (dx_l[j]/dx_{l-1}[i]) dx_{l-1}[i]/da, dy/dx_l[j] > da.

By the chain rule sum_i R_l[i] = y(1) - y(0) at every layer, sum_i E_l[j, i] = R_l[j] and sum_j E_l[j, i] = R_{l-1}[i].
R_0 is integrated gradients (Sundararajan, Taly & Yan 2017), R_l layer conductance (Dhamdhere, Sundararajan & Yan 2018).
Positions are mixed in attention only, so that for i != j, with the gradient g_j at the context of query j,

    E_l[j, i] = integral of sum over heads of a_ji (<g_j, v'_i> + <g_j, v_i - context_j> <q_j, k'_i> slope) da.

The integrals are sums over intervals of the path. An interval is integrated by the trapezoidal rule on its halves and
on the whole, extrapolated (Richardson). Its conservation error, the sum of its values minus the change of y, is known
exactly; the intervals with the largest errors are halved until the error of the sum is below the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_attnflow._checks import check_integer, check_positive
from lightning_attnflow._state import eval_mode, gradients_enabled
from lightning_attnflow.attention.recording import record_attention
from lightning_attnflow.errors import CaptureError, InputError
from lightning_attnflow.flow.path_points import PathPoint, PathPoints, Payoff

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Floats = NDArray[np.float64]

_FIRST_INTERVALS = 2  # of two steps each: five points
_BATCH_POSITIONS = 4096  # positions in one forward pass


@dataclass(frozen=True, eq=False)
class PathIntegral:
    """Node and edge integrals of one sentence.

    Args:
        values: float64 (L + 1, T), R.
        edges: float64 (L, T, T), E ``[layer, query, key]``; None if the attention could not be recorded.
        v_empty: y(0).
        total: y(1) - y(0).
        n_steps: steps of the path; the model was evaluated at one point more.
        stderr: float64 (L + 1, T), standard errors of the values over random paths; None for a single path.
    """

    values: Floats
    edges: Floats | None
    v_empty: float
    total: float
    n_steps: int
    stderr: Floats | None = None


def integrate_path(
    model: PreTrainedModel,
    path: Callable[[Tensor], Tensor],
    inputs: Mapping[str, Tensor],
    payoff: Payoff,
    *,
    tolerance: float = 0.01,
    max_steps: int = 256,
    edges: bool = True,
    batch_size: int | None = None,
) -> PathIntegral:
    """Integrate the conductance of all positions along a path of input embeddings.

    Args:
        model: a Hugging Face model with logits and hidden states.
        path: maps points a (m,) in [0, 1] to word embeddings (m, T, D).
        inputs: the other keyword arguments of the model, (1, T) each.
        payoff: maps logits to (m,).
        tolerance: bound of the conservation error, ``|sum_i R_l[i] - total|`` over ``sum_i |R_l[i]|``.
        max_steps: bound of the steps, >= 4.
        edges: whether to compute the edges too.
        batch_size: points in a forward pass; default: as many as have 4,096 positions together.

    Raises:
        InputError: an argument out of range; the payoff is not finite, or does not depend on the embeddings.
        CaptureError: the model returns no hidden states or has no gradients, or its attention cannot be recorded.
    """
    check_positive("tolerance", tolerance)
    check_integer("max_steps", max_steps, minimum=2 * _FIRST_INTERVALS)
    n_positions = next(iter(inputs.values())).shape[1]
    at_once = max(1, _BATCH_POSITIONS // n_positions) if batch_size is None else batch_size
    points = PathPoints(model, path, inputs, payoff, at_once)
    with eval_mode(model), gradients_enabled(model):
        if edges:
            expected = points.plain_payoff(1.0)
            with record_attention(model) as points.records:
                intervals = _refined(points, tolerance, max_steps)
                values = _total(intervals)
                matrices = _edges(points, intervals, values) if points[0.0].attention else None
            check_recording(model, points.payoff(1.0), expected)
        else:
            values, matrices = _total(_refined(points, tolerance, max_steps)), None
    return PathIntegral(
        values=values,
        edges=matrices,
        v_empty=points.payoff(0.0),
        total=points.payoff(1.0) - points.payoff(0.0),
        n_steps=points.n_points - 1,
    )


class _Interval(NamedTuple):
    """An interval of the path with its midpoint evaluated."""

    start: float
    end: float
    values: Floats  # (L + 1, T)
    error: Floats  # (L + 1,), sum of the values minus the change of the payoff

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


def _refined(points: PathPoints, tolerance: float, max_steps: int) -> list[_Interval]:
    """Halve the intervals with the largest conservation errors until the error of the sum is below the tolerance."""
    borders = [index / _FIRST_INTERVALS for index in range(_FIRST_INTERVALS + 1)]
    points.evaluate([*borders, *((left + right) / 2 for left, right in pairwise(borders))])
    intervals = [_integrated(points, left, right) for left, right in pairwise(borders)]
    while True:
        variation = np.abs(_total(intervals)).sum(axis=1)
        if not variation.all():
            raise InputError(
                "text",
                got="a path along which the payoff does not change",
                expected="a payoff that depends on the tokens",
            )
        errors = np.array([interval.error for interval in intervals]) / variation  # (intervals, L + 1)
        room = (max_steps + 1 - points.n_points) // 2  # halving an interval takes two more points
        if np.abs(errors.sum(axis=0)).max() <= tolerance or room < 1:
            return intervals
        worst = np.abs(errors).max(axis=1)
        order = np.argsort(-worst, kind="stable")
        remainder = np.cumsum(worst[order][::-1])[::-1]  # of this and all smaller errors
        halved = set(order[: min(room, max(1, int((remainder > tolerance / 2).sum())))].tolist())
        halves = [
            half
            for index, interval in enumerate(intervals)
            for half in (
                [(interval.start, interval.middle), (interval.middle, interval.end)] if index in halved else [interval]
            )
        ]
        points.evaluate([(half[0] + half[1]) / 2 for half in halves if not isinstance(half, _Interval)])
        intervals = [half if isinstance(half, _Interval) else _integrated(points, *half) for half in halves]


def _integrated(points: PathPoints, start: float, end: float) -> _Interval:
    left, middle, right = points[start], points[(start + end) / 2], points[end]
    values = _values(left, middle, right).cpu().numpy()
    return _Interval(start, end, values, values.sum(axis=1) - (right.payoff - left.payoff))


def _tangents(left: Tensor, middle: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the differences that the three points are multiplied with in Richardson's extrapolation.

    It is that of the trapezoidal rule with one and with two steps, ordered by the point of the other factor.
    """
    first, second = middle - left, right - middle
    both = first + second
    return (4 * first - both) / 6, 2 * both / 3, (4 * second - both) / 6


def _values(left: PathPoint, middle: PathPoint, right: PathPoint) -> Tensor:
    """Node values of an interval, (L + 1, T)."""
    points = (left, middle, right)
    tangents = _tangents(*(point.states.double() for point in points))
    return torch.stack([(t * p.gradients.double()).sum(-1) for t, p in zip(tangents, points, strict=True)]).sum(0)


def _edges(points: PathPoints, intervals: Sequence[_Interval], values: Floats) -> Floats:
    """Edges (L, T, T) of all intervals; the diagonal is what the other keys leave of the query's value."""
    matrices = np.zeros((len(values) - 1, values.shape[1], values.shape[1]))
    for interval in intervals:
        ends = [points[position].attention for position in (interval.start, interval.middle, interval.end)]
        for layer, three in enumerate(zip(*ends, strict=True)):
            by_key = _tangents(*(point.key for point in three))
            by_value = _tangents(*(point.value for point in three))
            for point, key_change, value_change in zip(three, by_key, by_value, strict=True):
                weights, factor = point.edge_factors()
                flows = (point.gradient @ value_change.mT).mul_(weights)  # (heads, T, T)
                flows += (point.query @ key_change.mT).mul_(factor)
                matrices[layer] += flows.sum(dim=0, dtype=torch.float64).cpu().numpy()
    diagonal = np.arange(values.shape[1])
    matrices[:, diagonal, diagonal] = 0.0
    matrices[:, diagonal, diagonal] = values[1:] - matrices.sum(axis=2)
    return matrices


def _total(intervals: Sequence[_Interval]) -> Floats:
    total: Floats = np.sum([interval.values for interval in intervals], axis=0)
    return total


def check_recording(model: PreTrainedModel, recorded: float, expected: float) -> None:
    """Raise if the attention that was recorded is not the model's, as with an unknown kind of score or bias."""
    rounding = max(1e-3, 16 * torch.finfo(model.dtype).eps)
    if abs(recorded - expected) > rounding * (1 + abs(expected)):
        raise CaptureError(
            f"attention of {type(model).__name__}",
            got=f"a payoff of {recorded:.6g} when it is recorded, {expected:.6g} otherwise",
            expected="softmax attention of the attention interface of transformers",
            remedy="Pass edges=False: the values of the positions do not need the attention.",
        )
