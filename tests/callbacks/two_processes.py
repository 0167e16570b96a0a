"""Script of test_two_processes.py: train with two gloo processes on the CPU and write the results of each."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import models
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger
from tiny_training import Classifier, trainer

from lightning_attnflow import AttentionFlowMonitor, TrainingDynamicsMonitor


def fails_in_the_second_process(batch: Any) -> dict[str, Any]:
    if torch.distributed.get_rank() == 1:
        raise ArithmeticError("only here")
    return {key: batch[key] for key in ("input_ids", "attention_mask")}


class LabelsOfTheFirstProcess:
    """Labels of the batches, which the second process does not have in the first batch of every epoch."""

    def __init__(self) -> None:
        self.n_batches = 0

    def __call__(self, batch: Any) -> torch.Tensor:
        self.n_batches += 1
        if torch.distributed.get_rank() == 1 and self.n_batches % 2 == 1:
            raise KeyError("gold")
        return batch["labels"]


def fitted(folder: Path, monitors: list[pl.Callback], logger: Any = False) -> tuple[pl.Trainer, list[Any]]:
    pl.seed_everything(3, verbose=False)
    module = Classifier()
    run = trainer(folder, strategy="ddp", devices=2, callbacks=monitors, max_epochs=2, logger=logger)
    run.fit(module)
    return run, [tensor.tolist() for tensor in module.state_dict().values()]


def main(folder: Path) -> None:
    settings: dict[str, Any] = {
        "tokenizer": models.tokenizer(),
        "probes": ["this movie was great!"],
        "method": "rollout",
        "scalars": "layers",
        "max_overhead": None,
    }
    monitor = AttentionFlowMonitor(**settings, on_error="raise")
    run = trainer(folder, strategy="ddp", devices=2, callbacks=[monitor])
    run.validate(Classifier(), verbose=False)
    validated = {name: float(value) for name, value in run.callback_metrics.items()}

    logger = CSVLogger(folder, name="csv", version=0)
    dynamics = TrainingDynamicsMonitor(on_error="raise")
    run, weights = fitted(folder, [AttentionFlowMonitor(**settings, on_error="raise"), dynamics], logger)
    _, plain = fitted(folder, [])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        leaving_out = TrainingDynamicsMonitor(labels=LabelsOfTheFirstProcess(), on_error="raise")
        left_out, trained = fitted(folder, [leaving_out])
        failing, survived = fitted(folder, [AttentionFlowMonitor(**settings, inputs=fails_in_the_second_process)])
    result = {
        "dynamics": {"loss": dynamics.result.loss.tolist(), "keys": dynamics.result.keys},
        "left_out": {
            "result": leaving_out.result.left_out_batches,
            "logged": float(left_out.callback_metrics["dynamics/left_out_batches"]),
            "missing": int(np.isnan(leaving_out.result.loss).sum()),
            "warnings": [str(warning.message) for warning in caught if "left out" in str(warning.message)],
        },
        "validated": validated,
        "bit_identical": weights == plain == survived == trained,
        "fitted": {name: float(value) for name, value in run.callback_metrics.items()},
        "after_failure": sorted(failing.callback_metrics),
        "warnings": [str(warning.message) for warning in caught if "is disabled" in str(warning.message)],
    }
    (folder / f"rank_{run.global_rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
