"""The bar appears after two seconds on a terminal, and never changes what is iterated."""

from __future__ import annotations

import io
import itertools
import sys

import pytest

from lightning_attnflow.attribution import explain, progress


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("seconds_an_item", "stream", "shown"), [
    (0.9, _Terminal, True),
    (0.1, _Terminal, False),
    (0.9, io.StringIO, False),
])  # fmt: skip
def test_appears_when_slow_and_on_a_terminal(monkeypatch, seconds_an_item, stream, shown):
    clock = itertools.count()
    stderr = stream()
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock) * seconds_an_item)
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    assert list(progress.show_if_slow(list(range(8)), "coalitions")) == list(range(8))
    assert ("coalitions" in stderr.getvalue()) == shown


def test_does_without_rich(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock) * 10.0)
    monkeypatch.setattr(sys, "stderr", _Terminal())
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert list(progress.show_if_slow("abc", "coalitions")) == ["a", "b", "c"]


def test_a_loop_inside_a_loop_with_a_bar_has_none(monkeypatch):
    clock = itertools.count()
    stderr = _Terminal()
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock) * 10.0)
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    found = [list(progress.show_if_slow("xy", "coalitions")) for _ in progress.show_if_slow("abc", "sentences")]
    assert found == [["x", "y"]] * 3
    assert "sentences" in stderr.getvalue()
    assert "coalitions" not in stderr.getvalue()
    assert list(progress.show_if_slow("xy", "afterwards")) == ["x", "y"]
    assert "afterwards" in stderr.getvalue()


@pytest.mark.parametrize("method", ["integrated_gradients", "smooth_grad"])
def test_gradients_taken_in_batches_have_a_bar(monkeypatch, method, encoder, tokenizer):
    pytest.importorskip("captum")
    stderr = _Terminal()
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    explain(encoder, tokenizer, "a good film", method=method, batch_size=8)
    assert "gradients" in stderr.getvalue()
