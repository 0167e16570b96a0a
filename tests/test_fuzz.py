"""Random and hostile arguments through the public API; recipes/benchmarks/fuzz.py runs many more."""

from __future__ import annotations

import ast
import importlib
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import Phase, given, seed, settings

import lightning_attnflow
from lightning_attnflow.errors import InputError

FOLDER = str(Path(__file__).parents[1] / "recipes" / "benchmarks")
sys.path.insert(0, FOLDER)
import fuzz  # noqa: E402 - a script, not a package
from fuzz_values import Call  # noqa: E402

sys.path.remove(FOLDER)
N_CASES = 12  # of a function; half of them return


@pytest.mark.parametrize("name", fuzz.CALLS)
def test_calls_return_or_raise_errors_of_the_package_and_change_no_state(name: str) -> None:
    done = fuzz.fuzz(name, N_CASES, first_seed=0)
    assert done.problems == {}
    assert 1 <= done.returned <= done.calls <= N_CASES


@pytest.mark.parametrize("name", fuzz.CALLS)
def test_every_argument_of_a_function_gets_values(name: str) -> None:
    assert set(fuzz.other_arguments(fuzz.CALLS[name])) <= set(fuzz.ARGUMENTS)


def test_unknown_arguments_and_hostile_values_are_rare() -> None:
    n_unknown, n_calls = 0, 0

    @seed(0)
    @settings(max_examples=400, database=None, deadline=None, phases=[Phase.generate])
    @given(fuzz.cases("exact_shapley"))
    def count(arguments: dict[str, object]) -> None:
        nonlocal n_unknown, n_calls
        n_unknown, n_calls = n_unknown + (fuzz.UNKNOWN in arguments), n_calls + 1

    count()
    assert 0 < n_unknown < 0.1 * n_calls


def test_every_public_name_is_called_or_named_as_not_called() -> None:
    """``NOT_CALLED`` says why; a name that is called is not in it."""
    packages = ("attention", "attribution", "callbacks", "flow", "plots", "shapley", "valuation", "viewer")
    modules = [lightning_attnflow, *(importlib.import_module(f"lightning_attnflow.{name}") for name in packages)]
    public = {name for module in modules for name in module.__all__} - {*packages, "errors"}
    used = set()
    for path in Path(FOLDER).glob("fuzz*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            used |= (
                {node.id} if isinstance(node, ast.Name) else {node.attr} if isinstance(node, ast.Attribute) else set()
            )
    assert {name for name in public if name not in used} == set(fuzz.NOT_CALLED)


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
        "returned ndarray with NaN or infinity": lambda: np.array([1.0, np.nan]),
        "ZeroDivisionError at ?: division by zero": lambda: 1 / 0,
        "TypeError at ?: 'int' object is not iterable": lambda: list(3),
    }
    for problem, function in wrong.items():
        monkeypatch.setitem(fuzz.CALLS, "wrong", Call(function, {}))
        assert fuzz.outcome_of("wrong", {})[1] == problem
    assert fuzz.outcome_of("exact_shapley", {fuzz.UNKNOWN: 1}) == (False, None)


def test_files_that_a_failed_call_leaves_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def failing(path: Path) -> None:
        path.with_suffix(".partial").touch()
        raise InputError("path", got=path, expected="another")

    monkeypatch.setitem(fuzz.CALLS, "wrong", Call(failing, {}))
    assert fuzz.outcome_of("wrong", {"path": tmp_path / "input.csv"}) == (False, "left the files ['input.partial']")


def test_a_monitor_that_ends_a_fit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning_attnflow as lib

    usual = {"layout": "dict", "labels": "class", "mask": "right", "ids": "long", "head": "logits", "shrinks": 0}
    usual |= {"train": 2, "validation": 2, "causal": False, "has_tokenizer": True, "has_probes": False, "seed": 0}
    case = usual | {"reader": None, "flow": "attention", "readout": "auto", "index": None, "task": "auto"}
    assert fuzz.outcome_of("fit", {"case": case}) == (True, None)
    monkeypatch.setattr(lib.AttentionFlowMonitor, "on_train_epoch_end", lambda *_: 1 / 0)
    assert "ZeroDivisionError" in str(fuzz.outcome_of("fit", {"case": case})[1])
