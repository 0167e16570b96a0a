"""Integrals of conductance along paths through coalitions, exactly conserved in any number of steps.

A path leads from the sentence to the baseline and back. Its points are sentences in which some players are replaced by
the baseline: in a random permutation of the players one block after the other is replaced, and then restored in the
same order. Both halves are steps of the token game along a permutation and its reverse. With the multipliers M of
`difference_rules` the values and edges of a step from x to x' are

    R_l[i]    = < x'_l[i] - x_l[i], M_l[i] >
    E_l[j, i] = sum over heads of mean(a_ji) <G_j, v'_i - v_i> + S_ji <mean(q_j), k'_i - k_i>     (i != j)

with the multipliers G_j of the context of query j and S_ji of the product of query j and key i. They sum to the change
of the payoff at every layer, whatever the size of the step. The mean over permutations is the flow. With one player a
block, its layer 0 is the estimate of the Shapley values of the token game from these permutations.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_attnflow._checks import check_integer
from lightning_attnflow._progress import track
from lightning_attnflow._state import eval_mode, gradients_enabled
from lightning_attnflow.attention.recording import AttentionRecord, record_attention
from lightning_attnflow.attention.transformer import gradient_errors
from lightning_attnflow.errors import CaptureError
from lightning_attnflow.flow.difference_rules import DifferenceRules, directional_gradient
from lightning_attnflow.flow.edge_check import check_edges
from lightning_attnflow.flow.path_integral import PathIntegral, check_recording
from lightning_attnflow.flow.path_points import BATCH_POSITIONS, Payoff, check_gradients, check_layers, check_payoffs
from lightning_attnflow.flow.path_quadrature import check_change, with_diagonal
from lightning_attnflow.shapley.permutation_sampling import random_permutation

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Floats = NDArray[np.float64]

_BLOCKS = 4  # blocks of players that are replaced in one step each, unless there are fewer players


def integrate_coalitions(
    model: PreTrainedModel,
    full: Tensor,
    baselines: Tensor,
    players: Sequence[Sequence[int]],
    inputs: Mapping[str, Tensor],
    payoff: Payoff,
    *,
    tolerance: float = 0.01,
    max_steps: int = 64,
    edges: bool = True,
    n_logits: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> PathIntegral:
    """Integrate the conductance of all positions along paths that replace and restore the players block by block.

    Args:
        model: a Hugging Face model with logits and hidden states.
        full: word embeddings (1, T, D) of the sentence.
        baselines: word embeddings (b, T, D) of sentences with every player replaced; the flow is the mean over them.
        players: positions of each player.
        inputs: the other keyword arguments of the model, (1, T) each.
        payoff: maps logits to (m,).
        tolerance: difference of the sum of edges to a value that is not looked into, see `check_edges`.
        max_steps: bound of the steps, at least 2 per baseline.
        edges: whether to compute the edges too.
        n_logits: number of last positions whose logits the payoff reads, for models that can compute these only.
        seed: of the permutations.
        batch_size: points in a forward pass; default: as many as have 4,096 positions together.

    Raises:
        InputError: too few steps, or a payoff that is not finite or does not depend on the embeddings.
        CaptureError: the model returns no hidden states or has no gradients, or its edges do not sum to the values
            because the model mixes positions other than by attention.
    """
    check_integer("max_steps", max_steps, minimum=2 * len(baselines))
    n_blocks = min(_BLOCKS, len(players), max_steps // (2 * len(baselines)))
    n_paths = max_steps // (2 * n_blocks * len(baselines)) * len(baselines)  # as many of every baseline
    with gradients_enabled(model):  # inference tensors have no gradients
        points, signs = _points(full, baselines, players, n_blocks, n_paths, seed)
    steps = max(1, BATCH_POSITIONS // full.shape[1] - 1) if batch_size is None else batch_size
    starts = list(range(0, len(signs), steps))
    with eval_mode(model), gradients_enabled(model), _frozen(model):
        run = _Steps(model, inputs, payoff, n_logits)
        if edges:
            check_layers(*run.layers(points[:1]), model, full.shape[:2])  # one point is cheaper than all of them
        expected = run.plain_payoff(points[:1])
        with record_attention(model) if edges else _separate_operations(model) as run.records:
            parts = [
                run(points[start : start + steps + 1], signs[start : start + steps]) for start in track(starts, "steps")
            ]
        values = np.concatenate([part.values for part in parts]).reshape(
            n_paths, 2 * n_blocks, *parts[0].values.shape[1:]
        )
        paths = values.sum(axis=1) / 2  # (paths, L + 1, T): mean over the two directions
        payoffs = np.concatenate([parts[0].payoffs[:1], *(part.payoffs[1:] for part in parts)])
        empty = payoffs[n_blocks :: 2 * n_blocks].reshape(-1, len(baselines)).mean(axis=0)
        check_recording(model, float(payoffs[0]), expected, float(empty.mean()))
        summed = [part.edges for part in parts if part.edges is not None]
        mean = paths.mean(axis=0)
        check_change(mean)
        matrices = with_diagonal(np.sum(summed, axis=0) / (2 * n_paths), mean) if summed else None
        if matrices is not None:
            check_edges(model, mean, matrices, tolerance, partial(run.layers, points[:1]))
    return PathIntegral(
        values=mean,
        stderr=_standard_errors(paths, len(baselines)),
        edges=matrices,
        v_empty=float(empty.mean()),
        total=float(payoffs[0] - empty.mean()),
        n_steps=len(points) - 1,
    )


def _points(
    full: Tensor, baselines: Tensor, players: Sequence[Sequence[int]], n_blocks: int, n_paths: int, seed: int
) -> tuple[Tensor, Tensor]:
    """The points (m + 1, T, D) of all paths, which begin and end at the sentence, and signs (m,) of the steps."""
    present = full[0].clone()
    points = [present]
    for path in range(n_paths):
        baseline = baselines[path % len(baselines)]
        permutation = random_permutation(seed, path, len(players))
        blocks = [
            [position for player in block for position in players[player]]
            for block in np.array_split(permutation, n_blocks)
        ]
        for source in (baseline, full[0]):
            for block in blocks:
                present = present.clone()
                present[block] = source[block]
                points.append(present)
    signs = torch.tensor([-1.0, 1.0], device=full.device).repeat_interleave(n_blocks).repeat(n_paths)
    return torch.stack(points).detach(), signs


@dataclass(frozen=True, eq=False)
class _Part:
    """A batch of m steps."""

    payoffs: Floats  # (m + 1,)
    values: Floats  # (m, L + 1, T), with the signs of the steps
    edges: Floats | None  # (L, T, T), sum over the steps; the diagonal carries no meaning


class _Steps:
    """Forward and backward passes with the rules of finite differences at consecutive points."""

    def __init__(
        self,
        model: PreTrainedModel,
        inputs: Mapping[str, Tensor],
        payoff: Payoff,
        n_logits: int | None,
    ) -> None:
        self._model, self._inputs, self._payoff = model, inputs, payoff
        self.records: list[AttentionRecord] = []  # filled by a forward pass inside `record_attention`
        self._options: dict[str, Any] = {"output_hidden_states": True, "return_dict": True}
        if n_logits is not None and "logits_to_keep" in inspect.signature(model.forward).parameters:
            self._options["logits_to_keep"] = n_logits

    def plain_payoff(self, point: Tensor) -> float:
        """Return the payoff of one point without storing anything."""
        with torch.no_grad():
            return float(self._payoff(self._model(inputs_embeds=point, **self._inputs, **self._options).logits)[0])

    def layers(self, point: Tensor) -> tuple[Sequence[Tensor], list[AttentionRecord]]:
        """Return the states (1, T, D) and the recorded attention of a point, with gradients."""
        with record_attention(self._model) as records, gradient_errors(self._model):
            output = self._model(inputs_embeds=point.requires_grad_().clone(), **self._inputs, **self._options)
        return output.hidden_states, records

    def __call__(self, points: Tensor, signs: Tensor) -> _Part:
        self.records.clear()
        n_points = len(points)
        rules = DifferenceRules(n_points)
        inputs = {name: tensor.expand(n_points, *tensor.shape[1:]) for name, tensor in self._inputs.items()}
        embeddings = points.requires_grad_().clone()  # some models change them in place
        with rules, gradient_errors(self._model):
            output = self._model(inputs_embeds=embeddings, **inputs, **self._options)
        states, logits = output.hidden_states, output.logits
        if not states or not logits.requires_grad:
            got = "no gradient from the logits to the hidden states" if states else "no hidden states"
            raise CaptureError(type(self._model).__name__, got=got, expected="the hidden states of every layer")
        check_layers(states, self.records, self._model, tuple(points.shape[:2]))
        payoffs, multipliers = self._payoff_multipliers(logits, rules)
        weights = torch.cat([signs, signs.new_zeros(1)]).to(multipliers.dtype)  # no step begins at the last point
        multipliers = multipliers * weights.reshape(-1, *(1,) * (multipliers.ndim - 1))
        records = self.records
        tensors = [*states, *(record.context for record in records), *(record.product for record in records)]
        with gradient_errors(self._model):
            gradients = torch.autograd.grad(logits, tensors, multipliers, allow_unused=True)
        check_gradients(gradients, self._model)
        n_states, n_layers = len(states), len(records)
        by_context, by_product = gradients[n_states : n_states + n_layers], gradients[n_states + n_layers :]
        values = [
            (_change(state) * gradient[:-1]).double().sum(-1)
            for state, gradient in zip(states, gradients[:n_states], strict=True)
        ]
        matrices = [_edges(*layer) for layer in zip(records, by_context, by_product, strict=True)]
        return _Part(
            payoffs.double().cpu().numpy(),
            torch.stack(values, dim=1).cpu().numpy(),
            torch.stack(matrices).cpu().numpy() if matrices else None,
        )

    def _payoff_multipliers(self, logits: Tensor, rules: DifferenceRules) -> tuple[Tensor, Tensor]:
        """The payoffs (m,) and multipliers of the logits, exact also for payoffs without a rule."""
        leaf = logits.detach().requires_grad_()
        with rules:
            payoffs = self._payoff(leaf)
        check_payoffs(payoffs)
        (gradient,) = torch.autograd.grad(payoffs.sum(), leaf)
        payoffs = payoffs.detach()
        return payoffs, directional_gradient(payoffs, leaf.detach(), gradient, len(logits))


def _change(rows: Tensor) -> Tensor:
    rows = rows.detach()
    return rows[1:] - rows[:-1]


def _mean(rows: Tensor) -> Tensor:
    rows = rows.detach()
    return (rows[1:] + rows[:-1]) / 2


def _edges(record: AttentionRecord, by_context: Tensor, by_product: Tensor) -> Tensor:
    """Edges between different positions, summed over heads and steps, (T, T); the diagonal carries no meaning."""
    by_value = _mean(record.weights) * (by_context[:-1] @ _change(record.value).mT)  # (m, heads, T, T)
    by_key = by_product[:-1] * (_mean(record.query) @ _change(record.key).mT)
    return (by_value + by_key).double().sum(dim=(0, 1))


def _standard_errors(paths: Floats, n_baselines: int) -> Floats:
    """Standard errors (L + 1, T) of the mean over paths (p, L + 1, T), stratified by baseline."""
    strata = paths.reshape(-1, n_baselines, *paths.shape[1:])  # (paths of a baseline, baselines, L + 1, T)
    if len(strata) < 2:
        return np.full(paths.shape[1:], np.nan)
    errors: Floats = np.sqrt(strata.var(axis=0, ddof=1).mean(axis=0) / len(paths))
    return errors


@contextmanager
def _separate_operations(model: PreTrainedModel) -> Iterator[list[AttentionRecord]]:
    """Leave the attention of the model unless it is one fused kernel without a rule."""
    if model.config._attn_implementation not in ("eager", "sdpa"):
        model.set_attn_implementation("eager")
    yield []


@contextmanager
def _frozen(model: PreTrainedModel) -> Iterator[None]:
    """Turn off the gradients of the parameters, so that only what depends on the input has one."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_()
