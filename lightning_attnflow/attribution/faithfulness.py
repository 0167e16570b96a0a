"""Faithfulness scores of ERASER (DeYoung et al. 2020): comprehensiveness, sufficiency and log-odds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import (
    check_confidence,
    check_integer,
    check_items,
    check_numbers,
    check_seed,
    is_number,
)
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import Game
from lightning_attnflow.shapley.game import evaluate, number_of_players

FloatArray = NDArray[np.float64]
ERASER_FRACTIONS = (0.01, 0.05, 0.10, 0.20, 0.50)


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """Erasure scores of one explanation, for k fractions of the tokens.

    Args:
        fractions: (k,) shares of the tokens that are erased.
        comprehensiveness: (k,) p(all) - p(without the top tokens); larger is better.
        sufficiency: (k,) p(all) - p(top tokens alone); smaller is better.
        log_odds: (k,) log p(without the top tokens) - log p(all), in nats; more negative is better.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> game = FunctionGame(lambda coalitions: np.log(0.1 + coalitions @ [0.6, 0.2, 0.0]), n_players=3)
        >>> right, wrong = (faithfulness(game, np.array(values)) for values in ([0.6, 0.2, 0.0], [0.0, 0.2, 0.6]))
        >>> round(right.aopc_comprehensiveness, 4), round(wrong.aopc_comprehensiveness, 4)
        (0.64, 0.04)
        >>> right.sufficiency.round(4).tolist(), round(right.mean_log_odds, 4)
        ([0.2, 0.2, 0.2, 0.2, 0.0], -1.3183)
    """

    fractions: tuple[float, ...]
    comprehensiveness: FloatArray
    sufficiency: FloatArray
    log_odds: FloatArray

    @property
    def aopc_comprehensiveness(self) -> float:
        """Mean comprehensiveness over the fractions (area over the perturbation curve)."""
        return float(self.comprehensiveness.mean())

    @property
    def aopc_sufficiency(self) -> float:
        """Mean sufficiency over the fractions."""
        return float(self.sufficiency.mean())

    @property
    def mean_log_odds(self) -> float:
        """Mean log-odds over the fractions."""
        return float(self.log_odds.mean())


def erasure_coalitions(values: FloatArray, fractions: Sequence[float] = ERASER_FRACTIONS) -> NDArray[np.bool_]:
    """Return the coalitions of the erasure scores.

    Args:
        values: float (n,), an explanation; the top players have the largest signed values, ties by position.
        fractions: (k,) shares in (0, 1]; the number of erased players is rounded up.

    Returns:
        bool (2 k, n): k rows without the top players, then k rows of the top players alone.

    Example:
        >>> erasure_coalitions(np.array([0.1, 0.7, 0.2]), fractions=[0.5]).astype(int).tolist()
        [[1, 0, 0], [0, 1, 1]]
    """
    fractions = check_items("fractions", fractions, "shares in (0, 1]")
    wrong = [fraction for fraction in fractions if not (is_number(fraction) and 0 < fraction <= 1)]
    if wrong or len(fractions) == 0:
        raise InputError("fractions", got=list(fractions), expected="shares in (0, 1]")
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise InputError("values", got=f"shape {values.shape} or NaN", expected="finite values (n,)")
    rank = np.empty(len(values), dtype=np.intp)
    rank[np.argsort(-values, kind="stable")] = np.arange(len(values))
    sizes = np.array([math.ceil(fraction * len(values)) for fraction in fractions])
    top = rank[None, :] < sizes[:, None]  # (k, n)
    return np.concatenate([~top, top])


def faithfulness(
    log_probability: Game, values: FloatArray, *, fractions: Sequence[float] = ERASER_FRACTIONS
) -> Faithfulness:
    """Score an explanation by the change of the prediction when its top tokens are erased or kept alone.

    Args:
        log_probability: a game whose payoff is the log-probability of the explained class in nats, such as a
            ``TokenGame`` with the default payoff; its masking strategy affects the scores.
        values: float (n_players,), the explanation.
        fractions: shares of the players that are erased.

    Returns:
        The scores for each fraction, and their means (AOPC) as properties.

    Raises:
        InputError: invalid fractions or values.
        GameError: the game raised or returned invalid values.

    Source: DeYoung et al. (2020), ERASER; log-odds: Shrikumar et al. (2017).

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> game = FunctionGame(lambda coalitions: np.log(0.1 + 0.8 * coalitions[:, 1]), n_players=3)
        >>> scores = faithfulness(game, np.array([0.0, 1.0, 0.0]), fractions=[0.2])
        >>> scores.comprehensiveness.round(4).tolist(), scores.sufficiency.round(4).tolist()
        ([0.8], [0.0])
    """
    n_players = number_of_players(log_probability)
    expected = f"one value for each of the {counted(n_players, 'player')} of the game"
    values = check_numbers("values", values, expected)
    if values.shape != (n_players,):
        raise InputError(
            "values",
            got=f"shape {values.shape}",
            expected=expected,
            remedy="Use attribution.without_special() to remove special tokens.",
        )
    full = np.ones((1, len(values)), dtype=bool)
    logs = evaluate(log_probability, np.concatenate([full, erasure_coalitions(values, fractions)]))
    whole, (without, alone) = logs[0], logs[1:].reshape(2, -1)
    return Faithfulness(
        fractions=tuple(fractions),
        comprehensiveness=np.exp(whole) - np.exp(without),
        sufficiency=np.exp(whole) - np.exp(alone),
        log_odds=without - whole,
    )


def bootstrap_interval(
    samples: FloatArray, *, confidence: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Percentile bootstrap interval of a mean.

    Args:
        samples: float (m,) or (m, k), one row per sentence; columns are resampled together.
        confidence: nominal coverage in (0, 1).
        n_resamples: number of resamples.
        seed: of the resampling.

    Returns:
        low and high, each () or (k,).

    Raises:
        InputError: fewer than two samples, NaN, or a confidence outside (0, 1).

    Source: Efron & Tibshirani (1993), chapter 13.

    Example:
        >>> low, high = bootstrap_interval(np.arange(100.0))
        >>> bool(low < 49.5 < high), bool(high - low < 13)
        (True, True)
    """
    samples = check_numbers("samples", samples, "numbers (m,) or (m, k)")
    if len(samples) < 2 or not np.isfinite(samples).all():
        raise InputError(
            "samples",
            got=f"{counted(len(samples), 'sample')} of which {int((~np.isfinite(samples)).sum())} are NaN or infinite",
            expected="at least two finite samples",
        )
    check_confidence(confidence)
    check_integer("n_resamples", n_resamples)
    draws = np.random.default_rng(np.random.SeedSequence(check_seed(seed))).integers(
        len(samples), size=(n_resamples, len(samples))
    )
    means = np.stack([samples[draw].mean(axis=0) for draw in draws])
    tail = (1 - confidence) / 2
    return np.quantile(means, tail, axis=0), np.quantile(means, 1 - tail, axis=0)
