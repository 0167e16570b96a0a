"""Random and hostile arguments through the public API; recipes/benchmarks/fuzz.py runs many more."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

FOLDER = str(Path(__file__).parents[1] / "recipes" / "benchmarks")
sys.path.insert(0, FOLDER)
import fuzz  # noqa: E402 - a script, not a package

sys.path.remove(FOLDER)


@pytest.mark.parametrize("name", fuzz.CALLS)
def test_calls_return_or_raise_errors_of_the_package_and_change_no_state(name: str) -> None:
    calls, problems = fuzz.fuzz(name, 12, first_seed=0)
    assert (calls >= 1, problems) == (True, {})


@pytest.mark.parametrize("name", fuzz.CALLS)
def test_every_argument_of_a_function_gets_values(name: str) -> None:
    assert set(fuzz.other_arguments(name)) <= set(fuzz.ARGUMENTS)


def test_every_kind_of_problem_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: each of these calls does what no call may do."""
    import logging

    import numpy as np
    import torch

    def many_warnings() -> None:
        for number in range(9):
            warnings.warn(f"warning {number}", stacklevel=1)

    wrong = {
        "changed numpy.random": lambda: np.random.rand(),  # noqa: NPY002
        "changed torch.random": lambda: torch.rand(1),
        "changed environment": lambda: monkeypatch.setenv("FUZZ", "1"),
        "changed log levels": lambda: monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "level", 40),
        "changed the warning filters": lambda: warnings.simplefilter("ignore"),
        "9 warnings, such as UserWarning: warning 0": many_warnings,
        "ZeroDivisionError at ?: division by zero": lambda: 1 / 0,
    }
    for problem, function in wrong.items():
        monkeypatch.setitem(fuzz.CALLS, "wrong", (function, {}))
        assert fuzz.problem_of("wrong", {}) == problem
    assert fuzz.problem_of("exact_shapley", {"no": 1}) is None  # a wrong signature


def test_a_monitor_that_ends_a_fit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning_attnflow as lib

    usual = {"layout": "dict", "labels": "class", "mask": "right", "ids": "long", "head": "logits", "shrinks": 0}
    usual |= {"train": 2, "validation": 2, "causal": False, "has_tokenizer": True, "has_probes": False, "seed": 0}
    case = usual | {"reader": None, "flow": "attention", "readout": "auto", "index": None, "task": "auto"}
    assert fuzz.problem_of("fit", {"case": case}) is None
    monkeypatch.setattr(lib.AttentionFlowMonitor, "on_train_epoch_end", lambda *_: 1 / 0)
    assert "ZeroDivisionError" in str(fuzz.problem_of("fit", {"case": case}))
