"""Quadrature of the node and edge integrals of one path, see `lightning_attnflow.flow.path_integral`.

The integrals are sums over intervals of the path. An interval is integrated by the trapezoidal rule on its halves and
on the whole, extrapolated (Richardson). Its conservation error, the sum of its values minus the change of y, is known
exactly; the intervals with the largest errors are halved until the error of the sum is below the tolerance.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_attnflow.errors import InputError
from lightning_attnflow.flow.conductance import total_variation
from lightning_attnflow.flow.path_points import AttentionPoint, PathPoint, PathPoints

Floats = NDArray[np.float64]

FIRST_INTERVALS = 2  # of two steps each: five points
_LIKELY_POINTS = (1 / 16, 1 / 8, 3 / 16, 3 / 8)
"""Points that follow the first five for nearly every text (50 of 52 reviews): payoffs change most near the baseline."""
_EDGE_BYTES = 2**24  # of the attention of all heads at the points whose edges are computed together


class Interval(NamedTuple):
    """An interval of the path with its midpoint evaluated."""

    start: float
    end: float
    values: Floats  # (L + 1, T)
    error: Floats  # (L + 1,), sum of the values minus the change of the payoff

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


def refined(points: PathPoints, tolerance: float, max_steps: int) -> Generator[list[float], None, list[Interval]]:
    """Halve the intervals with the largest conservation errors until the error of the sum is below the tolerance.

    Yields the points that must be evaluated before the next step.
    """
    borders = [index / FIRST_INTERVALS for index in range(FIRST_INTERVALS + 1)]
    first = [*borders, *((left + right) / 2 for left, right in pairwise(borders))]
    yield first + [*_LIKELY_POINTS] * (len(first) + len(_LIKELY_POINTS) <= max_steps + 1)  # in one pass with the first
    intervals = [_integrated(points, left, right) for left, right in pairwise(borders)]
    while True:
        values = total(intervals)
        check_change(values)
        variation = total_variation(values)
        errors = np.array([interval.error for interval in intervals]) / variation  # (intervals, L + 1)
        room = max_steps // 2 - len(intervals)  # halving an interval takes two more points
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
        yield [(half[0] + half[1]) / 2 for half in halves if not isinstance(half, Interval)]
        intervals = [half if isinstance(half, Interval) else _integrated(points, *half) for half in halves]


def _integrated(points: PathPoints, start: float, end: float) -> Interval:
    left, middle, right = points[start], points[(start + end) / 2], points[end]
    values = _values(left, middle, right).cpu().numpy()
    return Interval(start, end, values, values.sum(axis=1) - (right.payoff - left.payoff))


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


def edge_values(points: PathPoints, intervals: Sequence[Interval], values: Floats) -> Floats:
    """Edges (L, T, T) of all intervals, which are sorted."""
    matrices = np.zeros((len(values) - 1, values.shape[1], values.shape[1]))
    at_once = (
        len(intervals) if points.has(*(end for one in intervals for end in (one.start, one.middle, one.end))) else 1
    )
    for start in range(0, len(intervals), at_once):
        run = intervals[start : start + at_once]
        positions = [run[0].start, *(position for one in run for position in (one.middle, one.end))]
        attention = [points[position].attention for position in positions]
        for layer, of_points in enumerate(zip(*attention, strict=True)):
            matrices[layer] += _edges_of_layer(of_points)
    return with_diagonal(matrices, values)


def _edges_of_layer(points: Sequence[AttentionPoint]) -> Floats:
    """Edges (T, T) of a run of intervals, from the points of one layer: ends and midpoints in turn."""
    by_key, by_value = (
        _tangents_of_run(torch.stack(of_points)) for of_points in zip(*((p.key, p.value) for p in points), strict=True)
    )
    heads, length = points[0].query.shape[:2]
    at_once = max(1, _EDGE_BYTES // (points[0].query.element_size() * heads * length**2))
    edges = np.zeros((length, length))
    for start in range(0, len(points), at_once):
        rows = slice(start, start + at_once)
        point = AttentionPoint.stacked(points[rows])
        weights, factor = point.edge_factors()
        flows = (point.gradient @ by_value[rows].mT).mul_(weights)  # (points, heads, T, T)
        flows += point.score_changes(by_key[rows]).mul_(factor)
        edges += flows.sum(dim=(0, 1), dtype=torch.float64).cpu().numpy()
    return edges


def _tangents_of_run(points: Tensor) -> Tensor:
    """Sum the tangents (points, ...) of the intervals of a run at each point, from values at ends and midpoints."""
    left, middle, right = _tangents(points[:-1:2], points[1::2], points[2::2])
    tangents = torch.zeros_like(points)
    tangents[:-1:2] += left
    tangents[1::2] = middle
    tangents[2::2] += right
    return tangents


def with_diagonal(matrices: Floats, values: Floats) -> Floats:
    """Set the diagonal of edges (L, T, T) to what the other keys leave of the values (L + 1, T) after each layer."""
    diagonal = np.arange(values.shape[1])
    matrices[:, diagonal, diagonal] = 0.0
    matrices[:, diagonal, diagonal] = values[1:] - matrices.sum(axis=2)
    return matrices


def total(intervals: Sequence[Interval]) -> Floats:
    """Node values of all intervals, (L + 1, T)."""
    values: Floats = np.sum([interval.values for interval in intervals], axis=0)
    return values


def check_change(values: Floats) -> None:
    """Raise if the payoff does not change along the path."""
    if not values.any():
        raise InputError(
            "text", got="a path along which the payoff does not change", expected="a payoff that depends on the tokens"
        )
