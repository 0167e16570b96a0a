"""What every logger receives, read back from its own files; ``pytorch_lightning`` and ``lightning.pytorch`` agree."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from every_logger import PAGE
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

STEPS = [3, 7]  # of the two validations


def run(part: str, folder: Path) -> Path:
    script = Path(__file__).with_name("every_logger.py")
    own = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "WANDB_SILENT": "true"}
    command = [sys.executable, str(script), part, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=os.environ | own, cwd=folder)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run("every_logger", tmp_path_factory.mktemp("every_logger"))


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the table of the first probe at the last step, from the flow in memory."""
    expected = json.loads((folder / "expected.json").read_text())
    return [
        {"layer": layer, "word": word, "flow": value}
        for layer, values in enumerate(expected["values"])
        for word, value in zip(expected["words"], values, strict=True)
    ]


def read_csv(text: str) -> list[dict[str, Any]]:
    return [
        {"layer": int(row["layer"]), "word": row["word"], "flow": float(row["flow"])}
        for row in csv.DictReader(io.StringIO(text))
    ]


def events(folder: Path) -> EventAccumulator:
    everything = {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0}
    return EventAccumulator(str(folder), size_guidance=everything).Reload()


def picture(folder: Path) -> np.ndarray:
    """Return the heat map of the first probe at the last step, as written for the CSV logger."""
    return np.asarray(Image.open(folder / "csv" / "attnflow" / "probe_00_step_000007.png"))


def test_tensorboard(folder: Path) -> None:
    board = events(folder / "tensorboard")
    assert board.Tags()["images"] == ["attnflow/probe_00", "attnflow/probe_01"]
    assert [image.step for image in board.Images("attnflow/probe_00")] == STEPS
    last = Image.open(io.BytesIO(board.Images("attnflow/probe_00")[-1].encoded_image_string))
    np.testing.assert_array_equal(np.asarray(last), picture(folder))
    assert [scalar.step for scalar in board.Scalars("attnflow/seconds")] == STEPS
    assert [text.step for text in board.Tensors("attnflow/probe_00/text_summary")] == STEPS
    assert (folder / "tensorboard" / "attnflow" / "test_page.html").read_text() == PAGE


