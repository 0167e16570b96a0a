"""Training is bit-identical with and without the monitor."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import models
import numpy as np
import pytest
import torch
from tiny_training import Classifier, OwnHead, dataset, trainer
from torch.utils.data import DataLoader

from lightning_attnflow import AttentionFlowMonitor


def fingerprint(module: Classifier, run: pl.Trainer) -> dict[str, Any]:
    """Return the state after training, comparable with ==."""
    numpy_state = np.random.get_state()  # noqa: NPY002 the global state is compared
    modules = list(module.modules())
    return {
        "epochs": run.current_epoch,
        "weights": {name: tensor.tolist() for name, tensor in module.state_dict().items()},
        "optimizer": [
            {key: value.tolist() if isinstance(value, torch.Tensor) else value for key, value in state.items()}
            for optimizer in run.optimizers
            for state in optimizer.state.values()
        ],
        "gradients": [None if p.grad is None else p.grad.tolist() for p in module.parameters()],
        "requires_grad": [p.requires_grad for p in module.parameters()],
        "modes": [m.training for m in modules],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in modules],
        "config": module.net.config.to_dict(),
        "implementation": module.net.config._attn_implementation,
        "python": random.getstate(),
        "numpy": [part.tolist() if isinstance(part, np.ndarray) else part for part in numpy_state],
        "torch": torch.get_rng_state().tolist(),
        "loss": {key: float(value) for key, value in run.callback_metrics.items() if key.startswith("val/")},
    }


def fitted(
    folder: Path,
    monitor: AttentionFlowMonitor | None,
    loaders: Any = None,
    *,
    checkpointing: bool = False,
    kind: type[Classifier] = Classifier,
    **settings: Any,
) -> dict[str, Any]:
    pl.seed_everything(3, verbose=False)
    module = kind()
    module.net.base_model.embeddings.requires_grad_(False)
    if checkpointing:
        module.net.activation_checkpointing_enable()
    run = trainer(folder, callbacks=[monitor] if monitor else [], **settings)
    run.fit(module, val_dataloaders=loaders)
    if monitor is not None:
        assert monitor.latest, "the monitor did not run"
    return fingerprint(module, run)


def new_monitor(**changes: Any) -> AttentionFlowMonitor:
    settings = {
        "probes": ["this movie was unwatchable!"],
        "method": "rollout",
        "max_overhead": None,
        "on_error": "raise",
    }
    return AttentionFlowMonitor(models.tokenizer(), **settings | changes)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"accumulate_grad_batches": 3},
        {"limit_val_batches": 2, "num_sanity_val_steps": 0},
        {"val_check_interval": 0.5},
        {"gradient_clip_val": 0.5, "logger": True},
        {"precision": "bf16-mixed"},
    ],
    ids=str,
)
def test_training_is_bit_identical(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert fitted(tmp_path, new_monitor(), **settings) == fitted(tmp_path, None, **settings)


@pytest.mark.parametrize(
    "settings", [{}, {"accumulate_grad_batches": 3}, {"precision": "bf16-mixed"}, {"checkpointing": True}], ids=str
)
def test_training_is_bit_identical_with_gradients_of_the_conductance_flow(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    monitor = new_monitor(flow="conductance")
    assert fitted(tmp_path, monitor, **settings) == fitted(tmp_path, None, **settings)
    assert monitor.latest[0].conductance is not None


def test_training_is_bit_identical_with_a_head_of_the_module(tmp_path: Path) -> None:
    monitor = new_monitor()
    assert fitted(tmp_path, monitor, kind=OwnHead) == fitted(tmp_path, None, kind=OwnHead)
    assert monitor.latest[0].conductance is not None


def test_training_is_bit_identical_with_several_validation_loaders(tmp_path: Path) -> None:
    def loaders() -> list[Any]:
        return [DataLoader(dataset(4), 3), DataLoader(dataset(6, left=True), 2, shuffle=True)]

    assert fitted(tmp_path, new_monitor(), loaders()) == fitted(tmp_path, None, loaders())


def test_training_is_bit_identical_with_the_shapley_flow(tmp_path: Path) -> None:
    monitor = new_monitor(method="shapley", probes=["a bad film"], max_sentences=0)
    assert fitted(tmp_path, monitor) == fitted(tmp_path, None)


def test_training_is_bit_identical_when_the_monitor_fails(tmp_path: Path) -> None:
    def unreadable(_batch: Any) -> Any:
        random.random(), np.random.random(), torch.rand(3)  # noqa: NPY002
        raise ArithmeticError("no such batch")

    pl.seed_everything(3, verbose=False)
    module = Classifier()
    module.net.bert.embeddings.requires_grad_(False)
    run = trainer(tmp_path, callbacks=[new_monitor(inputs=unreadable, on_error="warn")])
    with pytest.warns(UserWarning, match="disabled, training continues. ArithmeticError: no such batch"):
        run.fit(module)
    assert fingerprint(module, run) == fitted(tmp_path, None)


def test_the_comparison_detects_an_extra_random_draw(tmp_path: Path) -> None:
    class Careless(AttentionFlowMonitor):
        def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            super().on_validation_epoch_end(trainer, pl_module)
            torch.rand(1)

    careless = Careless(max_sentences=1, method="rollout")
    assert fitted(tmp_path, careless)["weights"] != fitted(tmp_path, None)["weights"]
