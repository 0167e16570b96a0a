"""How often the 95% intervals hold the true Shapley value, and what they cost in width.

You will see one row for each game and number of orders: coverage of the intervals of this package and of the normal
ones, their width relative to the normal ones, and coverage when sampling stopped by itself because the intervals had
become narrow (the limit is the half-width that is typical of that number of orders). True values are exact, from all
2^n coalitions, and orders are walked in the table of all payoffs. A second table has the coverage of
`shapley(game, budget=...)`, KernelSHAP and stratified sampling by evaluations a player. About fifteen minutes on one
core.

    python recipes/benchmarks/coverage.py [--runs 1000] [--plain] [--games voting airport]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from known_games import known_games

from lightning_attnflow.shapley import (
    FunctionGame,
    IntervalBelow,
    MaxPermutations,
    PermutationEstimate,
    kernel_shap,
    shapley,
    stratified_shapley,
)
from lightning_attnflow.shapley.exact import coalition_table, shapley_from_table

if __name__ == "coverage":  # numba looks for the package of that name, and this folder comes first on the path
    raise ImportError("recipes/benchmarks/coverage.py is a script, not the package coverage")

ORDERS = (10, 20, 50, 100, 500)
PER_PLAYER = (4, 10, 30, 100)  # evaluations a player
METHODS = {"chosen": shapley, "kernel": kernel_shap, "stratified": stratified_shapley}
TARGET, WIDEST = 0.93, 1.6  # coverage from 20 orders on; width relative to the normal interval at 500
NORMAL_QUANTILE = 1.959964


@dataclass
class Subject:
    """A game whose payoffs are all known, and where its orders come from."""

    table: np.ndarray
    bounds: tuple[np.ndarray, np.ndarray] | None
    antithetic: bool
    random: np.random.Generator

    def __post_init__(self) -> None:
        self.values = shapley_from_table(self.table)
        self.slack = 1e-9 * np.abs(self.values).max()  # rounding is not a miss

    def estimate(self) -> PermutationEstimate:
        ends = {"v_empty": float(self.table[0]), "v_full": float(self.table[-1])}
        return PermutationEstimate(len(self.values), **ends, antithetic=self.antithetic, bounds=self.bounds)

    def feed(self, estimate: PermutationEstimate, n_samples: int) -> None:
        """Draw units and walk them in the table."""
        first = np.argsort(self.random.random((n_samples, 1, len(self.values))), axis=2)
        units = np.concatenate([first, first[:, :, ::-1]], axis=1) if self.antithetic else first
        prefixes = np.cumsum(np.left_shift(1, units), axis=2)  # bit patterns, without the empty one
        steps = np.diff(self.table[np.concatenate([0 * prefixes[:, :, :1], prefixes], axis=2)], axis=2)
        marginals = np.empty(units.shape)
        np.put_along_axis(marginals, units, steps, axis=2)
        estimate.update(units, marginals, n_evaluations=0)

    def run(self, stop: MaxPermutations | IntervalBelow) -> PermutationEstimate:
        estimate = self.estimate()
        while not stop.is_met(estimate):
            self.feed(estimate, int(max(1, stop.samples_until_next_check(estimate))))
        return estimate

    def holds(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return (low - self.slack <= self.values) & (self.values <= high + self.slack)


def study(subject: Subject, n_permutations: int, runs: int) -> dict[str, float]:
    """Coverage and width at a fixed number of orders, and coverage when stopping at the width typical of it."""
    held, held_normal, widths, normal_widths, half_widths = [], [], [], [], []
    for _ in range(runs):
        estimate = subject.run(MaxPermutations(n_permutations))
        low, high = estimate.interval()
        radius = NORMAL_QUANTILE * estimate.stderr
        held.append(subject.holds(low, high))
        held_normal.append(subject.holds(estimate.values - radius, estimate.values + radius))
        widths.append(np.mean(high - low))
        normal_widths.append(np.mean(2 * radius))
        half_widths.append(np.max(high - low) / 2)
    limit = float(np.median(half_widths))
    row = {
        "coverage": float(np.mean(held)),
        "normal": float(np.mean(held_normal)),
        "width": float(np.sum(widths) / max(np.sum(normal_widths), 1e-300)),
        "stopped": np.nan,
        "orders": np.nan,
    }
    if n_permutations >= 20 and limit > 0:  # no criterion looks at errors before ten units
        stopped = [subject.run(IntervalBelow(limit * (1 + 1e-9))) for _ in range(runs)]
        row["stopped"] = float(np.mean([subject.holds(*estimate.interval()) for estimate in stopped]))
        row["orders"] = float(np.mean([estimate.n_permutations for estimate in stopped]))
    return row


def study_budgets(name: str, subject: Subject, runs: int) -> list[str]:
    """Print coverage at budgets by evaluations a player; return the entries of the chooser that miss the target."""
    n = len(subject.values)
    powers = 2 ** np.arange(n)
    game = FunctionGame(lambda rows: subject.table[rows @ powers], n)
    below = []
    for per_player in PER_PLAYER:
        budget = per_player * n
        if budget >= 2**n:
            continue  # exact
        print(f"{name:<22}{per_player:>7}", end="")
        for label, method in METHODS.items():
            repeats = max(20, round(runs / 5 * min(1.0, 10 / per_player)))
            results = [method(game, budget=budget, seed=seed) for seed in range(repeats)]
            coverage = np.mean([subject.holds(*result.interval()) for result in results])
            error = np.sqrt(np.mean([(result.values - subject.values) ** 2 for result in results]))
            stated = np.sqrt(np.mean([result.stderr**2 for result in results]))
            print(f"{coverage:>12.3f}{stated / max(error, 1e-300) if stated > subject.slack else np.nan:>7.2f}", end="")
            below += [f"{name} at {per_player} a player"] if label == "chosen" and coverage < TARGET else []
        print(flush=True)
    return below


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="repetitions of each entry")
    parser.add_argument("--plain", action="store_true", help="single orders instead of antithetic pairs")
    parser.add_argument("--games", nargs="*", help="names of games; all by default")
    options = parser.parse_args()
    print(
        f"{'game':<22}{'orders':>7}{'coverage':>10}{'normal':>8}{'width/normal':>14}{'when narrow':>13}{'at order':>10}"
    )
    below, wide, lowest, subjects = [], [], 1.0, {}
    for name, game in known_games(options.games).items():
        table = coalition_table(game)
        offered = game.marginal_bounds() if hasattr(game, "marginal_bounds") else None
        for label, bounds in ((name, None), (f"{name}, bounded", offered))[: 1 if offered is None else 2]:
            subject = Subject(table, bounds, not options.plain, np.random.default_rng(0))
            subjects.setdefault(name, subject)
            for n_permutations in ORDERS:
                row = study(subject, n_permutations, options.runs)
                print(
                    f"{label:<22}{n_permutations:>7}{row['coverage']:>10.3f}{row['normal']:>8.3f}{row['width']:>14.2f}"
                    f"{row['stopped']:>13.3f}{row['orders']:>10.0f}",
                    flush=True,
                )
                entry = np.nanmin([row["coverage"], row["stopped"]])
                if n_permutations >= 20:
                    lowest = min(lowest, entry)
                    below += [f"{label} at {n_permutations}"] if entry < TARGET else []
                wide += [label] if n_permutations == 500 and row["width"] > WIDEST else []
    print(f"\n{'game':<22}{'a player':>7}" + "".join(f"{label:>12}{'s/e':>7}" for label in METHODS))
    for name, subject in subjects.items():
        below += study_budgets(name, subject, options.runs)
    print("s/e: root mean square of the standard errors over that of the errors.")
    print(
        f"\nLowest coverage from 20 orders on: {lowest:.3f} (standard error about {np.sqrt(0.05 / options.runs):.3f})"
    )
    print(
        f"Below {TARGET:.0%}: {', '.join(below) or 'none'}. "
        f"Wider than {WIDEST} times the normal interval at 500: {', '.join(wide) or 'none'}."
    )


if __name__ == "__main__":
    main()
