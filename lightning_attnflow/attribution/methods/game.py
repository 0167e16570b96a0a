"""Methods that solve the token game: leave-one-out, Shapley values, KernelSHAP and Banzhaf values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_confidence, check_integer
from lightning_attnflow.attribution.baseline import MaskingArgument
from lightning_attnflow.attribution.methods import Compute, register_method
from lightning_attnflow.attribution.payoffs import Payoff
from lightning_attnflow.attribution.result import TokenAttribution
from lightning_attnflow.attribution.sentence import Sentence, check_grouping
from lightning_attnflow.attribution.token_targets import TargetArgument
from lightning_attnflow.shapley import (
    CachedGame,
    Game,
    ShapleyResult,
    banzhaf,
    exact_shapley,
    kernel_shap,
    leave_one_out,
    shapley,
)
from lightning_attnflow.shapley.game import evaluate_empty_and_full

Values = ShapleyResult | NDArray[np.float64]  # a result, or values (n,)
Estimator = Callable[[Game, int, int], Values]  # (game, budget in evaluations, seed)
_EVALUATIONS_PER_PLAYER = 80  # of the default budget, for few players
_MAX_EVALUATIONS = 2000  # of the default budget, unless that is less than the minimum for every player
_MIN_EVALUATIONS_PER_PLAYER = 4

ESTIMATORS: dict[str, Estimator] = {}
"""Estimators of the game family by method name; exact ones ignore budget and seed."""


def solve_game(method: str, game: Game, *, budget: int | None = None, seed: int = 0) -> Values:
    """Apply a method of the game family to any game."""
    return ESTIMATORS[method](game, _default_budget(game.n_players) if budget is None else budget, seed)


def _register_exact(solve: Callable[[Game], Values], name: str, summary: str) -> Compute:
    ESTIMATORS[name] = lambda game, budget, seed: solve(game)  # noqa: ARG005 - one signature for all

    def compute(
        sentence: Sentence,
        *,
        payoff: str | Payoff = "log_probability",
        target: TargetArgument | None = None,
        masking: MaskingArgument | None = None,
        batch_size: int = 32,
        grouping: str = "quotient",
    ) -> TokenAttribution:
        game_options = {"payoff": payoff, "target": target, "masking": masking, "batch_size": batch_size}
        return _solve(sentence, name, lambda game: (solve(game), {}), grouping, game_options)

    compute.__doc__ = summary
    return register_method(name, family="game")(compute)


def _register_sampled(solve: Callable[[Game, int, int], ShapleyResult], name: str, summary: str) -> Compute:
    ESTIMATORS[name] = solve

    def compute(
        sentence: Sentence,
        *,
        payoff: str | Payoff = "log_probability",
        target: TargetArgument | None = None,
        masking: MaskingArgument | None = None,
        batch_size: int = 32,
        grouping: str = "quotient",
        budget: int | None = None,
        confidence: float = 0.95,
    ) -> TokenAttribution:
        check_confidence(confidence)
        if budget is not None:
            check_integer("budget", budget)

        def run(game: Game) -> tuple[ShapleyResult, dict[str, Any]]:
            result = solve(game, _default_budget(game.n_players) if budget is None else budget, sentence.seed)
            low, high = result.interval(confidence)
            if not np.isfinite([low, high]).all():  # too few samples for standard errors
                return result, {}
            named = f"{100 * confidence:g}% interval"
            return result, {"stderr": result.stderr, "low": low, "high": high, "interval": named}

        game_options = {"payoff": payoff, "target": target, "masking": masking, "batch_size": batch_size}
        return _solve(sentence, name, run, grouping, game_options)

    compute.__doc__ = summary
    return register_method(name, family="game")(compute)


def _default_budget(n_players: int) -> int:
    others = max(1, n_players - 1)
    limit = max(_MAX_EVALUATIONS, _MIN_EVALUATIONS_PER_PLAYER * others)
    return 2 + min(_EVALUATIONS_PER_PLAYER * others, limit)


def _solve(
    sentence: Sentence,
    name: str,
    run: Callable[[Game], tuple[Values, dict[str, Any]]],
    grouping: str,
    game_options: dict[str, Any],
) -> TokenAttribution:
    summed = check_grouping(grouping) == "sum" and sentence.players != "tokens"
    game = sentence.game(players="tokens" if summed else None, **game_options)
    cached = CachedGame(game)
    v_empty, v_full = evaluate_empty_and_full(cached)
    result, interval = run(cached)
    attribution = sentence.by_player(
        game.players,
        result.values if isinstance(result, ShapleyResult) else result,
        name,
        payoff=game.payoff,
        target=game.target,
        target_name=game.target_name,
        masking=game.masking,
        v_empty=v_empty,
        v_full=v_full,
        details={"evaluations": float(cached.n_evaluations)},
        **interval,
    )
    return sentence.summed(attribution, sentence.groups("present")) if summed else attribution


_register_exact(leave_one_out, "leave_one_out", "Change of the payoff when one token is masked.")
_register_exact(exact_shapley, "exact_shapley", "Shapley value of the token game, up to 20 players.")
_register_sampled(
    lambda game, budget, seed: shapley(game, budget=budget, seed=seed),
    "shapley",
    "Shapley value of the token game, exact if the budget allows all coalitions, else sampled, with intervals.",
)
_register_sampled(
    lambda game, budget, seed: kernel_shap(game, budget=budget, seed=seed),
    "kernel_shap",
    "Shapley value of the token game by weighted least squares over sampled coalitions.",
)
_register_sampled(
    lambda game, budget, seed: banzhaf(game, budget=budget, seed=seed),
    "banzhaf",
    "Banzhaf value of the token game, which weights all coalitions equally; not efficient.",
)
