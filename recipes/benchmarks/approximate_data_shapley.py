"""Approximate Data Shapley against Data Shapley: cost, agreement, detection of wrong labels, bias and coverage.

Movie sentences with 10% flipped labels, 400 validation labels, log loss, one thread. For each number of sentences and
method: CPU seconds of one permutation, the area under the ROC curve for finding the flipped labels, and the correlation
with the reference, Data Shapley after ``--reference`` other permutations. For the approximation also: the sum of its
errors (efficiency gap) with its standard error, relative to the sum of the values; the bound on the bias of the Newton
step relative to the standard deviation of the values; and the share of its 95% intervals that contain the reference,
which has an error of its own. Ten minutes.

    python recipes/benchmarks/approximate_data_shapley.py
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import torch
from data_shapley import movie_features
from sklearn.metrics import roc_auc_score

from lightning_attnflow.shapley import MaxPermutations
from lightning_attnflow.valuation import DataShapley, FrozenEncoderUtility, approximate_data_shapley


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 1000, 3000, 8700], help="at most 8,700")
    parser.add_argument("--permutations", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--reference", type=int, default=100, help="permutations of the reference")
    parser.add_argument("--largest-reference", type=int, default=1000, help="largest size with a reference")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    features, labels, held_out, truth = movie_features(8700, 400)
    print(
        f"{'n':>5} {'method':28} {'s/perm':>7} {'AUC':>5} {'corr.':>6} {'gap':>15} {'bias bound':>10} {'coverage':>8}"
    )
    for size in options.sizes:
        flipped = np.random.default_rng(size).random(size) < 0.1
        game = FrozenEncoderUtility(
            features[:size], np.where(flipped, 1 - labels[:size], labels[:size]), held_out, truth
        )

        def sampled(permutations: int, seed: int = 0, game: FrozenEncoderUtility = game) -> np.ndarray:
            stop = MaxPermutations(permutations)
            return DataShapley(game, stop=stop, truncation=None, seed=seed).fit().result.values

        reference = sampled(options.reference, seed=1) if size <= options.largest_reference else None

        def agreement(values: np.ndarray, reference: np.ndarray | None = reference) -> str:
            return f"{'-':>6}" if reference is None else f"{np.corrcoef(values, reference)[0, 1]:6.3f}"

        for permutations in options.permutations:
            began = time.process_time()
            values = sampled(permutations)
            seconds = (time.process_time() - began) / permutations
            name = f"Data Shapley, {permutations} perm."
            area = roc_auc_score(flipped, -values)
            print(f"{size:5} {name:28} {seconds:7.2f} {area:5.3f} {agreement(values)}", flush=True)
            began = time.process_time()
            result = approximate_data_shapley(game, n_permutations=permutations)
            seconds = (time.process_time() - began) / permutations
            total, spread = result.v_full - result.v_empty, result.values.std()
            gap = f"{result.efficiency_gap / total:+.3f} +- {result.total_stderr / total:.3f}"
            low, high = result.interval()
            covered = "-" if reference is None else f"{((low <= reference) & (reference <= high)).mean():.3f}"
            name, area = f"approximate, {permutations} perm.", roc_auc_score(flipped, -result.values)
            cells = f"{agreement(result.values)} {gap:>16} {result.bias_bound / spread:10.3f} {covered:>8}"
            print(f"{size:5} {name:28} {seconds:7.2f} {area:5.3f} {cells}", flush=True)


if __name__ == "__main__":
    main()
