"""Progress bar: delay, terminal, nesting, missing rich."""

from __future__ import annotations

import io
import itertools
import re
import sys

import pytest

from lightning_attnflow import _progress
from lightning_attnflow._progress import progress_bar, track
from lightning_attnflow.errors import MissingDependencyError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds_per_call: float, stream: io.StringIO) -> None:
    clock = itertools.count()
    monkeypatch.setattr(_progress.time, "monotonic", lambda: next(clock) * seconds_per_call)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.parametrize(
    ("seconds", "stream", "drawn"), [(0.9, Terminal, True), (0.1, Terminal, False), (0.9, io.StringIO, False)]
)
def test_slow_loops_have_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, seconds: float, stream: type[io.StringIO], drawn: bool
) -> None:
    stderr = stream()
    set_clock(monkeypatch, seconds, stderr)
    assert list(track(list(range(8)), "coalitions")) == list(range(8))
    assert ("coalitions" in stderr.getvalue()) == drawn


def test_loops_run_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, 10.0, Terminal())
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    assert list(track("abc", "coalitions")) == ["a", "b", "c"]
    with pytest.raises(MissingDependencyError, match="the progress bar"), progress_bar(1, "coalitions", always=True):
        pass


def test_nested_loops_have_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = Terminal()
    set_clock(monkeypatch, 10.0, stderr)
    assert [list(track("xy", "coalitions")) for _ in track("abc", "sentences")] == [["x", "y"]] * 3
    assert "sentences" in stderr.getvalue()
    assert "coalitions" not in stderr.getvalue()
    assert list(track("xy", "afterwards")) == ["x", "y"]
    assert "afterwards" in stderr.getvalue()


def test_a_required_bar_is_drawn_without_delay_and_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    with progress_bar(None, "permutations", unit="steps", always=True) as bar:
        bar.update(3, total=6, description="more permutations")
        bar.print("a line above the bar")
    assert "a line above the bar" in stderr.getvalue()
    assert "more permutations" in stderr.getvalue()
    assert "3 of 6 steps" in stderr.getvalue()


@pytest.mark.parametrize("columns", [60, 70, 80, 99, 100, 120, 200])
def test_a_long_description_leaves_the_numbers_and_the_remaining_time_whole(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("COLUMNS", str(columns))
    description = "2960 helpful, 1449 harmful, 4262 undecided"
    with progress_bar(10_000_000, "Data Shapley", unit="permutations", always=True) as bar:
        for completed in range(50):
            bar.update(completed, description=description)
    lines = stderr.getvalue().splitlines()
    assert len(lines) == 1
    assert len(lines[0]) <= columns
    shown, remaining = re.fullmatch(r"(.*?) +(?:\S* )?49 of 10000000 permutations (.* left)", lines[0]).groups()
    assert re.fullmatch(r"(\d+:\d\d:\d\d )?\d+:\d\d:\d\d left" if columns >= 100 else r"\d+:\d\d:\d\d left", remaining)
    assert description.startswith(shown.removesuffix("…").rstrip())
    assert len(shown) >= 12
