"""Explanations that solve the token game: leave-one-out, Shapley values exact and sampled, KernelSHAP, Banzhaf."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_confidence
from lightning_attnflow.attribution.arguments import check_count
from lightning_attnflow.attribution.attribution import TokenAttribution
from lightning_attnflow.attribution.payoff import Payoff
from lightning_attnflow.attribution.registry import Compute, register
from lightning_attnflow.attribution.sentence import Sentence, check_grouping
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

Values = ShapleyResult | NDArray[np.float64]  # a result, or (n,) of a rule without one
Solver = Callable[[Game, int, int], Values]  # (game, budget in evaluations, seed)
_ORDERS = 40  # the default budget of a sampled method: as many evaluations as that many orders and their reverses

SOLVERS: dict[str, Solver] = {}
"""The rules of the game family by method name; a rule without sampling ignores budget and seed."""


def solve_game(method: str, game: Game, *, budget: int | None = None, seed: int = 0) -> Values:
    """Return what a method of the game family says of any game: a result, or values (n,) of a rule without one.

    Args:
        method: a name of ``SOLVERS``.
        game: the game.
        budget: evaluations of a sampled method; default as in ``explain``.
        seed: of a sampled method.
    """
    return SOLVERS[method](game, _default_budget(game.n_players) if budget is None else budget, seed)


def _of_all(solve: Callable[[Game], Values], name: str, summary: str) -> Compute:
    """Make a method of a rule that needs no budget."""
    SOLVERS[name] = lambda game, budget, seed: solve(game)  # noqa: ARG005 - one signature for all rules

    def compute(
        sentence: Sentence,
        *,
        payoff: str | Payoff = "log_probability",
        target: int | None = None,
        absent: str | None = None,
        batch_size: int = 32,
        grouping: str = "quotient",
    ) -> TokenAttribution:
        game_options = {"payoff": payoff, "target": target, "absent": absent, "batch_size": batch_size}
        return _solve(sentence, name, lambda game: (solve(game), {}), grouping, game_options)

    compute.__doc__ = summary
    return register("game", name)(compute)


def _sampled(solve: Callable[[Game, int, int], ShapleyResult], name: str, summary: str) -> Compute:
    """Make a method of a rule that samples: (game, budget, seed) -> result."""
    SOLVERS[name] = solve

    def compute(
        sentence: Sentence,
        *,
        payoff: str | Payoff = "log_probability",
        target: int | None = None,
        absent: str | None = None,
        batch_size: int = 32,
        grouping: str = "quotient",
        budget: int | None = None,
        confidence: float = 0.95,
    ) -> TokenAttribution:
        check_confidence(confidence)
        if budget is not None:
            check_count("budget", budget, "It counts evaluations: pass budget=1000.")

        def run(game: Game) -> tuple[ShapleyResult, dict[str, Any]]:
            result = solve(game, _default_budget(game.n_players) if budget is None else budget, sentence.seed)
            low, high = result.interval(confidence)
            if not np.isfinite([low, high]).all():  # nothing is known of the errors
                return result, {}
            return result, {"stderr": result.stderr, "low": low, "high": high, "interval": f"confidence {confidence:g}"}

        game_options = {"payoff": payoff, "target": target, "absent": absent, "batch_size": batch_size}
        return _solve(sentence, name, run, grouping, game_options)

    compute.__doc__ = summary
    return register("game", name)(compute)


def _values(result: Values) -> NDArray[np.float64]:
    return result.values if isinstance(result, ShapleyResult) else result


def _default_budget(n_players: int) -> int:
    return 2 + 2 * _ORDERS * max(1, n_players - 1)


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
        _values(result),
        name,
        payoff=game.payoff,
        target=game.target,
        absent=game.absent,
        v_empty=v_empty,
        v_full=v_full,
        details={"evaluations": float(cached.n_evaluations)},
        **interval,
    )
    return sentence.summed(attribution, sentence.groups("present")) if summed else attribution


leave_one_out_method = _of_all(
    leave_one_out, "leave_one_out", "What the payoff loses when one token becomes absent (Prop. 3)."
)
exact_method = _of_all(
    exact_shapley, "exact_shapley", "Shapley value of the token game from all coalitions; up to 20 players."
)
sampled_method = _sampled(
    lambda game, budget, seed: shapley(game, budget=budget, seed=seed),
    "shapley",
    "Shapley value of the token game, from all coalitions if the budget covers them, else sampled, with intervals.",
)
kernel_method = _sampled(
    lambda game, budget, seed: kernel_shap(game, budget=budget, seed=seed),
    "kernel_shap",
    "Shapley value of the token game by weighted least squares over sampled coalitions.",
)
banzhaf_method = _sampled(
    lambda game, budget, seed: banzhaf(game, budget=budget, seed=seed),
    "banzhaf",
    "Banzhaf value of the token game: every coalition counts the same; does not add up to the payoff.",
)
