"""Logistic regressions of the training sets of coalitions, one for each column of the targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_attnflow.valuation.utilities.design import Problem
from lightning_attnflow.valuation.utilities.example_removal import FullModel, Missing, misses_few
from lightning_attnflow.valuation.utilities.logistic_regression import (
    Rows,
    fit_by_gradient_descent,
    fit_by_newton,
    fit_logistic_regressions,
)
from lightning_attnflow.valuation.utilities.prefix_updates import SMALLEST_SIZE, prefix_outputs


@dataclass(frozen=True)
class GradientDescent:
    """Settings of training by gradient descent; see ``FrozenEncoderUtility``."""

    epochs: int
    lr: float
    batch_size: int | None
    seed: int


class LogisticHead:
    """Logistic regressions trained to the optimum, or by gradient descent.

    Args:
        problem: targets in {0, 1}.
        prefixes: "updated" or "exact"; see ``FrozenEncoderUtility``.
        chunk_size: models of prefixes trained together.
        descent: settings of gradient descent; None: train to the optimum.
    """

    def __init__(self, problem: Problem, *, prefixes: str, chunk_size: int, descent: GradientDescent | None) -> None:
        self.problem, self._chunk_size, self._descent = problem, chunk_size, descent
        self._is_updated = prefixes == "updated" and descent is None

    def outputs(self, coalitions: NDArray[np.bool_]) -> Iterator[Tensor]:
        """Validation outputs (m, H, C) of the models of coalitions bool (M, n), in chunks."""
        everyone = torch.arange(len(self.problem.targets))
        rows = Rows(self.problem.design, everyone)
        width, n_columns = self.problem.design.rows.shape[1], len(self.problem.offset)
        is_long = self._descent is None and len(everyone) > width  # else training is faster
        for start in range(0, len(coalitions), self._chunk_size):
            chunk = coalitions[start : start + self._chunk_size]
            weights = torch.empty(width, len(chunk), n_columns, dtype=torch.float64)
            is_left = np.ones(len(chunk), dtype=np.bool_)
            if is_long and len(few := np.flatnonzero(misses_few(chunk, width))):
                weights[:, few], has_converged = self._train_without(chunk[few])
                is_left[few] = ~has_converged
            if is_left.any():
                present = torch.from_numpy(np.ascontiguousarray(chunk[is_left].T)).double()  # (n, H)
                weights[:, is_left] = self.train(rows, everyone, present)[0].view(width, -1, n_columns)
            yield self._apply(weights.flatten(1))

    def prefix_outputs(self, permutation: Tensor, sizes: Sequence[int]) -> Iterator[Tensor]:
        """Validation outputs (m, k, C) of the models of prefixes with ascending sizes > 0, in chunks.

        All models of a chunk are solved on the rows of its largest prefix, starting from the last solution of the
        previous chunk.
        """
        problem, rows = self.problem, Rows(self.problem.design, permutation)
        last: Tensor | None = None
        smallest = max(SMALLEST_SIZE, rows.all().shape[1] // 2)  # of the prefixes that are updated
        is_updated = self._is_updated and sizes[-1] > smallest
        n_trained = int(np.searchsorted(sizes, smallest, side="right")) if is_updated else len(sizes)
        trained = list(sizes[:n_trained])
        if is_updated and (not trained or trained[-1] < smallest):
            trained.append(smallest)  # where the updates start; its outputs are not returned
        for start in range(0, len(trained), self._chunk_size):
            ends = torch.tensor(trained[start : start + self._chunk_size])
            used = permutation[: int(ends[-1])]
            present = (torch.arange(len(used))[:, None] < ends).double()  # (b, H)
            weights, last = self.train(rows, used, present, last)
            outputs = self._apply(weights)[:, : n_trained - start]
            if outputs.shape[1]:
                yield outputs
        if is_updated:
            assert last is not None
            yield from prefix_outputs(
                rows,
                problem.targets[permutation],
                problem.weights[permutation],
                problem.validation_rows,
                offset=problem.offset,
                l2=problem.l2,
                sizes=sizes[n_trained:],
                dual=last,
            )

    def train(
        self, rows: Rows, used: Tensor, present: Tensor, last: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Weights (d + 1, H * C) of the models of H coalitions, and the dual coefficients of the last coalition.

        Args:
            rows: design matrix whose first b rows are those of the used examples.
            used: int64 (b,), the examples of the largest coalition.
            present: float64 (b, H), which of them belong to each coalition.
            last: dual coefficients of an earlier coalition, the initial values.
        """
        problem = self.problem
        n_columns = problem.targets.shape[1]
        wide = (present * problem.weights[used, None]).repeat_interleave(n_columns, dim=1)
        targets = problem.targets[used].repeat(1, present.shape[1])
        offset = problem.offset.repeat(present.shape[1])
        if self._descent is not None:
            weights = fit_by_gradient_descent(
                problem.design.rows[used],
                targets,
                wide,
                offset=offset,
                l2=problem.l2,
                lr=self._descent.lr,
                batches=_batches(self._descent, len(problem.targets), used),
            )
            return weights, None
        start = torch.zeros_like(wide)
        if last is not None:
            start[: len(last)] = last.repeat(1, present.shape[1])
        dual = fit_logistic_regressions(rows.gram(len(used)), targets, wide, offset=offset, l2=problem.l2, start=start)
        return rows.weights(dual), dual[:, -n_columns:]

    def _train_without(self, coalitions: NDArray[np.bool_]) -> tuple[Tensor, NDArray[np.bool_]]:
        """Weights (d + 1, H, C) of the models of large coalitions bool (H, n), and which of them have converged."""
        problem, rows = self.problem, self.problem.design.rows
        weights = torch.empty(rows.shape[1], len(coalitions), len(problem.offset), dtype=torch.float64)
        has_converged = np.ones(len(coalitions), dtype=np.bool_)
        missing = Missing.of(coalitions)
        present = torch.from_numpy(np.ascontiguousarray(coalitions.T)) * problem.weights[:, None]  # (n, H)
        for column, model in enumerate(self.full_models):
            targets, offset = problem.targets[:, column, None], problem.offset[column]

            def gradient(at: Tensor, targets: Tensor = targets, offset: Tensor = offset) -> Tensor:
                residual = torch.sigmoid_(rows @ at + offset).neg_().add_(targets).mul_(present)
                return rows.T @ residual - problem.l2 * at

            weights[:, :, column], converged = model.without(missing, gradient)
            has_converged &= converged.numpy()
        return weights, has_converged

    @cached_property
    def full_models(self) -> list[FullModel]:
        """The model of all examples, for each column of the targets."""
        problem, rows = self.problem, self.problem.design.rows
        models = []
        for targets, offset in zip(problem.targets.T, problem.offset, strict=True):
            logits, factor = fit_by_newton(rows, targets, problem.weights, offset=offset, l2=problem.l2)
            probability = torch.sigmoid(logits)
            residuals = problem.weights * (targets - probability)
            curvature = problem.weights * probability * (1 - probability)
            models.append(FullModel(rows, rows.T @ residuals / problem.l2, residuals, curvature, factor, problem.l2))
        return models

    def _apply(self, weights: Tensor) -> Tensor:
        rows, offset = self.problem.validation_rows, self.problem.offset
        return (rows @ weights).view(len(rows), -1, len(offset)) + offset


