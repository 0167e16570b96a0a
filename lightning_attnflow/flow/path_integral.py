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

`lightning_attnflow.flow.path_quadrature` has the quadrature. This module integrates sentences of similar length
together, in shared forward passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_attnflow._checks import check_integer, check_positive
from lightning_attnflow._progress import track
from lightning_attnflow._state import eval_mode, gradients_enabled
from lightning_attnflow.attention.comparison import rounding
from lightning_attnflow.attention.recording import WITHOUT_EDGES, AttentionRecord
from lightning_attnflow.errors import CaptureError
from lightning_attnflow.flow.conductance import edge_error
from lightning_attnflow.flow.edge_check import check_edges
from lightning_attnflow.flow.path_points import (
    BATCH_POSITIONS,
    MAX_BYTES,
    PASS_BYTES,
    PathPoints,
    Payoff,
    evaluate_together,
)
from lightning_attnflow.flow.path_quadrature import FIRST_INTERVALS, Interval, edge_values, refined, total
from lightning_attnflow.flow.path_recording import record_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Floats = NDArray[np.float64]

_FINEST = 1 / 100  # share of the tolerance of the values, to which a path is refined for the sake of its edges
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
        tolerance: bound of the conservation error, ``|sum_i R_l[i] - total|`` over ``sum_i |R_l[i]|``, and of the
            `edge_error`.
        max_steps: bound of the steps, >= 4.
        edges: whether to compute the edges too.
        batch_size: points in a forward pass; default: as many as have 4,096 positions together.

    Raises:
        InputError: an argument out of range; the payoff is not finite, or does not depend on the embeddings.
        CaptureError: the model returns no hidden states or has no gradients, its attention cannot be recorded, or its
            edges do not sum to the values because the model mixes positions otherwise.
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
    check_integer("max_steps", max_steps, minimum=2 * FIRST_INTERVALS)
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
        fits = (len(group) + 1) * length * (2 * FIRST_INTERVALS + 1) <= BATCH_POSITIONS
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
            values, matrices = total(intervals), None
            if edges and points[0.0].attention:
                intervals, values, matrices = _with_edges(points, intervals, tolerance, max_steps, at_once)
            integrals.append(
                PathIntegral(
                    values=values,
                    edges=matrices,
                    v_empty=points.payoff(0.0),
                    total=points.payoff(1.0) - points.payoff(0.0),
                    n_steps=2 * len(intervals),
                )
            )
            points.drop()
    return integrals


def _with_edges(
    points: PathPoints, intervals: list[Interval], tolerance: float, max_steps: int, batch_size: int
) -> tuple[list[Interval], Floats, Floats]:
    """Return the intervals, values and edges of a path, which is refined until the edges sum to the values too."""
    finer = tolerance
    while True:
        values = total(intervals)
        matrices = edge_values(points, intervals, values)
        check_edges(points.model, values, matrices, tolerance, partial(points.layers, 1.0))
        n_steps, finer = 2 * len(intervals), finer / 4
        exhausted = n_steps + 2 > max_steps or finer < _FINEST * tolerance
        if exhausted or edge_error(values, matrices).max() <= tolerance:
            return intervals, values, matrices
        (intervals,) = _refined_together([points], [None], finer, min(2 * n_steps, max_steps), batch_size)


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
) -> list[list[Interval]]:
    """Refine the paths of several sentences, whose new points share forward passes; check the payoffs of their ends."""
    refinements = [refined(points, tolerance, max_steps) for points in paths]
    results: dict[int, list[Interval]] = {}
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
            remedy=WITHOUT_EDGES,
        )