def test_csv(folder: Path) -> None:
    metrics = list(csv.DictReader((folder / "csv" / "metrics.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in metrics if row["attnflow/seconds"]] == STEPS
    files = sorted(path.name for path in (folder / "csv" / "attnflow").iterdir())
    pictures = [
        f"probe_{probe:02d}_step_{step:06d}.{suffix}" for probe in (0, 1) for step in STEPS for suffix in ("md", "png")
    ]
    assert files == ["page.html", *pictures, "test_page.html"]


def wandb_history(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of the run file: a version, then records in the log format of LevelDB."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    data, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # no room for a header at the end of a block
            position += 32768 - position % 32768
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        parts, position = parts + data[position + 7 : position + 7 + length], position + 7 + length
        if kind in (1, 4):  # complete
            record = wandb_internal_pb2.Record.FromString(parts)
            parts = b""
            if record.WhichOneof("record_type") == "history":
                yield {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
                }


def test_wandb(folder: Path, rows: list[dict[str, Any]]) -> None:
    history = list(wandb_history(folder))
    assert all("trainer/global_step" in row for row in history)

    def steps(key: str) -> list[int]:
        return [row["trainer/global_step"] for row in history if key in row]

    for probe in (0, 1):
        assert steps(f"attnflow/probe_{probe:02d}/filenames") == STEPS
        assert steps(f"attnflow/probe_{probe:02d}_table/path") == STEPS
    assert steps("attnflow/seconds") == STEPS
    (files,) = folder.glob("wandb/offline-run-*/files")
    last = [row for row in history if "attnflow/probe_00_table/path" in row][-1]
    table = json.loads((files / last["attnflow/probe_00_table/path"]).read_text())
    found = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [{key: row[key] for key in rows[0]} for row in found] == rows
    (image,) = [row for row in history if "attnflow/probe_00/filenames" in row][-1]["attnflow/probe_00/filenames"]
    np.testing.assert_array_equal(np.asarray(Image.open(files / image)), picture(folder))
    (page,) = [row for row in history if "attnflow/test_page/path" in row]
    assert PAGE in (files / page["attnflow/test_page/path"]).read_text()


def test_mlflow(folder: Path, rows: list[dict[str, Any]]) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        ((run_id,),) = store.execute("select run_uuid from runs").fetchall()
        found = store.execute("select step from metrics where key = 'attnflow/seconds' order by step").fetchall()
    assert [step for (step,) in found] == STEPS
    artifacts = folder / "mlflow" / run_id / "artifacts"
    assert read_csv((artifacts / "attnflow" / "probe_00" / "step_000007.csv").read_text()) == rows
    assert (artifacts / "attnflow" / "test_page.html").read_text() == PAGE
    images = sorted(path for path in (artifacts / "images").glob("attnflow~probe_00+step+*.png"))
    assert [int(path.name.split("+")[2]) for path in images] == STEPS
    np.testing.assert_array_equal(np.asarray(Image.open(images[-1])), picture(folder))
    assert run_id in {path.parent.name for path in folder.rglob("attention_flow.jsonl")}
    assert not [*folder.glob("*/probe_*"), *folder.glob(f"*/{run_id}/probe_*")]  # no second copy of the artifacts


def test_comet(folder: Path, rows: list[dict[str, Any]]) -> None:
    (path,) = (folder / "comet").glob("*.zip")
    with zipfile.ZipFile(path) as archive:
        messages = [json.loads(line) for line in archive.read("messages.json").decode().splitlines()]
        uploads = [one["payload"] for one in messages if one["type"] == "file_upload"]

        def uploaded(name: str) -> list[tuple[int, bytes]]:
            named = [
                one
                for one in uploads
                if name in (one["additional_params"].get("figName"), one["additional_params"].get("fileName"))
            ]
            return [(one["additional_params"]["step"], archive.read(one["file_path"])) for one in named]

        # comet_ml also copies what TensorBoard receives
        assert sorted({step for step, _ in uploaded("attnflow/probe_00")}) == STEPS
        image = np.asarray(Image.open(io.BytesIO(uploaded("attnflow/probe_00")[-1][1])))
        np.testing.assert_array_equal(image, picture(folder))
        ((_, table),) = uploaded("attnflow/probe_00_step_000007.csv")
        assert read_csv(table.decode()) == rows
        ((_, page),) = uploaded("attnflow/test_page.html")
        assert page.decode() == PAGE
    metrics = [one["payload"]["metric"] for one in messages if one["type"] == "metric_msg"]
    assert sorted({one["step"] for one in metrics if one["metricName"] == "attnflow/seconds"}) == STEPS


def test_both_lightning_packages_write_the_same_events(tmp_path: Path) -> None:
    run("side_by_side", tmp_path)
    new, old = (events(tmp_path / package) for package in ("lightning.pytorch", "pytorch_lightning"))
    assert new.Tags() == old.Tags()
    assert new.Tags()["images"] == ["attnflow/probe_00", "attnflow/probe_01"]
    for name in new.Tags()["scalars"]:
        numbers = [[(scalar.step, scalar.value) for scalar in board.Scalars(name)] for board in (new, old)]
        if name == "attnflow/seconds":
            assert [step for step, _ in numbers[0]] == [step for step, _ in numbers[1]]
        else:
            assert numbers[0] == numbers[1], name
    for name in new.Tags()["images"]:
        pictures = [[(i.step, i.encoded_image_string) for i in board.Images(name)] for board in (new, old)]
        assert pictures[0] == pictures[1]
    for name in new.Tags()["histograms"]:
        assert [h.histogram_value for h in new.Histograms(name)] == [h.histogram_value for h in old.Histograms(name)]
    for name in new.Tags()["tensors"]:
        assert [(t.step, t.tensor_proto) for t in new.Tensors(name)] == [
            (t.step, t.tensor_proto) for t in old.Tensors(name)
        ]