def shrunk_base_rates(targets: Tensor, weights: Tensor, n_classes: int) -> Tensor:
    """Logits (C,) of the base rates of ``targets`` (n, C) with weights (n,), shrunk towards equal rates.

    The base rates are estimated by Laplace's rule. The difference of their logits from those of equal rates has the
    sampling variance ``1 / (n p (1 - p))`` and is shrunk by the positive-part James-Stein factor.
    """
    n = weights.sum() ** 2 / weights.square().sum()  # effective number of examples
    rate = (n * (weights @ targets) / weights.sum() + 1) / (n + 2)
    even = torch.full_like(rate, 1 / n_classes).logit()
    distance = rate.logit() - even
    factor = (1 - 1 / (n * rate * (1 - rate) * distance.square())).clamp(min=0)  # a distance of 0 gives -inf, then 0
    return even + factor * distance


def _batches(descent: GradientDescent, n: int, used: Tensor) -> list[list[Tensor]]:
    """For each epoch its batches, as positions in ``used``; the batches of all n players are fixed."""
    if descent.batch_size is None:
        return [[torch.arange(len(used))]] * descent.epochs
    generator = np.random.default_rng(np.random.SeedSequence(descent.seed))
    position = torch.full((n,), -1, dtype=torch.int64)
    position[used] = torch.arange(len(used))
    epochs = []
    for _ in range(descent.epochs):
        shuffled = position[torch.from_numpy(generator.permutation(n))]
        epochs.append([batch[batch >= 0] for batch in torch.split(shuffled, descent.batch_size)])
    return epochs
