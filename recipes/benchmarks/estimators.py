"""Error of the estimators of this package, shapiq and captum on the same games at equal budgets.

Prints one row for each game and budget with the root mean square error of each estimator over many seeds, relative to
the best of the peers (below 1 is a lower error than all of them), and the standard error of that ratio for
`shapley(game, budget=...)` ("auto"). True values are exact. The last lines count the settings: lower or higher means
that the ratio differs from 1 by more than two standard errors. About ten minutes on one core.

    python recipes/benchmarks/estimators.py [--runs 50] [--games airport shoes]

With --players, prints instead the CPU time of `shapley` and of permutation sampling without that of the game, as a
share of a game that takes 1 ms an evaluation, and their errors, in games of these numbers of players. Two minutes each:

    python recipes/benchmarks/estimators.py --players 5 10 20 50 100 150 200 256 --per-player 3 4 10 30
    python recipes/benchmarks/estimators.py --players 400 800 1600 3000 5000
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Callable

import numpy as np
import shapiq
import torch
from captum.attr import ShapleyValueSampling
from known_games import airport_of, coverage_of, known_games, large_games

from lightning_attnflow.shapley import (
    FunctionGame,
    Game,
    MaxEvaluations,
    kernel_shap,
    permutation_shapley,
    shapley,
    stratified_shapley,
)
from lightning_attnflow.shapley.exact import coalition_table, shapley_from_table

Estimator = Callable[[Game, int, int], np.ndarray]  # game, budget, seed -> values (n,)
PER_PLAYER = (4, 10, 30, 100)  # evaluations per player

OURS: dict[str, Estimator] = {
    "auto": lambda game, budget, seed: shapley(game, budget=budget, seed=seed).values,
    "stratified": lambda game, budget, seed: stratified_shapley(game, budget=budget, seed=seed).values,
    "kernel": lambda game, budget, seed: kernel_shap(game, budget=budget, seed=seed).values,
    "antithetic": lambda game, budget, seed: permutation_shapley(game, stop=MaxEvaluations(budget), seed=seed).values,
}


def of_shapiq(approximator: Callable[..., shapiq.approximator.Approximator], **options: bool) -> Estimator:
    """An estimator of shapiq, which needs v(empty) = 0."""

    def estimate(game: Game, budget: int, seed: int) -> np.ndarray:
        v_empty = game(np.zeros((1, game.n_players), dtype=bool))
        method = approximator(n=game.n_players, random_state=seed, **options)
        found = method.approximate(budget, lambda rows: game(np.atleast_2d(rows)) - v_empty)
        return np.array([found[(player,)] for player in range(game.n_players)])

    return estimate


def of_captum(game: Game, budget: int, seed: int) -> np.ndarray:
    """Permutation sampling of captum; it uses the global seed of torch, which is restored."""
    present = torch.ones(1, game.n_players)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method = ShapleyValueSampling(lambda rows: torch.from_numpy(game(rows.numpy() > 0.5)))
        samples = max(1, (budget - 1) // game.n_players)
        batched = {"n_samples": samples, "perturbations_per_eval": game.n_players}
        return method.attribute(present, baselines=0 * present, **batched)[0].double().numpy()


PEERS: dict[str, Estimator] = {
    "sq.permut.": of_shapiq(shapiq.PermutationSamplingSV),
    "sq.SVARM": of_shapiq(shapiq.SVARM),
    "sq.SVARM p": of_shapiq(shapiq.SVARM, pairing_trick=True),
    "sq.kernel": of_shapiq(shapiq.KernelSHAP),
    "sq.kernel p": of_shapiq(shapiq.KernelSHAP, pairing_trick=True),
    "captum": of_captum,
}


def errors(estimator: Estimator, game: Game, values: np.ndarray, budget: int, runs: int) -> tuple[float, float]:
    """Root mean square error over players and seeds, and its relative standard error."""
    squares = np.array([np.mean((estimator(game, budget, seed) - values) ** 2) for seed in range(runs)])
    mean = max(float(squares.mean()), 1e-300)
    return float(np.sqrt(mean)), float(squares.std(ddof=min(1, runs - 1)) / np.sqrt(runs) / mean / 2)


def subjects(names: list[str] | None) -> dict[str, tuple[Game, np.ndarray]]:
    """Games by name with exact values; small ones as lookup tables."""
    found = {}
    for name, game in known_games(names).items():
        table = coalition_table(game)
        powers = 2 ** np.arange(game.n_players)
        lookup = FunctionGame(lambda rows, table=table, powers=powers: table[rows @ powers], game.n_players)
        found[name] = (lookup, shapley_from_table(table))
    return found | {name: game for name, game in large_games().items() if names is None or name in names}


def print_own_times(players: list[int], per_player: list[int]) -> None:
    """Own CPU time and error of `shapley` and of permutation sampling in games of given numbers of players."""
    print(f"{'game':<10}{'players':>8}{'evaluations':>12}  estimator {'own s':>20}{'of 1 ms game':>14}{'error':>11}")
    for n_players, evaluations_per_player in itertools.product(players, per_player):
        for name, (game, values) in {"airport": airport_of(n_players), "coverage": coverage_of(n_players)}.items():
            for key in ("auto", "antithetic"):
                runs = [
                    timed(OURS[key], game, evaluations_per_player * n_players, seed)
                    for seed in range(max(1, 1000 // (evaluations_per_player * n_players)))
                ]
                own, evaluations = (float(np.mean([run[column] for run in runs])) for column in (0, 1))
                error = float(np.sqrt(np.mean([(found - values) ** 2 for _, _, found in runs])))
                row = f"{name:<10}{n_players:>8}{evaluations:>12.0f}  {key:<20}{own:>10.4f}"
                print(f"{row}{own / evaluations * 1e3:>14.1%}{error:>11.3g}", flush=True)


def timed(estimator: Estimator, game: Game, budget: int, seed: int) -> tuple[float, int, np.ndarray]:
    """CPU seconds without those of the game, number of evaluations, and values."""
    spent, evaluations = 0.0, 0

    def payoffs(coalitions: np.ndarray) -> np.ndarray:
        nonlocal spent, evaluations
        start = time.process_time()
        found = np.concatenate([game(coalitions[row : row + 64]) for row in range(0, len(coalitions), 64)])
        spent += time.process_time() - start
        evaluations += len(coalitions)
        return found

    start = time.process_time()
    values = estimator(FunctionGame(payoffs, game.n_players), budget, seed)
    return time.process_time() - start - spent, evaluations, values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="seeds of a setting of at most 10 evaluations per player")
    parser.add_argument("--games", nargs="*", help="names of games; all by default")
    parser.add_argument("--players", type=int, nargs="*", help="print own times for these numbers of players instead")
    parser.add_argument("--per-player", type=int, nargs="*", default=[4], help="with --players: evaluations for each")
    options = parser.parse_args()
    if options.players:
        print_own_times(options.players, options.per_player)
        return
    warnings.filterwarnings("ignore", module="shapiq")
    print(f"{'game':<16}{'budget':>7}" + "".join(f"{name:>12}" for name in [*OURS, *PEERS]) + f"{'best peer':>12}")
    ratios: dict[int, list[tuple[float, float]]] = {per_player: [] for per_player in PER_PLAYER}
    for name, (game, values) in subjects(options.games).items():
        for per_player in PER_PLAYER:
            budget = per_player * game.n_players
            if budget >= 2**game.n_players:
                continue  # all are exact
            runs = max(5, round(options.runs * min(1.0, 10 / per_player)))  # differences are larger at large budgets
            runs = runs if game.n_players <= 20 else max(5, runs // 3)
            found = {key: errors(method, game, values, budget, runs) for key, method in (OURS | PEERS).items()}
            best, spread = min(found[key] for key in PEERS)
            ratio = found["auto"][0] / best
            ratios[per_player].append((ratio, ratio * float(np.hypot(found["auto"][1], spread))))
            print(f"{name:<16}{budget:>7}" + "".join(f"{error / best:>12.2f}" for error, _ in found.values()), end="")
            print(f"{best:>12.2g}  {ratio:.2f} +- {ratios[per_player][-1][1]:.2f}", flush=True)
    print("\n'auto' against the best peer of each setting:")
    for per_player, entries in ratios.items():
        if entries:
            print(
                f"  {per_player:>3} evaluations per player: geometric mean "
                f"{np.exp(np.mean([np.log(max(ratio, 1e-6)) for ratio, _ in entries])):.2f}, "
                f"lower error in {sum(ratio < 1 - 2 * error for ratio, error in entries)} of {len(entries)}, "
                f"higher in {sum(ratio > 1 + 2 * error for ratio, error in entries)}, "
                f"largest {max(entries)[0]:.2f} +- {max(entries)[1]:.2f}"
            )


if __name__ == "__main__":
    main()
