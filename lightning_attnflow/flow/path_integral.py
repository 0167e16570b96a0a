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

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_attnflow._checks import check_integer, check_positive
from lightning_attnflow._progress import track
from lightning_attnflow._state import eval_mode, gradients_enabled
from lightning_attnflow.attention.comparison import rounding
from lightning_attnflow.attention.recording import AttentionRecord
from lightning_attnflow.errors import CaptureError, InputError
from lightning_attnflow.flow.conductance import total_variation
from lightning_attnflow.flow.path_points import (
    BATCH_POSITIONS,
    MAX_BYTES,
    PASS_BYTES,
    AttentionPoint,
    PathPoint,
    PathPoints,
    Payoff,
    evaluate_together,
)
from lightning_attnflow.flow.path_recording import record_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Floats = NDArray[np.float64]

_FIRST_INTERVALS = 2  # of two steps each: five points
_LIKELY_POINTS = (1 / 16, 1 / 8, 3 / 16, 3 / 8)
"""Points that follow the first five for nearly every text (50 of 52 reviews): payoffs change most near the baseline."""
_EDGE_BYTES = 2**24  # of the attention of all heads at the points whose edges are computed together
_MAX_PADDED, _FREE_PADDING = 1.25, 8  # longest sentence that shares a pass: this multiple of the shortest, and 8 more


class SentencePath(NamedTuple):
    """Path of one sentence, the other inputs of the model (1, T), and the payoff; see `integrate_path`.

    `expected` is the payoff at the end of the path, if it is known from the tokens of the sentence.
    """

    path: Callable[[Tensor], Tensor]
    inputs: Mapping[str, Tensor]
    payoff: Payoff
    expected: float | None = None

    @property
    def n_positions(self) -> int:
        """T, the length of the sentence."""
        return int(next(iter(self.inputs.values())).shape[1])


