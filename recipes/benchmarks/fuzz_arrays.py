"""The calls of fuzz.py that take a game or numbers."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from fuzz_values import FLOATS, SEEDS, SHARES, Call, arrays, games, games_with, mostly, weighted, whole
from hypothesis import strategies as st

from lightning_attnflow import attribution, shapley
from lightning_attnflow.errors import GameError
from lightning_attnflow.shapley.game import evaluate_empty_and_full

LIMITS = mostly([1, 5, 0.5, 10**30], 0, -1)
COUNTS = mostly([1, 5, 10**30], 0.5, 0, -1)
_SAMPLED = {"game": games(), "seed": SEEDS, "budget": mostly(range(6, 40), -1, 0, 1)}


@st.composite
def permuted_games(draw: Any) -> dict[str, Any]:
    """A game, permutations of its players, rarely of others, and its empty and full value."""
    game = draw(games())
    n = game.n_players + draw(mostly([0], 1, -1))
    permutations = np.array([draw(st.permutations(range(n))) for _ in range(draw(whole(0, 3)))], dtype=int)
    try:
        v_empty, v_full = evaluate_empty_and_full(game)
    except GameError:
        v_empty, v_full = 0.0, 1.0
    return {"game": game, "permutations": permutations.reshape(-1, n), "v_empty": v_empty, "v_full": v_full}


def _own_game(weights: Any, n_players: Any) -> Any:
    game = shapley.CachedGame(shapley.FunctionGame(lambda coalitions: coalitions @ weights, n_players))
    return shapley.leave_one_out(game), shapley.exact_shapley(game)


def _merged(game: Any, seeds: Any, confidence: Any) -> Any:
    one, two = (shapley.permutation_shapley(game, stop=shapley.MaxPermutations(6), seed=seed) for seed in seeds)
    merged = one + two
    return merged.interval(confidence), merged.to_pandas(), merged.plot(), repr(merged), merged


def _estimate(marginals: Any, n_evaluations: Any, **options: Any) -> Any:
    estimate = shapley.PermutationEstimate(**options)
    permutations = shapley.draw_permutations(
        0, range(len(marginals)), estimate.n_players, antithetic=estimate.antithetic
    )
    estimate.update(permutations, marginals, n_evaluations=n_evaluations)
    return estimate.result(), estimate.interval()


def _stopped(game: Any, stop: Any, seed: Any) -> Any:
    return shapley.permutation_shapley(game, stop=stop | shapley.MaxPermutations(20), seed=seed)


CALLS: dict[str, Call] = {
    "exact_shapley": Call(shapley.exact_shapley, {"game": games()}),
    "leave_one_out": Call(shapley.leave_one_out, {"game": games()}),
    "shapley": Call(shapley.shapley, _SAMPLED),
    "kernel_shap": Call(shapley.kernel_shap, _SAMPLED),
    "banzhaf": Call(shapley.banzhaf, _SAMPLED),
    "stratified_shapley": Call(shapley.stratified_shapley, _SAMPLED),
    "quadrature_shapley": Call(shapley.quadrature_shapley, _SAMPLED),
    "permutation_shapley": Call(
        shapley.permutation_shapley,
        {"game": games(), "stop": st.builds(shapley.MaxPermutations, whole(1, 9)), "seed": SEEDS},
    ),
    "permutation_shapley with criteria": Call(
        _stopped,
        {
            "game": games(),
            "seed": SEEDS,
            "stop": st.sampled_from(
                [
                    shapley.StandardErrorBelow(0.1),
                    shapley.IntervalBelow(0.1),
                    shapley.SignDecided() & shapley.MaxPermutations(4),
                    shapley.TopDecided(1),
                    shapley.MaxEvaluations(30),
                    shapley.MaxSeconds(0.01),
                ]
            ),
        },
        ("game", "seed"),
    ),
    "ShapleyResult": Call(
        _merged,
        {"game": games(), "seeds": mostly([(0, 1), (5, 2)], (0, 0)), "confidence": SHARES},
        ("game", "confidence"),
    ),
    "random_permutation": Call(
        shapley.random_permutation, {"seed": SEEDS, "index": mostly([0, 3], -1), "n_players": mostly([1, 5], 0, -1)}
    ),
    "draw_permutations": Call(
        shapley.draw_permutations,
        {"seed": SEEDS, "indices": mostly([range(3), [0, 5]], [], [-1], ["x"]), "n_players": mostly([1, 4], 0, -1)},
    ),
    "PermutationEstimate": Call(
        _estimate,
        {"marginals": mostly([np.ones((2, 2, 3)), np.eye(3)[None, :2]], np.full((1, 2, 3), np.nan), np.ones((2, 3)))}
        | {"n_players": mostly([3], 2), "v_empty": st.just(0.0), "v_full": mostly([1.0], np.nan)}
        | {"n_evaluations": st.just(4), "seed": SEEDS, "antithetic": mostly([True], False)},
        tuple(inspect.signature(shapley.PermutationEstimate).parameters),
    ),
    "permutation_marginals": Call(
        shapley.permutation_marginals,
        {"data": permuted_games(), "truncation": mostly([None, shapley.Truncation()], 3), "audit": st.booleans()},
        data=("game", "permutations", "v_empty", "v_full"),
    ),
    "audit_axioms": Call(
        shapley.audit_axioms, {"data": games_with("game", "values"), "seed": SEEDS}, data=("game", "values")
    ),
    "audit_additivity": Call(
        shapley.audit_additivity,
        {
            "method": mostly([shapley.exact_shapley, shapley.leave_one_out], lambda _: [1.0], lambda _: "x"),
            "game_a": games(3),
            "game_b": weighted((7, games(3)), (1, games())),
        },
    ),
    "is_modular": Call(shapley.is_modular, {"game": games(), "n_samples": mostly([10, 50], 1, 0, -1), "seed": SEEDS}),
    "FunctionGame, CachedGame": Call(
        _own_game,
        {"weights": st.lists(FLOATS, min_size=3, max_size=3).map(np.array), "n_players": mostly([3], 2, 0, -1)},
        ("n_players",),
    ),
    "GroupedGame": Call(
        shapley.GroupedGame, {"game": games(3), "groups": mostly([[[0], [1, 2]], [[0, 1, 2]]], [[0]], [[0, 0]])}
    ),
    "IntervalBelow": Call(shapley.IntervalBelow, {"limit": LIMITS, "confidence": SHARES}),
    "MaxEvaluations": Call(shapley.MaxEvaluations, {"limit": COUNTS}),
    "MaxPermutations": Call(shapley.MaxPermutations, {"limit": COUNTS}),
    "MaxSeconds": Call(shapley.MaxSeconds, {"limit": LIMITS}),
    "SignDecided": Call(shapley.SignDecided, {"tolerance": LIMITS, "confidence": SHARES}),
    "StandardErrorBelow": Call(shapley.StandardErrorBelow, {"limit": LIMITS}),
    "TopDecided": Call(shapley.TopDecided, {"k": COUNTS, "confidence": SHARES}),
    "Truncation": Call(shapley.Truncation, {"tolerance": LIMITS, "patience": COUNTS}),
    "bootstrap_interval": Call(
        attribution.bootstrap_interval,
        {"samples": weighted((2, arrays(5)), (1, arrays(ndim=2))), "confidence": SHARES}
        | {"n_resamples": mostly([1, 20], 0, -1), "seed": SEEDS},
    ),
    "faithfulness": Call(
        attribution.faithfulness,
        {
            "data": games_with("log_probability", "values"),
            "fractions": mostly([[0.2, 0.5], [1.0], (0.01,)], [], [0.0], [-1.0]),
        },
        data=("log_probability", "values"),
    ),
    "last_layer_with_flow": Call(
        attribution.last_layer_with_flow,
        {"values": weighted((3, arrays(3, ndim=2)), (1, st.just(np.eye(3)))), "tolerance": SHARES},
    ),
    "default_layer": Call(attribution.default_layer, {"n_layers": mostly([1, 6, 30], 0, -1)}),
}
