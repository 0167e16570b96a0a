"""A LightningModule with a tiny model and dropout, its data, a minimal trainer and a fast monitor."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import models
import numpy as np
import torch
from torch.utils.data import DataLoader

from lightning_attnflow import AttentionFlowMonitor, TrainingDynamicsMonitor

PROBE = "this movie was unwatchable!"
SENTENCES = [
    "this movie was great!",
    "a bad film.",
    "unwatchable",
    "I saw it so very good",
    "a sad story told well by no one",
]


def dataset(n_sentences: int = 12, *, left: bool = False) -> list[dict[str, torch.Tensor]]:
    """Return tokenised sentences, all padded to 16 tokens, with labels."""
    tokenizer = models.tokenizer()
    texts = [f"{SENTENCES[index % 5]} {SENTENCES[(index // 5) % 5]}" for index in range(n_sentences)]
    tokenizer.padding_side = "left" if left else "right"
    encoded = tokenizer(texts, padding="max_length", max_length=16, return_tensors="pt", return_token_type_ids=False)
    return [
        {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor(index % 2)}
        for index, (ids, mask) in enumerate(zip(encoded["input_ids"], encoded["attention_mask"], strict=True))
    ]


class Classifier(pl.LightningModule):
    """Train with dropout and draws from every global RNG, so that a disturbed RNG changes the weights."""

    def __init__(
        self, model: str = "bert_classifier", train_sentences: int = 8, validation_sentences: int = 12
    ) -> None:
        super().__init__()
        self.net = getattr(models, model)()
        self.train_sentences, self.validation_sentences = train_sentences, validation_sentences

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        noise = random.random() + np.random.random() + torch.rand(())  # noqa: NPY002 global RNGs
        return self.net(**batch).loss * (1 + 0.1 * noise)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:  # noqa: ARG002
        batch = dict(batch)
        self.log("val/loss", self.net(**batch).loss, batch_size=len(batch["input_ids"]), add_dataloader_idx=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)

    def train_dataloader(self) -> Any:
        return DataLoader(dataset(self.train_sentences), batch_size=2, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(dataset(self.validation_sentences), batch_size=3)


class OwnHead(Classifier):
    """An encoder with a linear layer, whose forward returns the logits."""

    def __init__(self) -> None:
        super().__init__("bert")
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.head = torch.nn.Linear(self.net.config.hidden_size, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.net(input_ids, attention_mask=attention_mask).last_hidden_state
        return self.head(torch.nn.functional.dropout(states[:, 0], training=self.training))

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self(batch["input_ids"], batch["attention_mask"]), batch["labels"])

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:  # noqa: ARG002
        self.log("val/loss", self.loss(batch), batch_size=len(batch["input_ids"]), add_dataloader_idx=True)


def trainer(folder: Path, **settings: Any) -> pl.Trainer:
    """Return a CPU trainer with two epochs and without logger and checkpoints."""
    defaults = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "default_root_dir": folder,
    }
    return pl.Trainer(**defaults | settings)


def new_monitor(**changes: Any) -> AttentionFlowMonitor:
    settings = {
        "tokenizer": models.tokenizer(),
        "method": "rollout",
        "scalars": "layers",
        "max_overhead": None,  # these fits take less than a second
        "on_error": "raise",
    }
    return AttentionFlowMonitor(**settings | changes)


def validated(folder: Path, monitor: AttentionFlowMonitor, loaders: Any = None, **module: Any) -> dict[str, float]:
    run = trainer(folder, callbacks=[monitor])
    run.validate(Classifier(**module), loaders, verbose=False)
    return {name: float(value) for name, value in run.callback_metrics.items() if name.startswith("attnflow/")}


def dynamics_monitor(**changes: Any) -> TrainingDynamicsMonitor:
    """Monitor that raises, with the tokenizer of the tests."""
    return TrainingDynamicsMonitor(**{"tokenizer": models.tokenizer(), "on_error": "raise"} | changes)