@dataclass(frozen=True, eq=False)
class PathIntegral:
    """Node and edge integrals of one sentence.

    Args:
        values: float64 (L + 1, T), R.
        edges: float64 (L, T, T), E ``[layer, query, key]``; None if the attention could not be recorded.
        v_empty: y(0).
        total: y(1) - y(0).
        n_steps: steps of the path; the values are computed from one point more.
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
    sentence = SentencePath(path, inputs, payoff)
    options: dict[str, Any] = {"tolerance": tolerance, "max_steps": max_steps, "edges": edges, "batch_size": batch_size}
    return integrate_paths(model, [sentence], **options)[0]


def integrate_paths(
    model: PreTrainedModel,
    sentences: Sequence[SentencePath],
    *,
    tolerance: float = 0.01,
    max_steps: int = 256,
    edges: bool = True,
    batch_size: int | None = None,
) -> list[PathIntegral]:
    """Integrate several sentences; those of similar length share forward passes, padded on the right.

    Sentences share passes if the first points of all fit in one. If padding changes the payoff of one of them, as in
    causal classifiers, those of different lengths are separated.

    Args:
        model, tolerance, max_steps, edges, batch_size: as for `integrate_path`.
        sentences: path, inputs and payoff of every sentence.

    Raises:
        InputError, CaptureError: as for `integrate_path`, of any sentence.
    """
    check_positive("tolerance", tolerance)
    check_integer("max_steps", max_steps, minimum=2 * _FIRST_INTERVALS)
    results: list[PathIntegral | None] = [None] * len(sentences)
    with eval_mode(model), gradients_enabled(model):
        for group in track(_groups(sentences, batch_size), "conductance flows"):
            found = _integrate_group(
                model, [sentences[index] for index in group], tolerance, max_steps, edges, batch_size
            )
            for index, integral in zip(group, found, strict=True):
                results[index] = integral
    return [integral for integral in results if integral is not None]


def _groups(sentences: Sequence[SentencePath], batch_size: int | None) -> list[list[int]]:
    """Return the indices of sentences that share passes, by length."""
    if batch_size == 1:
        return [[index] for index in range(len(sentences))]
    groups: list[list[int]] = []
    for index in sorted(range(len(sentences)), key=lambda index: sentences[index].n_positions):
        length = sentences[index].n_positions
        group = groups[-1] if groups else []
        fits = (len(group) + 1) * length * (2 * _FIRST_INTERVALS + 1) <= BATCH_POSITIONS
        if group and fits and length <= _MAX_PADDED * sentences[group[0]].n_positions + _FREE_PADDING:
            group.append(index)
        else:
            groups.append([index])
    return groups


def _integrate_group(
    model: PreTrainedModel,
    sentences: Sequence[SentencePath],
    tolerance: float,
    max_steps: int,
    edges: bool,
    batch_size: int | None,
) -> list[PathIntegral]:
    """Integrate sentences sorted by length, or those of each length alone if padding changes a payoff."""
    try:
        return _integrate_together(model, sentences, tolerance, max_steps, edges, batch_size)
    except CaptureError:
        if sentences[0].n_positions == sentences[-1].n_positions:
            raise
    parts = [list(part) for _, part in groupby(sentences, key=lambda sentence: sentence.n_positions)]
    return [
        integral
        for part in parts
        for integral in _integrate_together(model, part, tolerance, max_steps, edges, batch_size)
    ]


def _integrate_together(
    model: PreTrainedModel,
    sentences: Sequence[SentencePath],
    tolerance: float,
    max_steps: int,
    edges: bool,
    batch_size: int | None,
) -> list[PathIntegral]:
    longest = max(sentence.n_positions for sentence in sentences)
    at_once = _points_at_once(model, longest, edges) if batch_size is None else batch_size
    paths = [PathPoints(model, *sentence[:3], at_once, MAX_BYTES // len(sentences)) for sentence in sentences]
    is_checked = edges or len(paths) > 1  # the recorded attention, or the padding
    expected = [
        points.plain_payoff(1.0) if sentence.expected is None and is_checked else sentence.expected
        for sentence, points in zip(sentences, paths, strict=True)
    ]
    recording: AbstractContextManager[list[AttentionRecord]] = record_layers(model) if edges else nullcontext([])
    with recording as records:
        for points in paths:
            points.records = records
        integrals = []
        refined = _refined_together(paths, expected, tolerance, max_steps, at_once)
        for points, intervals in zip(paths, refined, strict=True):
            values = _total(intervals)
            integrals.append(
                PathIntegral(
                    values=values,
                    edges=_edges(points, intervals, values) if edges and points[0.0].attention else None,
                    v_empty=points.payoff(0.0),
                    total=points.payoff(1.0) - points.payoff(0.0),
                    n_steps=2 * len(intervals),
                )
            )
            points.drop()
    return integrals


def _points_at_once(model: PreTrainedModel, length: int, edges: bool) -> int:
    """Return the points in a pass, whose recorded attention takes memory of the square of a length."""
    at_once = BATCH_POSITIONS // length
    if edges:
        config: Any = model.config.get_text_config()
        sizes = (getattr(config, name, 1) for name in ("num_hidden_layers", "num_attention_heads"))
        at_once = min(at_once, PASS_BYTES // (8 * math.prod(map(int, sizes)) * length**2))  # products and weights
    return max(1, at_once)


def _refined_together(
    paths: Sequence[PathPoints], expected: Sequence[float | None], tolerance: float, max_steps: int, batch_size: int
) -> list[list[_Interval]]:
    """Refine the paths of several sentences, whose new points share forward passes; check the payoffs of their ends."""
    refinements = [_refined(points, tolerance, max_steps) for points in paths]
    results: dict[int, list[_Interval]] = {}
    while len(results) < len(paths):
        wanted: list[tuple[PathPoints, float]] = []
        for index, (points, refinement) in enumerate(zip(paths, refinements, strict=True)):
            if index not in results:
                try:
                    wanted += [(points, position) for position in next(refinement)]
                except StopIteration as finished:
                    results[index] = finished.value
        evaluate_together(wanted, batch_size)
        for points, payoff in zip(paths, expected, strict=True):
            if payoff is not None:
                check_recording(points.model, points.payoff(1.0), payoff, points.payoff(0.0))
    return [results[index] for index in range(len(paths))]


class _Interval(NamedTuple):
    """An interval of the path with its midpoint evaluated."""

    start: float
    end: float
    values: Floats  # (L + 1, T)
    error: Floats  # (L + 1,), sum of the values minus the change of the payoff

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


def _refined(points: PathPoints, tolerance: float, max_steps: int) -> Generator[list[float], None, list[_Interval]]:
    """Halve the intervals with the largest conservation errors until the error of the sum is below the tolerance.

    Yields the points that must be evaluated before the next step.
    """
    borders = [index / _FIRST_INTERVALS for index in range(_FIRST_INTERVALS + 1)]
    first = [*borders, *((left + right) / 2 for left, right in pairwise(borders))]
    yield first + [*_LIKELY_POINTS] * (len(first) + len(_LIKELY_POINTS) <= max_steps + 1)  # in one pass with the first
    intervals = [_integrated(points, left, right) for left, right in pairwise(borders)]
    while True:
        values = _total(intervals)
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
        yield [(half[0] + half[1]) / 2 for half in halves if not isinstance(half, _Interval)]
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


def _total(intervals: Sequence[_Interval]) -> Floats:
    total: Floats = np.sum([interval.values for interval in intervals], axis=0)
    return total


def check_change(values: Floats) -> None:
    """Raise if the payoff does not change along the path."""
    if not values.any():
        raise InputError(
            "text", got="a path along which the payoff does not change", expected="a payoff that depends on the tokens"
        )


def check_recording(model: PreTrainedModel, recorded: float, expected: float, empty: float) -> None:
    """Raise if the attention that was recorded is not the model's, as with an unknown kind of score or bias.

    Args:
        model: the model.
        recorded: payoff of the sentence while attention is recorded.
        expected: payoff of the sentence otherwise.
        empty: payoff of the baseline.
    """
    scale = min(1 + abs(expected), abs(recorded - empty) + (1 + abs(expected)) / 10)
    if abs(recorded - expected) > rounding(model.dtype) * scale:
        raise CaptureError(
            f"attention of {type(model).__name__}",
            got=f"a payoff of {recorded:.6g} when it is recorded, {expected:.6g} otherwise",
            expected="softmax attention of the attention interface of transformers",
            remedy="Pass edges=False: the values of the positions do not need the attention.",
        )
