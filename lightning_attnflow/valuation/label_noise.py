"""Label noise by class: the share of wrong labels and the probability that each label is correct."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

FloatArray = NDArray[np.float64]

_MAX_GROUPS = 200  # examples are grouped by their logits, so that the cost does not grow with n
_GRID = 80  # candidate probabilities between 0 and 1 that a label is replaced
_RATE_SCALE = 0.7  # of the Cauchy prior of the logarithms of the rates of the classes around their mean
_INTERCEPT_SCALE = 1.0  # of the normal prior of the intercepts
_SLOPE_SCALE = 5.0  # of the half-normal prior of the slope, the root mean square of the calibrated logits
_VALIDATION_SCALE = 0.03  # mean of the exponential prior of the share of wrong validation labels
_MAX_VALIDATION_SHARE = 0.4
_EVEN_NOISE = 0.2  # probability of being replaced below which rates that differ between classes are not relied on
_CHI2 = 1.9207  # half of the 95% quantile of chi-squared with one degree of freedom
_TINY = 1e-12


@dataclass(frozen=True)
class LabelNoise:
    """Estimated label noise of n training examples of C classes.

    Args:
        share: estimated share of wrong labels, the mean probability of being wrong.
        interval: its 95% profile likelihood interval.
        log_odds: float64 (n,), log-odds that the label is correct, by rates that are shrunk to their mean.
        by_class: float64 (C,), estimated share of wrong labels among the examples with each given label.
        validation_share: estimated share of wrong validation labels.
    """

    share: float
    interval: tuple[float, float]
    log_odds: FloatArray
    by_class: FloatArray
    validation_share: float

    @property
    def correct(self) -> FloatArray:
        """Probability that the label is correct, float64 (n,)."""
        probability: FloatArray = expit(self.log_odds)
        return probability


@dataclass(frozen=True)
class _Groups:
    """Mean logit (C, k) of groups of examples, and weighted counts (4, C, k) of their labels.

    The counts are of training labels of the class, training labels of another class, and the same of validation labels.
    """

    logits: FloatArray
    counts: FloatArray


def estimate_noise(probabilities: FloatArray, labels: NDArray[np.int64], n_train: int) -> LabelNoise:
    """Estimate label noise that depends on the class.

    A training label was replaced with a probability R by a class that does not depend on the example, class c with
    probability ``r_c``, where R is the sum of all ``r_c``. Hence the label of an example is c with probability
    ``r_c + (1 - R) p_c``, which stays above ``r_c`` and below ``1 - R + r_c`` however certain the prediction is, with
    ``p_c = sigmoid(a_c + b s_c)`` for the leave-one-out logit ``s_c``. A share of the validation labels was replaced by
    another class at random. The log-likelihoods of all classes against the rest are added and halved, which is the
    log-likelihood for two classes. Priors shrink the rates of the classes to their mean (Cauchy, in logarithms), and
    the intercepts, the slope and the share of wrong validation labels to 0. Given R the other parameters are at their
    optimum; the probabilities that labels are correct are averaged over the likelihood of R.

    Wrong labels that concentrate on uncertain predictions look like correct labels of unclear examples: then the share
    is too low, and the rates are those of the few other wrong labels, which need not hold for the unclear examples.
    Therefore ``log_odds`` uses the mean of the rates, with weight ``R^2 / (R^2 + 0.2^2)``, and of R / C.

    Args:
        probabilities: float64 (N, C), leave-one-out probabilities of training and validation examples.
        labels: int (N,).
        n_train: the first ``n_train`` examples are the training examples.

    Source: a psychometric function with lapse rates: Wichmann & Hill (2001); label noise by class: Natarajan et al.
    (2013).
    """
    n_classes = probabilities.shape[1]
    logits = logit(np.clip(probabilities, _TINY, 1 - _TINY))
    scale = float(np.sqrt(np.mean(logits**2))) or 1.0
    logits /= scale
    groups = _grouped(logits, labels, n_train)
    bounds = [(-10.0, 10.0)] * (2 * n_classes) + [(1e-3, 100.0)]
    bounds.append((0.0, _MAX_VALIDATION_SHARE if n_train < len(labels) else 0.0))
    replaced, parameters, profile = np.linspace(0, 1, _GRID, endpoint=False), [], np.empty(_GRID)
    start = np.concatenate([np.zeros(2 * n_classes), [1.0, 0.0]])
    for index, probability in enumerate(replaced):
        found = minimize(
            _negative_log_posterior, start, args=(probability, groups), jac=True, method="L-BFGS-B", bounds=bounds
        )
        start, profile[index] = found.x, found.fun
        parameters.append(found.x)
    profile -= profile.min()
    given = labels[:n_train]
    shares, own = np.empty(_GRID), logits[np.arange(n_train), given]
    estimated, shrunk = (np.full((2, n_train), -np.inf) for _ in range(2))  # logarithms of correct and wrong
    for index, (probability, found) in enumerate(zip(replaced, parameters, strict=True)):
        rates, intercepts, slope = _rates(found, probability), found[n_classes : 2 * n_classes], found[-2]
        frequency = expit(intercepts + slope * logits[:n_train]).mean(axis=0)
        shares[index] = rates @ (1 - frequency / frequency.sum())
        if not probability:
            continue  # without noise every label would be correct
        even = _EVEN_NOISE**2 / (probability**2 + _EVEN_NOISE**2)
        for total, rate in ((estimated, rates), (shrunk, (1 - even) * rates + even * probability / n_classes)):
            odds = intercepts[given] + slope * own + (np.log1p(rate - probability) - np.log(rate))[given]
            for row, sign in enumerate((1, -1)):
                total[row] = np.logaddexp(total[row], log_expit(sign * odds) - profile[index])
    odds = estimated[0] - estimated[1]
    by_class = np.bincount(given, expit(-odds), n_classes) / np.maximum(np.bincount(given, minlength=n_classes), 1)
    share = float(expit(-odds).mean())
    low, high = _interval(shares, profile, (n_classes - 1) / n_classes)
    mistaken = float(parameters[int(profile.argmin())][-1])
    return LabelNoise(share, (min(low, share), max(high, share)), shrunk[0] - shrunk[1], by_class, mistaken)


def _grouped(logits: FloatArray, labels: NDArray[np.int64], n_train: int) -> _Groups:
    n, n_classes = logits.shape
    size = min(_MAX_GROUPS, n)
    is_train = np.arange(n) < n_train
    means, counts = np.empty((n_classes, size)), np.empty((4, n_classes, size))
    for column in range(n_classes):
        ranks = np.argsort(np.argsort(logits[:, column], kind="stable"), kind="stable")
        group = ranks * size // n
        means[column] = np.bincount(group, logits[:, column], size) / np.bincount(group, minlength=size)
        own = labels == column
        for row, chosen in enumerate((is_train & own, is_train & ~own, ~is_train & own, ~is_train & ~own)):
            counts[row, column] = np.bincount(group[chosen], minlength=size) / 2
    return _Groups(means, counts)


def _rates(parameters: FloatArray, replaced: float) -> FloatArray:
    """Rates r_c of the classes, which sum to ``replaced``."""
    weights = np.exp(parameters[: (len(parameters) - 2) // 2])
    rates: FloatArray = replaced * weights / weights.sum()
    return rates


def _negative_log_posterior(parameters: FloatArray, replaced: float, groups: _Groups) -> tuple[float, FloatArray]:
    """Value and gradient by logarithms of the rates, intercepts, slope and share of wrong validation labels."""
    n_classes = len(groups.logits)
    log_rates, intercepts = parameters[:n_classes], parameters[n_classes : 2 * n_classes]
    slope, mistaken = parameters[-2:]
    rates = _rates(parameters, replaced)
    clean = np.clip(expit(intercepts[:, None] + slope * groups.logits), _TINY, 1 - _TINY)
    noisy = np.clip(rates[:, None] + (1 - replaced) * clean, _TINY, 1 - _TINY)
    span = 1 - mistaken * n_classes / (n_classes - 1)
    checked = np.clip(mistaken / (n_classes - 1) + span * clean, _TINY, 1 - _TINY)
    own, other, checked_own, checked_other = groups.counts
    likelihood = own * np.log(noisy) + other * np.log1p(-noisy)
    likelihood += checked_own * np.log(checked) + checked_other * np.log1p(-checked)
    by_noisy = own / noisy - other / (1 - noisy)
    by_checked = checked_own / checked - checked_other / (1 - checked)
    by_logit = ((1 - replaced) * by_noisy + span * by_checked) * clean * (1 - clean)
    by_rate = by_noisy.sum(axis=1)
    gradient = np.concatenate(
        [
            rates * by_rate - rates / max(replaced, _TINY) * (rates @ by_rate),
            by_logit.sum(axis=1),
            [(by_logit * groups.logits).sum(), (by_checked * (1 - n_classes * clean)).sum() / (n_classes - 1)],
        ]
    )
    prior = np.log1p((log_rates / _RATE_SCALE) ** 2).sum() + (intercepts @ intercepts) / (2 * _INTERCEPT_SCALE**2)
    prior += slope**2 / (2 * _SLOPE_SCALE**2) + mistaken / _VALIDATION_SCALE
    gradient[:n_classes] -= 2 * log_rates / (_RATE_SCALE**2 + log_rates**2)
    gradient[n_classes : 2 * n_classes] -= intercepts / _INTERCEPT_SCALE**2
    gradient[-2:] -= slope / _SLOPE_SCALE**2, 1 / _VALIDATION_SCALE
    return float(prior - likelihood.sum()), -gradient


def _interval(shares: FloatArray, excess: FloatArray, largest: float) -> tuple[float, float]:
    """Ends of the shares whose log-likelihood is within the quantile of the best, interpolated on the grid."""
    inside = np.flatnonzero(excess <= _CHI2)
    low, high = int(inside[0]), int(inside[-1])

    def end(inner: int, outer: int) -> float:
        weight = (_CHI2 - excess[inner]) / (excess[outer] - excess[inner])
        return float(shares[inner] + weight * (shares[outer] - shares[inner]))

    return (0.0 if low == 0 else end(low, low - 1), largest if high == len(shares) - 1 else end(high, high + 1))
