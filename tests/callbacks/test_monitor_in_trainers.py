"""The monitor with other features of the Trainer.

=====================================  ===============================================================================
feature                                what the monitor does
=====================================  ===============================================================================
two monitors                           need different names; metrics are named ``attnflow_<name>/...``
weight averaging (EMA, SWA)            measures the weights of the validation batches, whatever the callback order
check_val_every_n_epoch                counts validations, not epochs
EarlyStopping on one of its metrics    the metric exists at every validation; a disabled monitor does not stop the fit
no validation loop                     logs the probes at the end of training epochs, or warns at the start
trainer.test, trainer.predict          logs ``attnflow_test/...``; nothing
Trainer(barebones=True)                is off
the same monitor with another module   starts without references of drift
a new fit after a failure              switches a disabled monitor on
ddp                                    takes sentences of all processes and logs once
ddp_spawn, ddp_notebook                the same; ``latest`` stays empty in the main process, which is said
FSDP, DeepSpeed, ModelParallel         refuses them, and subclasses of them, before training
resumed runs                           continues drift and the count of validations, also within an epoch
torch.compile, AMP, checkpointing      measures the same model; training stays bit-identical
ModelCheckpoint with a metric          needs ``auto_insert_metric_name=False`` for file names without folders
``logger=False``                       draws and writes nothing; metrics are available to callbacks
pytorch_lightning                      logs the same events as with ``lightning.pytorch``
=====================================  ===============================================================================
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.strategies import FSDPStrategy
from tiny_training import PROBE, Classifier, new_monitor, trainer

from lightning_attnflow import AttentionFlowMonitor
from lightning_attnflow.errors import InputError


def metrics(run: pl.Trainer, prefix: str = "attnflow") -> dict[str, float]:
    """Metrics of a monitor without its seconds."""
    found = {name: float(value) for name, value in run.callback_metrics.items() if name.startswith(f"{prefix}/")}
    return {name.removeprefix(f"{prefix}/"): value for name, value in found.items() if not name.endswith("seconds")}


def fitted(folder: Path, *callbacks: pl.Callback, module: Any = None, **settings: Any) -> pl.Trainer:
    pl.seed_everything(3, verbose=False)
    run = trainer(folder, callbacks=list(callbacks), **settings)
    run.fit(Classifier() if module is None else module)
    return run


def test_two_monitors_log_what_each_logs_alone(tmp_path: Path) -> None:
    mean = metrics(fitted(tmp_path, new_monitor(probes=[PROBE])))
    first = metrics(fitted(tmp_path, new_monitor(probes=[PROBE], readout="first", heads=0)))
    monitors = new_monitor(probes=[PROBE]), new_monitor(probes=[PROBE], readout="first", heads=0, name="head_0")
    both = fitted(tmp_path, *monitors)
    assert metrics(both) == mean
    assert metrics(both, "attnflow_head_0") == first != mean
    assert len({monitor.state_key for monitor in monitors}) == 2


def test_monitors_with_equal_names_are_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"name of 2 AttentionFlowMonitors: got '' twice"):
        fitted(tmp_path, new_monitor(), new_monitor(probes=[PROBE]))
    with pytest.raises(InputError, match="name: got 'a/b'"):
        AttentionFlowMonitor(name="a/b")


class Swap(pl.Callback):
    """Validate with other weights than those of the training, like an average of weights."""

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:  # noqa: ARG002
        self.kept = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
        for tensor in pl_module.parameters():
            tensor.data.mul_(0.5)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:  # noqa: ARG002
        pl_module.load_state_dict(self.kept)


def test_the_weights_are_those_of_the_validation_in_every_callback_order(tmp_path: Path) -> None:
    first = metrics(fitted(tmp_path, Swap(), new_monitor(probes=[PROBE])))
    last = metrics(fitted(tmp_path, new_monitor(probes=[PROBE]), Swap()))
    assert first == last
    assert first != metrics(fitted(tmp_path, new_monitor(probes=[PROBE])))


def test_validations_are_counted_not_epochs(tmp_path: Path) -> None:
    seen: list[int] = []

    class Watched(AttentionFlowMonitor):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
            if self.latest:
                seen.append(trainer.current_epoch)
                self.latest = ()

    options: dict[str, Any] = {"method": "rollout", "max_overhead": None, "on_error": "raise"}
    fitted(tmp_path, Watched(every_n_validations=2, **options), max_epochs=8, check_val_every_n_epoch=2)
    assert seen == [1, 5]
    with pytest.warns(FutureWarning, match="every_n_epochs was renamed every_n_validations"):
        assert AttentionFlowMonitor(every_n_epochs=3).schedule.every_n == 3


def test_watched_metrics_exist_at_every_validation(tmp_path: Path) -> None:
    stopping = EarlyStopping("attnflow/drift", patience=10)
    run = fitted(tmp_path, new_monitor(every_n_validations=3), stopping, max_epochs=4)
    assert run.current_epoch == 4
    assert stopping.wait_count + 1 <= 4
    assert 0 <= float(run.callback_metrics["attnflow/drift"]) <= 1


def test_a_disabled_monitor_does_not_end_the_training_through_its_watchers(tmp_path: Path) -> None:
    calls = []

    def inputs(batch: Any) -> dict[str, Any]:
        calls.append(0)
        if len(calls) > 4:  # after the first validation
            raise ArithmeticError("no such batch")
        return {key: batch[key] for key in ("input_ids", "attention_mask")}

    monitor = new_monitor(inputs=inputs, on_error="warn")
    with pytest.warns(UserWarning, match=r"is disabled.*EarlyStopping\(monitor='attnflow/probability'\)"):
        run = fitted(tmp_path, monitor, EarlyStopping("attnflow/probability", patience=1, min_delta=10.0), max_epochs=6)
    assert run.current_epoch == 6


def test_probes_are_logged_without_a_validation_loop(tmp_path: Path) -> None:
    class Untested(Classifier):
        validation_step = None  # type: ignore[assignment]
        val_dataloader = None  # type: ignore[assignment]

    monitor = new_monitor(probes=[PROBE])
    run = fitted(tmp_path, monitor, module=Untested())
    assert monitor.latest[0].text == PROBE
    assert "drift_from_start" in metrics(run)
    with pytest.warns(UserWarning, match="will log nothing"):
        fitted(tmp_path, new_monitor(), limit_val_batches=0)


def test_test_runs_are_logged_under_their_own_name(tmp_path: Path) -> None:
    class Tested(Classifier):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            """Log nothing."""

        test_dataloader = Classifier.val_dataloader
        predict_dataloader = Classifier.val_dataloader

        def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:  # noqa: ARG002
            return self.net(**batch).logits

    module = Tested()
    tested, validated = (trainer(tmp_path, callbacks=[new_monitor()]) for _ in range(2))
    tested.test(module, verbose=False)
    validated.validate(module, verbose=False)
    assert metrics(tested, "attnflow_test") == metrics(validated) != {}
    predicting = trainer(tmp_path, callbacks=[new_monitor()])
    predicting.predict(module)
    assert metrics(predicting) == {}


def test_another_module_starts_without_references(tmp_path: Path) -> None:
    monitor = new_monitor(probes=[PROBE])
    fitted(tmp_path, monitor)
    fresh = new_monitor(probes=[PROBE])
    assert metrics(fitted(tmp_path, monitor)) == metrics(fitted(tmp_path, fresh))
    np.testing.assert_array_equal(monitor.latest[0].conductance.values, fresh.latest[0].conductance.values)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log\\(\\)`")
def test_barebones_trainers_measure_nothing(tmp_path: Path) -> None:
    monitor = new_monitor(probes=[PROBE])
    pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, barebones=True, callbacks=[monitor], default_root_dir=tmp_path
    ).fit(Classifier())
    assert monitor.latest == ()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:LightningCLI's args parameter")
def test_numbers_from_the_command_line_are_read(tmp_path: Path) -> None:
    options = ["--trainer.accelerator=cpu", "--trainer.logger=false", f"--trainer.default_root_dir={tmp_path}"]
    options += ["--trainer.callbacks=lightning_attnflow.AttentionFlowMonitor"]
    options += ["--trainer.callbacks.readout=0", "--trainer.callbacks.heads=1"]
    cli = LightningCLI(Classifier, run=False, args=options, save_config_callback=None, seed_everything_default=3)
    (monitor,) = [callback for callback in cli.trainer.callbacks if isinstance(callback, AttentionFlowMonitor)]
    assert (monitor.settings.readout, monitor.settings.heads) == (0, 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:LightningCLI's args parameter")
def test_a_typo_in_a_configuration_is_named_in_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--trainer.callbacks=lightning_attnflow.AttentionFlowMonitor",
        "--trainer.callbacks.every_n_validation=2",
    ]
    short = {"usage": "%(prog)s [options]"}
    with pytest.raises(SystemExit, match="2"):
        LightningCLI(Classifier, run=False, args=options, save_config_callback=None, parser_kwargs=short)
    lines = capsys.readouterr().err.splitlines()
    assert any("every_n_validation" in line for line in lines)
    assert len(lines) <= 20


def test_subclasses_of_sharding_strategies_are_refused() -> None:
    class Sharding(FSDPStrategy):
        """A strategy of the user."""

    run = SimpleNamespace(strategy=Sharding())
    with pytest.raises(InputError, match="got Sharding, which shards the model"):
        new_monitor()._sentences.transformer(run, Classifier())  # type: ignore[arg-type]


def test_a_checkpoint_named_after_a_metric_needs_no_folder(tmp_path: Path) -> None:
    saving = ModelCheckpoint(
        tmp_path,
        "{epoch}-drift={attnflow/drift:.2f}",
        monitor="attnflow/drift",
        auto_insert_metric_name=False,
    )
    fitted(tmp_path, new_monitor(), saving, enable_checkpointing=True, max_epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["0-drift=1.00.ckpt"]  # nothing to compare with


def test_ddp_spawn_measures_in_its_new_processes(tmp_path: Path) -> None:
    """The model is unpickled in a process where no model was constructed."""
    script = f"""
from pathlib import Path
from lightning.pytorch.loggers import CSVLogger
from tiny_training import PROBE, Classifier, new_monitor, trainer
if __name__ == "__main__":
    folder = Path({str(tmp_path)!r})
    monitor = new_monitor(probes=[PROBE])
    run = trainer(folder, callbacks=[monitor], strategy="ddp_spawn", logger=CSVLogger(folder, "csv", 0), max_epochs=1)
    run.fit(Classifier(train_sentences=4, validation_sentences=3))
    assert monitor.latest == ()
    assert "attnflow/drift_from_start" in run.callback_metrics
"""
    (tmp_path / "script.py").write_text(script)
    own = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | own)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "monitor.latest stays empty in the main process" in done.stderr
    assert (tmp_path / "csv" / "version_0" / "attnflow" / "probe_00_step_000001.png").exists()
