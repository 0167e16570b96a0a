"""Call the public API with random valid and hostile arguments, arrays, texts, tokenizers, files, configs and fits.

A call must return, raise an error of this package, or a TypeError for a wrong signature. It must leave the random
number generators, warning filters, log levels, environment, working directory, torch threads and models as they were,
leave no file behind if it fails, and give at most three warnings. Prints the number of calls and the problems, each
with an example.

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
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz_arrays import MORE_ARGUMENTS, MORE_CALLS
from fuzz_calls import ARGUMENTS, CALLS, HOSTILE, OPTIONS, other_arguments
from fuzz_fits import fit, fit_cases
from fuzz_models import classifier, language_model
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from lightning_attnflow.errors import AttnFlowError

CALLS.update(MORE_CALLS)
CALLS["fit"] = (fit, {"case": fit_cases()})
ARGUMENTS.update(MORE_ARGUMENTS)

LOGGERS = (None, "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero", "transformers")
MOST_WARNINGS, MOST_SECONDS = 3, 300  # a limit for calls that do not end; the first one compiles the flow engine


@st.composite
def cases(draw: Any, name: str) -> dict[str, Any]:
    """Valid arguments of a function, of which up to two are replaced by hostile values."""
    function, strategies = CALLS[name]
    arguments = {key: draw(strategy) for key, strategy in strategies.items()}
    others = other_arguments(name)
    for key in draw(st.lists(st.sampled_from(others), max_size=2)) if others else ():
        arguments[key] = draw(ARGUMENTS[key])
    is_of_package = function.__module__.startswith("lightning_attnflow")
    if is_of_package:
        arguments = {**arguments.pop("data", {}), **arguments}
    replaceable = [key for key in arguments if is_of_package and key not in ("budget", "cache_dir")]
    if replaceable and draw(st.booleans()):
        for key in draw(st.lists(st.sampled_from(replaceable), min_size=1, max_size=2)):
            arguments[key] = draw(HOSTILE)
    options = [key for key in ("network", "flow", "utility", "options", "data") if key in arguments]
    if options and not is_of_package and draw(st.booleans()):
        key = draw(st.sampled_from(options))
        names = [*arguments[key], *OPTIONS.get(name, {}).get(key, ())]
        arguments[key] = {**arguments[key], draw(st.sampled_from(names)): draw(HOSTILE)}
    if draw(st.integers(0, 30)) == 0:
        arguments["no_such_argument"] = 1
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


def problem_of(name: str, arguments: dict[str, Any]) -> str | None:
    """Call a function and return what is wrong with what it did, or None."""
    function = CALLS[name][0]
    folders = [Path(value).parent for value in arguments.values() if isinstance(value, Path)]
    found, before = None, state()
    with warnings.catch_warnings(record=True) as caught, _time_limit():
        warnings.simplefilter("always")
        inside = list(warnings.filters)
        try:
            function(**arguments)
        except AttnFlowError:
            left = [path.name for folder in folders for path in folder.rglob("*") if path.stem != "input"]
            found = f"left the files {left}" if left else None
        except TimeoutError:
            found = f"took more than {MOST_SECONDS} s"
        except Exception as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "lightning_attnflow/" in f.filename]
            if not isinstance(error, TypeError) or frames:
                place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
                found = f"{type(error).__name__} at {place}: {str(error)[:110]}"
        if found is None and list(warnings.filters) != inside:
            found = "changed the warning filters"
    after = state()
    changed = [key for key in before if before[key] != after[key]]
    if changed:
        return f"changed {', '.join(changed)}"
    if found is None and len(caught) > MOST_WARNINGS:
        return f"{len(caught)} warnings, such as {caught[0].category.__name__}: {str(caught[0].message)[:80]}"
    return found


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


def fuzz(name: str, n_cases: int, first_seed: int) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the number of calls of a function and an example for each problem."""
    problems: dict[str, dict[str, Any]] = {}
    count = Counter()

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
        count["calls"] += 1
        problem = problem_of(name, arguments)
        if problem:
            problems.setdefault(problem, arguments)

    run()
    return count["calls"], problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=list(CALLS), choices=list(CALLS))
    arguments = parser.parse_args()
    total, n_problems, start = 0, 0, time.perf_counter()
    for name in arguments.only:
        calls, problems = fuzz(name, -(-arguments.cases // len(arguments.only)), arguments.seed)
        total, n_problems = total + calls, n_problems + len(problems)
        print(f"{name}: {calls} calls, {len(problems)} problems", flush=True)
        for problem, example in problems.items():
            print(f"  {problem}\n    {str(example)[:300]}", flush=True)
    print(
        f"{total} calls of {len(arguments.only)} functions, {n_problems} problems, {time.perf_counter() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
