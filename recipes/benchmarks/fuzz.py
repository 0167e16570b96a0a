"""Call the public API with random valid and hostile arguments, arrays, texts, tokenizers, files, commands and fits.

A call must return finite values, or raise an error of this package, a FileNotFoundError, or a TypeError for an unknown
argument. It must leave the random number generators, warning filters, log levels, environment, working directory, torch
threads and models as they were, leave no file behind if it fails, and give at most three warnings. A damaged ledger or
saved result must be refused or have the content of the intact one. Most arguments are valid, so that more than half of
the calls return. Prints for each function, class and command the number of calls, how many returned, and the problems,
each with an example.

    python recipes/benchmarks/fuzz.py [--cases 10000] [--seed 0] [--only explain read_sentences]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import logging
import os
import random
import signal
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fuzz_arrays
import fuzz_calls
import fuzz_commands
import fuzz_files
import fuzz_ledgers
import fuzz_results
import fuzz_valuation
import numpy as np
import torch
from fuzz_calls import ARGUMENTS, other_arguments
from fuzz_fits import fit, fit_cases
from fuzz_models import classifier, language_model
from fuzz_values import HOSTILE, Call
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from lightning_attnflow.errors import AttnFlowError

_MODULES = (fuzz_arrays, fuzz_calls, fuzz_valuation, fuzz_results, fuzz_files, fuzz_ledgers, fuzz_commands)
CALLS: dict[str, Call] = {name: call for module in _MODULES for name, call in module.CALLS.items()}
CALLS["fit"] = Call(fit, {"case": fit_cases()}, ())

NOT_CALLED = {  # public names: why they are not called
    **dict.fromkeys(("Agreement", "AxiomCheck", "AxiomReport", "Faithfulness", "GroupingComparison"), "a result"),
    **dict.fromkeys(("MethodAudit", "Modularity", "MonitoredSentence", "PermutationMarginals"), "a result"),
    **dict.fromkeys(("RankedTexts", "Verdict"), "a result"),
    **dict.fromkeys(("EdgeSolver", "Game", "MaxFlow", "Solver", "Stop", "Utility"), "a protocol or base class"),
    **dict.fromkeys(("ConservationWarning", "SaturatedFlowWarning"), "a warning"),
    **dict.fromkeys(("PAYOFFS", "SATURATION_THRESHOLD", "SCALARS", "SOLVERS"), "a constant"),
}
LOGGERS = (None, "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero", "transformers")
MOST_WARNINGS, MOST_SECONDS = 3, 300  # a limit for calls that do not end; the first one compiles the flow engine
UNKNOWN = "no_such_argument"
_WRITTEN = ("cache_dir",)  # a file of this name would be written


@dataclass
class Fuzzed:
    """What the calls of one function did.

    Args:
        calls: their number.
        returned: how many of them returned.
        problems: an example of the arguments for each problem.
    """

    calls: int = 0
    returned: int = 0
    problems: dict[str, dict[str, Any]] = field(default_factory=dict)


def one_in(n: int) -> Any:
    """True in one draw of n; ``st.integers(1, n) == 1`` would be in a quarter of the draws."""
    return st.sampled_from(range(n)).map(lambda number: number == n // 2)


@st.composite
def cases(draw: Any, name: str) -> dict[str, Any]:
    """Valid arguments; in a third of the cases one or two are hostile, in one of thirty there is an unknown one."""
    call = CALLS[name]
    arguments = {key: draw(strategy) for key, strategy in call.arguments.items()}
    others = other_arguments(call)
    if others and draw(st.booleans()):
        for key in draw(st.lists(st.sampled_from(others), min_size=1, max_size=2)):
            arguments[key] = draw(ARGUMENTS[key])
    arguments = {**arguments.pop("data", {}), **arguments}
    replaceable = [key for key in arguments if key not in _WRITTEN] if call.hostile is None else call.hostile
    if replaceable and draw(one_in(3)):
        for key in draw(st.lists(st.sampled_from(replaceable), min_size=1, max_size=2)):
            arguments[key] = draw(HOSTILE)
    if draw(one_in(30)):
        arguments[UNKNOWN] = 1
    return arguments


def state() -> dict[str, Any]:
    """The global state that a call must not change."""
    both = classifier(), language_model()
    modes = {f"modes of {type(model).__name__}": [part.training for part in model.modules()] for model in both}
    return modes | {
        "random": random.getstate(),
        "numpy.random": [str(part) for part in np.random.get_state()],  # noqa: NPY002
        "torch.random": torch.get_rng_state().tolist(),
        "warning filters": list(warnings.filters),
        "log levels": {name: logging.getLogger(name).level for name in LOGGERS},
        "environment": dict(os.environ),
        "working directory": os.getcwd(),
        "threads": (torch.get_num_threads(), torch.is_grad_enabled(), np.geterr(), csv.field_size_limit()),
        "attention": [model.config._attn_implementation for model in both],
    }


def outcome_of(name: str, arguments: dict[str, Any]) -> tuple[bool, str | None]:
    """Call a function; return whether it returned, and what is wrong with what it did, or None."""
    function = CALLS[name].function
    folders = _folders(arguments)
    files = {path for folder in folders for path in folder.rglob("*")}
    returned, found, before = False, None, state()
    with warnings.catch_warnings(record=True) as caught, _time_limit():
        warnings.simplefilter("always")
        inside = list(warnings.filters)
        try:
            found = _invalid(function(**arguments))
            returned = True
        except (AttnFlowError, FileNotFoundError):
            left = [path.name for folder in folders for path in folder.rglob("*") if path not in files]
            found = f"left the files {left}" if left else None
        except TimeoutError:
            found = f"took more than {MOST_SECONDS} s"
        except Exception as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "lightning_attnflow/" in f.filename]
            if not isinstance(error, TypeError) or frames or UNKNOWN not in arguments:
                place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
                found = f"{type(error).__name__} at {place}: {str(error)[:110]}"
        if found is None and list(warnings.filters) != inside:
            found = "changed the warning filters"
    after = state()
    changed = [key for key in before if before[key] != after[key]]
    if changed:
        found = f"changed {', '.join(changed)}"
    if found is None and len(caught) > MOST_WARNINGS:
        found = f"{len(caught)} warnings, such as {caught[0].category.__name__}: {str(caught[0].message)[:80]}"
    return returned, found


def _folders(arguments: dict[str, Any]) -> list[Path]:
    """The folders of the files among the arguments."""
    items = [one for value in arguments.values() for one in (value if isinstance(value, list) else [value])]
    return [item.parent for item in items if isinstance(item, Path)]


def _invalid(result: Any) -> str | None:
    """Say that the values of a result are not finite, or return None."""
    for one in result if isinstance(result, tuple) else (result,):
        values = getattr(one, "values", None) if type(one).__module__.startswith("lightning_attnflow") else one
        if isinstance(values, np.ndarray) and values.dtype.kind == "f" and not np.isfinite(values).all():
            return f"returned {type(one).__name__} with NaN or infinity"
    return None


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def fuzz(name: str, n_cases: int, first_seed: int) -> Fuzzed:
    """Call a function with random arguments."""
    done = Fuzzed()

    @seed(first_seed)
    @settings(
        max_examples=n_cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(name))
    def run(arguments: dict[str, Any]) -> None:
        returned, problem = outcome_of(name, arguments)
        done.calls += 1
        done.returned += returned
        if problem and not any(known.split(": ")[0] == problem.split(": ")[0] for known in done.problems):
            done.problems[problem] = arguments

    run()
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=list(CALLS), choices=list(CALLS), metavar="NAME")
    arguments = parser.parse_args()
    total, start = Fuzzed(), time.perf_counter()
    for name in arguments.only:
        done = fuzz(name, -(-arguments.cases // len(arguments.only)), arguments.seed)
        total.calls, total.returned = total.calls + done.calls, total.returned + done.returned
        total.problems |= {f"{name}: {problem}": example for problem, example in done.problems.items()}
        print(f"{name}: {done.calls} calls, {done.returned} returned, {len(done.problems)} problems", flush=True)
        for problem, example in done.problems.items():
            print(f"  {problem}\n    {str(example)[:300]}", flush=True)
    print(
        f"{total.calls} calls of {len(arguments.only)} functions, classes and commands, {total.returned} returned "
        f"({total.returned / total.calls:.0%}), {len(total.problems)} problems, {time.perf_counter() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
