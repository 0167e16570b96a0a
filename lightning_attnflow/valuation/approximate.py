"""Approximate Data Shapley of logistic regression for many examples, with measured bias.

The Shapley value of example i is the mean over the sizes s = 0, ..., n - 1 of its expected marginal at random
coalitions of size s. Here the head is trained at a geometric grid of prefixes of a random permutation. At each of them,
the marginals of all examples are approximated in closed form, by one Newton step: the change of the validation log loss
if the example is added to, or removed from, the prefix. Marginals at the sizes between are interpolated linearly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import expit, log_expit, logsumexp
from scipy.stats import norm
from scipy.stats import t as student_t

from lightning_attnflow._checks import check_integer, check_seed
from lightning_attnflow._figures import value_bars
from lightning_attnflow._results import SavedResult, to_dataframe
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.utilities.frozen import FrozenEncoderUtility
from lightning_attnflow.valuation.utilities.logistic_regression import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ApproximateDataShapley(SavedResult):
    """Approximate Data Shapley values. They are biased; the bias is measured, not removed.

    Args:
        values: float64 (n,), in nats of validation log loss; negative: the example increases the loss.
        stderr: float64 (n,), standard errors of the random permutations; they do not contain the bias.
        bias: mean over the audited examples of exact minus approximate marginals, averaged over the grid sizes.
        bias_stderr: standard error of ``bias``; infinite with fewer than two permutations.
        bias_bound: bound on the root mean square over the examples of their biases due to the Newton step: the average
            over the grid sizes of the root mean square deviation of audited marginals, by Minkowski's inequality.
        v_empty: payoff of the empty coalition, exact.
        v_full: payoff of all examples, exact.
        total_stderr: standard error of the sum of the values.
        n_permutations: number of permutations.
        n_trainings: number of trained heads, those of the audit included.
        n_audited: number of audited marginals.
    """

    values: FloatArray
    stderr: FloatArray
    bias: float
    bias_stderr: float
    bias_bound: float
    v_empty: float
    v_full: float
    total_stderr: float
    n_permutations: int
    n_trainings: int
    n_audited: int

    @property
    def efficiency_gap(self) -> float:
        """``v_full - v_empty`` minus the sum of the values: the sum of all errors, of the interpolation included."""
        return self.v_full - self.v_empty - float(self.values.sum())

    def interval(self, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Intervals, low (n,) and high (n,), of the exact values, widened by the measured bias.

        The nominal coverage is an average over the examples, not a guarantee for each of them.

        Args:
            confidence: nominal coverage, between 0 and 1.
        """
        if not 0 < confidence < 1:
            raise InputError("confidence", got=repr(confidence), expected="a number between 0 and 1")
        tail = (1 + confidence) / 2
        factor = float(student_t.ppf(tail, self.n_permutations - 1)) if self.n_permutations > 1 else math.inf
        half = np.hypot(factor * self.stderr, float(norm.ppf(tail)) * self.bias_bound)
        return self.values - half, self.values + half

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the ten lowest and the ten highest values with their intervals.

        Args:
            ax: axes to draw on; default: those of a new figure.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        order = np.argsort(-self.values, kind="stable")
        shown = order if len(order) <= 20 else np.r_[order[:10], order[-10:]]
        low, high = self.interval()
        names = [f"example {index}" for index in shown]
        return value_bars(self.values[shown], labels=names, low=low[shown], high=high[shown], ax=ax)

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with one row for each example, in their order."""
        low, high = self.interval()
        return to_dataframe({"value": self.values, "stderr": self.stderr, "low": low, "high": high})


def approximate_data_shapley(
    utility: FrozenEncoderUtility, *, n_permutations: int = 4, n_sizes: int = 30, n_audited: int = 4, seed: int = 0
) -> ApproximateDataShapley:
    """Approximate the Data Shapley values of a :class:`FrozenEncoderUtility` in time linear in the number of examples.

    The values are not unbiased estimates of the Shapley values. Three approximations bias them: one Newton step in
    place of retraining, the validation log loss to second order in the change of the logits (without the products of
    different classes), and linear interpolation between the grid sizes. The result states the first two, measured on
    audited marginals with exact retraining; the sum of all errors is its ``efficiency_gap``.

    Args:
        utility: utility with ``metric="log_loss"`` that is trained to the optimum.
        n_permutations: number of random permutations, each of ``n_sizes`` trainings.
        n_sizes: number of prefix sizes, at least 3.
        n_audited: audited examples for each permutation and size, at least 1.
        seed: seed of the permutations and the audit.

    Raises:
        InputError: the utility has another metric or is trained by epochs, or an argument is invalid.

    Source: Shapley values by size: Maleki et al. (2013); one Newton step: Pregibon (1981), Koh & Liang (2017).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> features, labels = rng.normal(size=(60, 3)), np.arange(60) % 2
        >>> features[:, 0] += 3 * labels
        >>> labels[4] = 1 - labels[4]
        >>> utility = FrozenEncoderUtility(features[:30], labels[:30], features[30:], labels[30:])
        >>> int(approximate_data_shapley(utility).values.argmin())
        4
    """
    if not isinstance(utility, FrozenEncoderUtility):
        raise InputError("utility", got=type(utility).__name__, expected="a FrozenEncoderUtility")
    if utility.metric != "log_loss":
        raise InputError("metric", got=repr(utility.metric), expected="'log_loss', whose derivatives are known")
    if utility.epochs is not None:
        raise InputError("epochs", got=utility.epochs, expected="None: the Newton step assumes the optimum")
    check_integer("n_permutations", n_permutations)
    check_integer("n_sizes", n_sizes, minimum=3)
    check_integer("n_audited", n_audited)
    n = utility.n_players
    generator = np.random.default_rng(np.random.SeedSequence(check_seed(seed)))
    sizes = np.unique(np.r_[0, np.round(np.geomspace(1, n, n_sizes - 1)).astype(int)])
    by_entry = np.array([_size_weights(sizes, entry, n) for entry in range(1, len(sizes))])
    values = np.empty((n_permutations, n))
    deviations = np.empty((n_permutations, len(sizes), n_audited))
    everyone = torch.arange(n)
    rows = Rows(utility._design, everyone)
    for index in range(n_permutations):
        place = np.argsort(generator.permutation(n))
        audited = generator.integers(n, size=(len(sizes), n_audited))
        prefixes = place < sizes[:, None]  # (K, n)
        weights = by_entry[np.searchsorted(sizes, place, side="right") - 1]  # (n, K)
        heads = []
        for chunk in np.array_split(prefixes, math.ceil(len(prefixes) / utility.chunk_size)):
            trained, _ = utility._train(rows, everyone, torch.from_numpy(chunk.T.astype(np.float64)), None)
            heads.append(trained.view(len(trained), len(chunk), -1))
        coefficients = torch.cat(heads, dim=1)  # (d + 1, K, C')
        total, approximate = np.zeros(n), np.empty((len(sizes), n_audited))
        for k, members in enumerate(prefixes):
            marginals = _marginals(utility, coefficients[:, k].numpy(), members)
            total += weights[:, k] * marginals
            approximate[k] = marginals[audited[k]]
        values[index] = total
        payoffs = utility._payoffs(coefficients.reshape(len(coefficients), -1))
        changed = np.repeat(prefixes, n_audited, axis=0)
        flat = (np.arange(len(changed)), audited.ravel())
        sign = np.where(changed[flat], -1.0, 1.0)  # a member is removed, another example is added
        changed[flat] = ~changed[flat]
        exact = sign * (utility(changed) - np.repeat(payoffs, n_audited))
        deviations[index] = exact.reshape(approximate.shape) - approximate
        deviations[index] *= np.take_along_axis(weights.T, audited, axis=1)
    biases = deviations.mean(axis=2).sum(axis=1)  # one for each permutation
    empty_and_full = utility(np.array([[False] * n, [True] * n]))
    root = math.sqrt(n_permutations)
    many = n_permutations > 1
    return ApproximateDataShapley(
        values=values.mean(axis=0),
        stderr=values.std(axis=0, ddof=1) / root if many else np.full(n, np.inf),
        bias=float(biases.mean()),
        bias_stderr=float(biases.std(ddof=1) / root) if many else math.inf,
        bias_bound=float(np.sqrt((deviations**2).mean(axis=(0, 2))).sum()),
        v_empty=float(empty_and_full[0]),
        v_full=float(empty_and_full[1]),
        total_stderr=float(values.sum(axis=1).std(ddof=1) / root) if many else math.inf,
        n_permutations=n_permutations,
        n_trainings=n_permutations * len(sizes) * (1 + n_audited) + 2,
        n_audited=deviations.size,
    )


def _size_weights(sizes: NDArray[np.int64], entry: int, n: int) -> FloatArray:
    """Weights (K,) of the marginals of an example that belongs to the prefixes from index ``entry`` on.

    They integrate functions exactly that are linear between the sizes of the coalitions without the example. Two
    marginals at the same size are averaged.
    """
    nodes = sizes - (np.arange(len(sizes)) >= entry)
    distinct, first, count = np.unique(nodes, return_inverse=True, return_counts=True)
    hats = np.eye(len(distinct))
    weights = np.array([np.interp(np.arange(n), distinct, hat).mean() for hat in hats])
    return (weights / count)[first]


def _marginals(utility: FrozenEncoderUtility, coefficients: FloatArray, members: NDArray[np.bool_]) -> FloatArray:
    """Approximate marginals (n,) at the head ``coefficients`` (d + 1, C'), trained on ``members``."""
    rows, outside = utility._design.rows.numpy(), utility._validation_rows.numpy()
    targets, offset = utility._targets.numpy(), utility._offset.numpy()
    importance = utility._weights.numpy()
    slopes, bends = _derivatives(outside @ coefficients + offset, utility.validation_labels, utility.n_classes)
    inside = rows[members]
    marginals = np.zeros(len(rows))
    for column in range(targets.shape[1]):
        probability = expit(rows @ coefficients[:, column] + offset[column])
        residual = importance * (targets[:, column] - probability)
        curvature = importance * probability * (1 - probability)
        scaled = inside * np.sqrt(curvature[members])[:, None]
        factor = np.linalg.cholesky(scaled.T @ scaled + utility.l2 * np.eye(rows.shape[1]))
        half = solve_triangular(factor, rows.T, lower=True, check_finite=False)  # (d + 1, n)
        effect = solve_triangular(factor, outside.T, lower=True, check_finite=False)  # (d + 1, m)
        leverage = np.einsum("ij,ij->j", half, half)
        # Length of the Newton step; a member is removed from the prefix, so that its curvature is subtracted.
        length = residual / np.where(members, np.maximum(1 - curvature * leverage, 1e-6), 1 + curvature * leverage)
        linear = (effect @ slopes[:, column]) @ half
        moment = (effect * bends[:, column]) @ effect.T  # (d + 1, d + 1)
        quadratic = np.einsum("ij,ij->j", half, moment @ half)
        marginals += length * linear + np.where(members, -0.5, 0.5) * length**2 * quadratic
    return marginals


def _derivatives(outputs: FloatArray, truth: NDArray[np.int64], n_classes: int) -> tuple[FloatArray, FloatArray]:
    """First and second derivatives (m, C') of the mean log-likelihood by the outputs (m, C')."""
    m = len(outputs)
    if n_classes == 2:
        probability = expit(outputs)
        return (truth[:, None] - probability) / m, -probability * (1 - probability) / m
    logits = log_expit(outputs)
    share = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    own = (truth[:, None] == np.arange(n_classes)) - share
    other = expit(-outputs)  # derivative of log_expit
    return own * other / m, -(share * (1 - share) * other**2 + own * other * (1 - other)) / m
