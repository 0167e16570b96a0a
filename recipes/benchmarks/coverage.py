"""Coverage and width of 95% confidence intervals of Shapley values.

Prints one row for each game and number of permutations: coverage of the intervals of this package and of normal
intervals, the ratio of their widths, and coverage when sampling stops by `IntervalBelow` at the median half-width for
that number of permutations. True values are exact, from the payoffs of all 2^n coalitions. A second table has the
coverage of `shapley(game, budget=...)`, KernelSHAP and stratified sampling by evaluations per player. About fifteen
minutes on one core.

With --flows, prints instead the coverage of the intervals of attention flow by layer, on networks of MiniLM. The true
values are flows with a tenth of the default tolerance, and their half-width is allowed for.

    python recipes/benchmarks/coverage.py [--runs 1000] [--plain] [--games voting airport]
    python recipes/benchmarks/coverage.py --flows 50    # seeds for each of eight networks, about five minutes
    python recipes/benchmarks/coverage.py --flows 400 --only "MiniLM 128 [CLS]"    # one of them
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from known_games import known_games

from lightning_attnflow import AttentionNetwork, attention_flow
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

if __name__ == "coverage":  # numba imports a package of this name, and this folder is first on the path
    raise ImportError("recipes/benchmarks/coverage.py is a script, not the package coverage")

PERMUTATIONS = (10, 20, 50, 100, 500)
PER_PLAYER = (4, 10, 30, 100)  # evaluations per player
METHODS = {"auto": shapley, "kernel": kernel_shap, "stratified": stratified_shapley}
TARGET, WIDEST = 0.93, 1.6  # coverage from 20 permutations on; width relative to the normal interval at 500
NORMAL_QUANTILE = 1.959964
FLOW_TARGET, FINE_TOLERANCE, ROUNDING = 0.94, 0.005, 1e-11


@dataclass
class Subject:
    """A game given by the payoffs of all coalitions, and its generator of permutations."""

    table: np.ndarray
    bounds: tuple[np.ndarray, np.ndarray] | None
    antithetic: bool
    random: np.random.Generator

    def __post_init__(self) -> None:
        self.values = shapley_from_table(self.table)
        self.slack = 1e-9 * np.abs(self.values).max()  # tolerance for rounding

    def estimate(self) -> PermutationEstimate:
        payoffs = {"v_empty": float(self.table[0]), "v_full": float(self.table[-1])}
        return PermutationEstimate(len(self.values), **payoffs, antithetic=self.antithetic, bounds=self.bounds)

    def feed(self, estimate: PermutationEstimate, n_samples: int) -> None:
        """Draw samples and look up their marginals in the table."""
        first = np.argsort(self.random.random((n_samples, 1, len(self.values))), axis=2)
        samples = np.concatenate([first, first[:, :, ::-1]], axis=1) if self.antithetic else first
        prefixes = np.cumsum(np.left_shift(1, samples), axis=2)  # bit patterns, without the empty one
        steps = np.diff(self.table[np.concatenate([0 * prefixes[:, :, :1], prefixes], axis=2)], axis=2)
        marginals = np.empty(samples.shape)
        np.put_along_axis(marginals, samples, steps, axis=2)
        estimate.update(samples, marginals, n_evaluations=0)

    def run(self, stop: MaxPermutations | IntervalBelow) -> PermutationEstimate:
        estimate = self.estimate()
        while not stop.is_met(estimate):
            self.feed(estimate, int(max(1, stop.samples_until_next_check(estimate))))
        return estimate

    def covers(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return (low - self.slack <= self.values) & (self.values <= high + self.slack)


def study(subject: Subject, n_permutations: int, runs: int) -> dict[str, float]:
    """Coverage and width at a fixed number of permutations, and coverage when stopping at the median width."""
    covered, covered_normal, widths, normal_widths, half_widths = [], [], [], [], []
    for _ in range(runs):
        estimate = subject.run(MaxPermutations(n_permutations))
        low, high = estimate.interval()
        radius = NORMAL_QUANTILE * estimate.stderr
        covered.append(subject.covers(low, high))
        covered_normal.append(subject.covers(estimate.values - radius, estimate.values + radius))
        widths.append(np.mean(high - low))
        normal_widths.append(np.mean(2 * radius))
        half_widths.append(np.max(high - low) / 2)
    limit = float(np.median(half_widths))
    row = {
        "coverage": float(np.mean(covered)),
        "normal": float(np.mean(covered_normal)),
        "width": float(np.sum(widths) / max(np.sum(normal_widths), 1e-300)),
        "stopped": np.nan,
        "permutations": np.nan,
    }
    if n_permutations >= 20 and limit > 0:  # criteria on errors need ten samples
        stopped = [subject.run(IntervalBelow(limit * (1 + 1e-9))) for _ in range(runs)]
        row["stopped"] = float(np.mean([subject.covers(*estimate.interval()) for estimate in stopped]))
        row["permutations"] = float(np.mean([estimate.n_permutations for estimate in stopped]))
    return row


def study_budgets(name: str, subject: Subject, runs: int) -> list[str]:
    """Print coverage by evaluations per player; return the settings of `shapley` below the target."""
    n = len(subject.values)
    powers = 2 ** np.arange(n)
    game = FunctionGame(lambda rows: subject.table[rows @ powers], n)
    below = []
    for per_player in PER_PLAYER:
        budget = per_player * n
        if budget >= 2**n:
            continue  # exact
        print(f"{name:<22}{per_player:>11}", end="")
        for label, method in METHODS.items():
            repeats = max(20, round(runs / 5 * min(1.0, 10 / per_player)))
            results = [method(game, budget=budget, seed=seed) for seed in range(repeats)]
            coverage = np.mean([subject.covers(*result.interval()) for result in results])
            error = np.sqrt(np.mean([(result.values - subject.values) ** 2 for result in results]))
            stated = np.sqrt(np.mean([result.stderr**2 for result in results]))
            print(f"{coverage:>12.3f}{stated / max(error, 1e-300) if stated > subject.slack else np.nan:>7.2f}", end="")
            below += [f"{name} at {per_player} per player"] if label == "auto" and coverage < TARGET else []
        print(flush=True)
    return below


def flow_cases() -> list[tuple[str, AttentionNetwork]]:
    """Return attention networks of a real model on real text, and sharp synthetic ones."""
    from flow_networks import attentions_of, gradient_weighted, load_minilm, synthetic

    model, tokenizer = load_minilm()
    short, long = (attentions_of(model, tokenizer, n) for n in (32, 128))
    of = AttentionNetwork.from_attentions
    return [
        ("MiniLM 32 [CLS]", of(short, readout="first")),
        ("MiniLM 32 mean readout", of(short, readout="mean")),
        ("MiniLM 32 mean, head 8", of(short, readout="mean", heads=7)),
        ("MiniLM 32 gradients", gradient_weighted(model, tokenizer, 32)),
        ("MiniLM 128 [CLS]", of(long, readout="first")),
        ("MiniLM 128 mean readout", of(long, readout="mean")),
        ("synthetic 32, gain 2", synthetic(32, 5, gain=2)),
        ("synthetic 32, gain 4", synthetic(32, 5, gain=4)),
    ]


def study_flows(seeds: int, only: str) -> None:
    """Print the coverage of the intervals of attention flow with the default tolerance, by layer.

    Args:
        seeds: repetitions for each network.
        only: part of the names of the networks.
    """
    print(f"{'network':<26}{'layer':>6}{'coverage':>10}{'95% low':>9}{'worst player':>14}{'bias':>8}{'error':>8}")
    hits, total, below = 0.0, 0, []
    for name, network in [case for case in flow_cases() if only in case[0]]:
        exact = attention_flow(network, tolerance=FINE_TOLERANCE, seed=10**6)
        flows = [attention_flow(network, seed=seed) for seed in range(seeds)]
        for layer in np.flatnonzero(flows[0].n_permutations):
            truth, low, high = exact.values[layer], exact.low[layer] - ROUNDING, exact.high[layer] + ROUNDING
            unit = exact.total[layer] / len(truth)
            covered = np.stack([(f.low[layer] <= high) & (low <= f.high[layer]) for f in flows])
            errors = np.stack([f.values[layer] - truth for f in flows]) / unit
            coverage, spread = covered.mean(), covered.mean(axis=1).std() / np.sqrt(seeds)  # players are dependent
            print(
                f"{name:<26}{layer:>6}{coverage:>10.3f}{coverage - 1.96 * spread:>9.3f}"
                f"{covered.mean(axis=0).min():>14.3f}{np.abs(errors.mean(axis=0)).max():>8.4f}"
                f"{np.sqrt((errors**2).mean()):>8.4f}",
                flush=True,
            )
            hits, total = hits + coverage, total + 1
            below += [f"{name} layer {layer}"] if coverage < FLOW_TARGET else []
    print(
        "bias: largest mean error of a player; error: root mean square; both as shares of the mean value of the "
        f"players.\nMean coverage of {total} layers: {hits / total:.3f}. Below {FLOW_TARGET:.0%}: "
        f"{', '.join(below) or 'none'}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="repetitions of each setting")
    parser.add_argument("--plain", action="store_true", help="single permutations instead of antithetic pairs")
    parser.add_argument("--games", nargs="*", help="names of games; all by default")
    parser.add_argument("--flows", type=int, metavar="SEEDS", help="study attention flow with this many seeds")
    parser.add_argument("--only", default="", help="with --flows: only networks with this in their name")
    options = parser.parse_args()
    if options.flows:
        study_flows(options.flows, options.only)
        return
    print(f"{'game':<22}{'perms':>7}{'coverage':>10}{'normal':>8}{'width ratio':>14}{'if stopped':>13}{'perms':>10}")
    below, wide, lowest, subjects = [], [], 1.0, {}
    for name, game in known_games(options.games).items():
        table = coalition_table(game)
        bounds_of_game = game.marginal_bounds() if hasattr(game, "marginal_bounds") else None
        for label, bounds in ((name, None), (f"{name}, bounded", bounds_of_game))[: 1 if bounds_of_game is None else 2]:
            subject = Subject(table, bounds, not options.plain, np.random.default_rng(0))
            subjects.setdefault(name, subject)
            for n_permutations in PERMUTATIONS:
                row = study(subject, n_permutations, options.runs)
                print(
                    f"{label:<22}{n_permutations:>7}{row['coverage']:>10.3f}{row['normal']:>8.3f}{row['width']:>14.2f}"
                    f"{row['stopped']:>13.3f}{row['permutations']:>10.0f}",
                    flush=True,
                )
                entry = np.nanmin([row["coverage"], row["stopped"]])
                if n_permutations >= 20:
                    lowest = min(lowest, entry)
                    below += [f"{label} at {n_permutations}"] if entry < TARGET else []
                wide += [label] if n_permutations == 500 and row["width"] > WIDEST else []
    print(f"\n{'game':<22}{'per player':>11}" + "".join(f"{label:>12}{'s/e':>7}" for label in METHODS))
    for name, subject in subjects.items():
        below += study_budgets(name, subject, options.runs)
    print("s/e: root mean square of the standard errors divided by that of the errors.")
    print(
        f"\nLowest coverage from 20 permutations on: {lowest:.3f} (standard error {np.sqrt(0.05 / options.runs):.3f})"
    )
    print(
        f"Below {TARGET:.0%}: {', '.join(below) or 'none'}. "
        f"Wider than {WIDEST} times the normal interval at 500: {', '.join(wide) or 'none'}."
    )


if __name__ == "__main__":
    main()
