"""Script of test_every_logger.py: one fit with every logger, offline, and the same fit with ``pytorch_lightning``."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import models
import torch
from lightning.pytorch.loggers import CometLogger, CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from tiny_training import Classifier, dataset, new_monitor, trainer
from torch.utils.data import DataLoader

from lightning_attnflow import AttentionFlowMonitor
from lightning_attnflow.plots.media_loggers import media_loggers

PAGE = "<!doctype html><title>flow</title>"
PROBES = ["this movie was great!", "a bad film"]


def monitor() -> AttentionFlowMonitor:
    return new_monitor(probes=PROBES)


def every_logger(folder: Path) -> None:
    os.environ["COMET_START_ONLINE"] = "0"  # with online=False Lightning disables the experiment
    loggers: list[Any] = [
        TensorBoardLogger(folder / "tensorboard", name="", version=""),
        CSVLogger(folder / "csv", name="", version=""),
        WandbLogger(save_dir=folder, offline=True, project="attnflow"),
        MLFlowLogger(
            "attnflow", tracking_uri=f"sqlite:///{folder}/mlflow.db", artifact_location=str(folder / "mlflow")
        ),
        CometLogger(offline_directory=str(folder / "comet"), project="attnflow"),
    ]
    watching = monitor()
    run = trainer(folder, callbacks=[watching], logger=loggers)
    run.fit(Classifier())
    for adapter in media_loggers(loggers, folder):
        adapter.log_page("attnflow/test_page", PAGE, run.global_step - 1)
    loggers[2].experiment.finish()
    last = watching.latest[0]
    assert last.conductance is not None
    expected = {"words": last.labels, "values": last.conductance.values.tolist()}
    (folder / "expected.json").write_text(json.dumps(expected))
    loggers[4].experiment.end()


def side_by_side(folder: Path) -> None:
    """Train the same module with both packages, into two folders."""
    for package in ("lightning.pytorch", "pytorch_lightning"):
        pl, loggers = import_module(package), import_module(f"{package}.loggers")

        class Module(pl.LightningModule):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.net = models.bert_classifier()

            def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:  # noqa: ARG002
                return self.net(**batch).loss

            def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
                self.log("val/loss", self.net(**batch).loss, batch_size=3)

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return torch.optim.AdamW(self.parameters(), lr=1e-2)

        pl.seed_everything(3, verbose=False)
        board = loggers.TensorBoardLogger(folder / package, name="", version="")
        run = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=2,
            logger=board,
            callbacks=[monitor()],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            default_root_dir=folder,
        )
        run.fit(Module(), DataLoader(dataset(8), 2), DataLoader(dataset(12), 3))


if __name__ == "__main__":
    {"every_logger": every_logger, "side_by_side": side_by_side}[sys.argv[1]](Path(sys.argv[2]))
