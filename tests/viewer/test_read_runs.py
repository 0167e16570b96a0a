"""Runs are read from record files and from event files, and the command line writes their page."""

from __future__ import annotations

import pytest
from runs import run_log
from torch.utils.tensorboard import SummaryWriter

from lightning_attnflow.cli import main
from lightning_attnflow.errors import InputError
from lightning_attnflow.viewer import RunLog, read_runs
from lightning_attnflow.viewer.run_log import FILE_NAME
from lightning_attnflow.viewer.summary import record_summary


def test_both_kinds_of_files(tmp_path) -> None:
    (tmp_path / "file").mkdir()
    run_log(0).write(tmp_path / "file" / FILE_NAME)
    writer = SummaryWriter(tmp_path / "events" / "version_0")
    writer.add_scalar("loss", 1.0, 0)
    for record in run_log(1).records():
        writer._get_file_writer().add_summary(record_summary(record), record["step"])
    writer.close()
    runs = read_runs(tmp_path)
    assert list(runs) == ["events/version_0", "file"]
    assert runs["file"].documents() == run_log(0).documents()
    assert runs["events/version_0"].documents() == run_log(1).documents()
    assert list(read_runs(tmp_path / "file")) == ["file"]


def test_the_command_writes_a_page_and_prints_verdicts(tmp_path, capsys) -> None:
    run_log(0).write(tmp_path / FILE_NAME)
    assert main(["view", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    assert f"{tmp_path.name}: The prediction turned." in capsys.readouterr().out
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_directory_without_records_is_refused(tmp_path, capsys) -> None:
    SummaryWriter(tmp_path).close()
    for read in (read_runs, RunLog.read):
        with pytest.raises(InputError, match="got no records"):
            read(tmp_path)
    assert main(["view", str(tmp_path)]) == 2
    assert "got no records" in capsys.readouterr().err


def test_edges_of_old_steps_are_dropped_first() -> None:
    run = run_log(0, steps=(0, 10, 20, 30))
    parts = run.edges("probe_00", 0).values()
    of_sentence = sum(len(array["data"]) for part in parts for array in part.values() if isinstance(array, dict))
    run.limit_edges(3 * 2 * of_sentence)  # of three steps of two sentences
    assert [step for step in (0, 10, 20, 30) if run.edges("probe_00", step)] == [0, 20, 30]
    assert run.sentence("probe_01")["steps"][1]["flows"]["conductance"]["has_edges"] is False
