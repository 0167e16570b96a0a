"""Training is bit-identical with the monitor and averaged weights, torch.compile, resumed runs, and failures."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import models
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from test_training_unchanged import fingerprint, new_monitor
from tiny_training import Classifier, trainer

from lightning_attnflow import AttentionFlowMonitor
from lightning_attnflow.callbacks import recorder as module_of_recorder
from lightning_attnflow.callbacks import sentence_media
from lightning_attnflow.callbacks.recorder import RunRecorder
from lightning_attnflow.callbacks.sentences import ValidationSentences


def fitted(
    folder: Path, *callbacks: pl.Callback, compiled: Any = None, ckpt_path: Path | None = None, **settings: Any
) -> dict[str, Any]:
    pl.seed_everything(3, verbose=False)
    module = Classifier()
    if compiled:
        module.net = models.bert_classifier(num_hidden_layers=1)
        module.net.compile(backend=compiled)
    run = trainer(folder, callbacks=list(callbacks), **settings)
    run.fit(module, ckpt_path=ckpt_path, weights_only=False if ckpt_path else None)
    for monitor in callbacks:
        assert not isinstance(monitor, AttentionFlowMonitor) or monitor.latest or monitor.on_error == "warn"
    return fingerprint(module, run)


AVERAGES = {
    "EMA": lambda: EMAWeightAveraging(decay=0.5),
    "SWA": lambda: StochasticWeightAveraging(swa_lrs=1e-2, swa_epoch_start=1),
}


@pytest.mark.filterwarnings(
    "ignore:.*Swapping scheduler.*", "ignore:.*lr_scheduler.step.*", "ignore:.*optimizer.step.*"
)
@pytest.mark.parametrize("monitor_first", [True, False])
@pytest.mark.parametrize("average", list(AVERAGES))
def test_averaged_weights(tmp_path: Path, average: str, monitor_first: bool) -> None:
    callbacks = [new_monitor(), AVERAGES[average]()]
    found = fitted(tmp_path, *(callbacks if monitor_first else callbacks[::-1]), max_epochs=3)
    assert found == fitted(tmp_path, AVERAGES[average](), max_epochs=3)
    assert found["weights"] != fitted(tmp_path, max_epochs=3)["weights"]


def test_two_monitors(tmp_path: Path, expected: dict[str, Any]) -> None:
    monitors = new_monitor(), new_monitor(flow="conductance", name="second")
    assert fitted(tmp_path, *monitors) == expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The .grad attribute")
def test_compiled_models(tmp_path: Path) -> None:
    compiled: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:  # noqa: ARG001
        compiled.append(0)
        return graph.forward

    def run(*monitors: pl.Callback) -> tuple[dict[str, Any], int]:
        torch._dynamo.reset()
        compiled.clear()
        return fitted(tmp_path, *monitors, compiled=backend, max_epochs=1), len(compiled)

    plain, n_graphs = run()
    assert n_graphs > 0
    assert run(new_monitor()) == (plain, n_graphs)  # with other graphs inductor would draw other dropout masks
    torch._dynamo.reset()


class SaveWithinEpoch(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 6:  # of 4 in an epoch
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "step.ckpt")


@pytest.mark.filterwarnings("ignore:.*resum.*")
@pytest.mark.parametrize("flow", ["attention", "conductance"])
def test_runs_resumed_within_an_epoch(tmp_path: Path, flow: Any) -> None:
    def resumed(folder: Path, *monitors: pl.Callback) -> dict[str, Any]:
        fitted(folder, *monitors, SaveWithinEpoch())
        again = [new_monitor(flow=flow) for _ in monitors]
        return fitted(folder, *again, ckpt_path=folder / "step.ckpt", max_epochs=3)

    found = resumed(tmp_path / "with", new_monitor(flow=flow))
    assert found["epochs"] == 3
    assert found == resumed(tmp_path / "without")


STEPS = {
    "start of the fit": (ValidationSentences, "transformer"),
    "start of the training": (AttentionFlowMonitor, "_say_when"),
    "batch start": (ValidationSentences, "collect"),
    "batch end": (ValidationSentences, "measure"),
    "scalars": (module_of_recorder, "run_scalars"),
    "callbacks that watch": (AttentionFlowMonitor, "_scalars"),
    "record": (RunRecorder, "write"),
    "media": (AttentionFlowMonitor, "_show"),
    "page at the end": (RunRecorder, "log_page"),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The training without the monitor."""
    return fitted(tmp_path_factory.mktemp("expected"))


@pytest.mark.parametrize("step", list(STEPS))
def test_failures_of_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, Any], step: str
) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        random.random(), np.random.random(), torch.rand(3)  # noqa: NPY002
        raise ArithmeticError(f"failure at {step}")

    monkeypatch.setattr(*STEPS[step], failing)
    with pytest.warns(UserWarning, match=f"disabled, training continues. ArithmeticError: failure at {step}"):
        assert fitted(tmp_path, new_monitor(on_error="warn")) == expected
    with pytest.raises(ArithmeticError, match=f"failure at {step}"):
        fitted(tmp_path, new_monitor())


def test_a_new_fit_switches_a_disabled_monitor_on(tmp_path: Path) -> None:
    good = False

    def inputs(batch: Any) -> dict[str, Any]:
        if not good:
            raise ArithmeticError("no such batch")
        return {key: batch[key] for key in ("input_ids", "attention_mask")}

    monitor = new_monitor(inputs=inputs, on_error="warn")
    with pytest.warns(UserWarning, match="is disabled"):
        fitted(tmp_path, monitor)
    assert len(monitor.latest) == 0
    good = True
    fitted(tmp_path, monitor)
    assert len(monitor.latest) == 1


def test_without_a_logger_nothing_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(sentence_media, "log_sentence", lambda *arguments: drawn.append(arguments))
    fitted(tmp_path, new_monitor())
    assert drawn == []
    assert list(tmp_path.iterdir()) == []
