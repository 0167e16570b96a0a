"""Two processes: shared sentences, equal averages, one log, common failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from tiny_training import Classifier, trainer

from lightning_attnflow import AttentionFlowMonitor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two_processes")
    script = Path(__file__).with_name("two_processes.py")
    own = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, str(script), str(folder)],
        capture_output=True,
        text=True,
        timeout=400,
        env=os.environ | own | {"GLOO_SOCKET_IFNAME": "lo"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, object]]:
    return [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in (0, 1)]


def averages(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of the monitor except its seconds."""
    return {n: float(v) for n, v in metrics.items() if n.startswith("attnflow/") and n != "attnflow/seconds"}


def test_averages_equal_those_of_one_process(ranks: list[dict[str, dict[str, float]]], tmp_path: Path) -> None:
    monitor = AttentionFlowMonitor(
        models.tokenizer(), probes=["this movie was great!"], method="rollout", scalars="layers"
    )
    run = trainer(tmp_path, callbacks=[monitor])
    run.validate(Classifier(), verbose=False)
    expected = averages(run.callback_metrics)
    assert any("layer_02" in name for name in expected)
    for rank in ranks:
        assert averages(rank["validated"]) == pytest.approx(expected, abs=1e-5)


def test_processes_have_equal_averages_and_log_them_once(folder: Path, ranks: list[dict[str, object]]) -> None:
    assert averages(ranks[0]["fitted"]) == averages(ranks[1]["fitted"]) != {}
    lines = (folder / "csv" / "version_0" / "metrics.csv").read_text().splitlines()
    header = lines[0].split(",")
    assert header.count("attnflow/attention_entropy/layer_00") == 1
    column = header.index("attnflow/attention_entropy/layer_00")
    assert sum(bool(line.split(",")[column]) for line in lines[1:]) == 2  # two epochs
    pictures = sorted(path.name for path in (folder / "csv" / "version_0" / "attnflow").glob("*.png"))
    assert pictures == ["probe_00_step_000001.png", "probe_00_step_000003.png"]


def test_training_is_bit_identical(ranks: list[dict[str, object]]) -> None:
    assert [rank["bit_identical"] for rank in ranks] == [True, True]


def test_training_dynamics_are_gathered_from_all_processes(ranks: list[dict[str, dict[str, list[object]]]]) -> None:
    found = ranks[0]["dynamics"]
    assert found == ranks[1]["dynamics"]
    assert len(set(found["keys"])) == 8
    assert not np.isnan(np.array(found["loss"])).any()
    assert np.shape(found["loss"]) == (2, 8)


def test_left_out_batches_of_all_processes_are_counted(ranks: list[dict[str, dict[str, Any]]]) -> None:
    for rank in ranks:
        found = rank["left_out"]
        assert (found["result"], found["logged"]) == (2, 1.0)  # one in each of two epochs
        assert 0 < found["missing"] <= 4  # at most two examples in each epoch
    (message,) = ranks[0]["left_out"]["warnings"]
    assert "batch 0 of epoch 0 is left out. KeyError: 'gold'" in message
    assert ranks[1]["left_out"]["warnings"] == []


def test_a_failure_in_one_process_disables_the_monitor_in_all(ranks: list[dict[str, list[str]]]) -> None:
    assert not any(name.startswith("attnflow/") for rank in ranks for name in rank["after_failure"])
    assert len(ranks[0]["warnings"]) == 1
    assert "ArithmeticError: only here" in ranks[0]["warnings"][0]
    assert ranks[1]["warnings"] == []
