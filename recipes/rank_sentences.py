"""Rank movie-review sentences by Data Shapley: which help, which harm, and which are undecided.

    python recipes/rank_sentences.py

A tenth of the 300 labels is flipped, and the two sentences of Ethayarajh & Jurafsky (2021) are added. The script prints
the ten sentences of highest and lowest value with 95% intervals and how many of the flipped labels are among the lowest
values. It writes a CSV file, a searchable HTML page and a removal curve (accuracy on other sentences). It takes about a
minute on one core. Ctrl-C prints the ranking so far; the same command resumes, and the same command in a second
terminal shares the work. To rank a file of your own: attnflow rank FILE.csv --text-column ... --label-column ...
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import rich
from jsonargparse import auto_cli
from movie_reviews import binary_sentences

from lightning_attnflow.errors import InputError, LedgerError
from lightning_attnflow.valuation import LabelledTexts, Ranking, rank_texts, split_sentences

QUESTION = ("This movie was great!", "This was better than I expected.")


def main(
    train_size: int = 300,
    validation_size: int = 400,
    test_size: int = 1000,
    flip: float = 0.1,
    permutations: int = 1000,
    metric: str = "log_loss",
    n_jobs: int = 1,
    seed: int = 0,
    output: str = "ranking",
    cache_dir: str = "features",
) -> None:
    """Rank movie-review sentences.

    Args:
        train_size: number of sentences to rank.
        validation_size: number of sentences for the metric.
        test_size: number of sentences for the removal curve.
        flip: share of the labels to flip.
        permutations: maximum number of permutations.
        metric: log_loss, accuracy, balanced_accuracy, f1 or auc.
        n_jobs: worker processes.
        seed: seed of the split, the flips and the permutations.
        output: directory of the written files.
        cache_dir: directory of the cached features.
    """
    train, held_out = split_sentences(binary_sentences(), train_size, validation_size + test_size, seed=seed)
    validation = held_out.select(range(validation_size))
    test = held_out.select(range(validation_size, len(held_out)))
    flipped = set(np.random.default_rng(seed).permutation(train_size)[: round(flip * train_size)].tolist())
    train = replace(train, labels=[1 - label if i in flipped else label for i, label in enumerate(train.labels)])
    train = LabelledTexts(train.texts + QUESTION, (*train.labels, 1, 1), train.classes)
    start = time.perf_counter()
    ranked = rank_texts(
        train, validation, test=test, metric=metric, permutations=permutations, seed=seed, n_jobs=n_jobs, out=output,
        cache_dir=cache_dir, progress=True,
    )  # fmt: skip
    rich.print(ranked.ranking.table(10))
    counts = ", ".join(f"{count} {sign}" for sign, count in ranked.ranking.counts().items())
    print(f"\n{counts}; {ranked.summary}, {time.perf_counter() - start:.0f} s")
    print_answers(ranked.ranking, flipped)
    print("written:", *ranked.paths, sep="\n  ")
    if ranked.interrupted:
        print("Interrupted. Run the same command again to resume.")


def print_answers(ranking: Ranking, flipped: set[int]) -> None:
    """Print the values of the two added sentences, and how many flipped labels are among the lowest values."""
    great, better = (next(row for row in ranking if row.text == text) for text in QUESTION)
    for row in (great, better):
        print(f"  {row.text!r}: rank {row.rank}, value {row.value:+.5f} [{row.low:+.5f}, {row.high:+.5f}], {row.sign}")
    overlap = great.low <= better.high and better.low <= great.high
    higher = great if great.value > better.value else better
    print(f"  higher estimate: {higher.text!r} ({'undecided: the intervals overlap' if overlap else 'decided'})")
    lowest = {row.index for row in ranking[-len(flipped) :]} if flipped else set()
    print(f"  {len(lowest & flipped)} of {len(flipped)} flipped labels are among the {len(flipped)} lowest values")


if __name__ == "__main__":
    try:
        auto_cli(main)
    except (InputError, LedgerError) as error:
        raise SystemExit(f"error: {error}") from None
