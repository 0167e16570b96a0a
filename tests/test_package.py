"""The package as a whole: public names, cheap import, typing marker."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_attnflow
from lightning_attnflow.errors import CaptureError, GameError, InputError

SUBPACKAGES = tuple(module.name for module in pkgutil.iter_modules(lightning_attnflow.__path__) if module.ispkg)
HEAVY = ("matplotlib", "networkx", "lightning", "torch", "transformers", "numba", "captum", "ray", "rich")


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_package_is_cheap() -> None:
    assert modules_after("import lightning_attnflow").isdisjoint(HEAVY)


def test_the_check_above_can_fail() -> None:
    assert "networkx" in modules_after("import lightning_attnflow, networkx")


@pytest.mark.parametrize("package", ["shapley", "flow"])
def test_core_needs_no_framework(package: str) -> None:
    loaded = modules_after(f"import lightning_attnflow.{package}")
    assert loaded.isdisjoint({"torch", "lightning", "networkx", "transformers", "matplotlib"})


def test_every_public_name_resolves() -> None:
    assert lightning_attnflow.__all__ == sorted(lightning_attnflow.__all__)
    assert set(SUBPACKAGES) <= set(lightning_attnflow.__all__)
    for name in lightning_attnflow.__all__:
        assert getattr(lightning_attnflow, name).__doc__
        assert name in dir(lightning_attnflow)
    with pytest.raises(AttributeError, match=r"no attribute 'atention_flow'.*attention_flow"):
        _ = lightning_attnflow.atention_flow  # type: ignore[attr-defined]


@pytest.mark.parametrize("package", SUBPACKAGES)
def test_all_of_a_subpackage_resolves_without_duplicates(package: str) -> None:
    module = importlib.import_module(f"lightning_attnflow.{package}")
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


def has_example(item: object) -> bool:
    """Whether a docstring has a section Example with a line that is executed and whose output is compared."""
    text = inspect.cleandoc(item.__doc__ or "").partition("\nExample:\n")[2]
    executed = (one for one in doctest.DocTestParser().get_examples(text) if doctest.SKIP not in one.options)
    return any(one.want.strip() for one in executed)


@pytest.mark.parametrize("package", ["", *SUBPACKAGES])
def test_every_public_class_and_function_has_an_example(package: str) -> None:
    module = importlib.import_module(f"lightning_attnflow.{package}".rstrip("."))
    public = {name: getattr(module, name) for name in module.__all__}
    documented = {
        name: item
        for name, item in public.items()
        if inspect.isroutine(item) or (inspect.isclass(item) and not issubclass(item, Exception))
    }
    assert documented
    assert [name for name, item in documented.items() if not has_example(item)] == []


def test_the_check_of_examples_can_fail() -> None:
    class Documented:
        """One line.

        Example:
            >>> 1 + 1
            2
        """

    class WithoutExample:
        """One line."""

    class Skipped:
        """One line.

        Example:
            >>> 1 + 1  # doctest: +SKIP
            2
        """

    class WithoutOutput:
        """One line.

        Example:
            >>> two = 1 + 1
        """

    examples = (Documented, WithoutExample, Skipped, WithoutOutput)
    assert [has_example(item) for item in examples] == [True, False, False, False]


def test_package_is_marked_as_typed() -> None:
    assert (Path(lightning_attnflow.__file__).parent / "py.typed").exists()


def test_errors_say_got_expected_remedy_and_survive_pickling() -> None:
    error = CaptureError("attentions", got="an empty tuple", expected="6 tensors", remedy="Use eager attention.")
    assert str(error) == "attentions: got an empty tuple; expected 6 tensors. Use eager attention."
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is CaptureError
    assert str(copy) == str(error)
    assert issubclass(InputError, ValueError)


def test_game_error_carries_the_coalition_through_pickling() -> None:
    error = GameError.of_coalition("payoff", [2, 0], got="nan", expected="a number", remedy="Define it.")
    assert error.coalition == (2, 0)
    assert "(coalition (2, 0))" in str(error)
    assert pickle.loads(pickle.dumps(error)).coalition == (2, 0)
