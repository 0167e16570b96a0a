"""Units computed here, by joblib's workers or by Ray's; in any case they arrive in the order of their index.

The game is handed to a worker once, not with every task: through a file for loky, through the object store for Ray.
A worker that dies costs the units it was at, which are done again. Ray is asked directly: its backend for joblib
waits for ever once a worker has died.
"""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning_attnflow.errors import AttnFlowError, GameError, InputError, MissingDependencyError
from lightning_attnflow.shapley import Game
from lightning_attnflow.valuation.walk import Plan, Unit, walk_unit

BACKENDS = ("loky", "threading", "ray")
_ATTEMPTS = 4  # worker deaths in a row, no unit finished in between, before the run gives up

_in_this_worker: dict[str, Game] = {}  # the game by the token of its run; one at a time


class WorkersDiedError(AttnFlowError, RuntimeError):
    """Workers that die again and again without finishing a unit."""


def check_workers(n_jobs: object, backend: str) -> int:
    """The number of workers to use: ``n_jobs``, or all cores for -1, and on this machine no more than its cores.

    Raises:
        InputError: if ``n_jobs`` is neither -1 nor >= 1, or there is no such backend.
        MissingDependencyError: if the backend is not installed.
    """
    if backend not in BACKENDS:
        raise InputError("backend", got=repr(backend), expected=f"one of {BACKENDS}", remedy="Pass backend='loky'.")
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or (n_jobs < 1 and n_jobs != -1):
        raise InputError("n_jobs", got=repr(n_jobs), expected="an integer >= 1, or -1 for all", remedy="Pass n_jobs=1.")
    if n_jobs != 1:
        _import(backend)
    if backend == "ray":
        return n_jobs
    cores = _cores()
    if n_jobs > cores:
        warnings.warn(
            f"n_jobs: got {n_jobs}, but this machine has {cores} cores; {cores} workers of one thread each are used. "
            f"Pass n_jobs={cores} or -1.",
            stacklevel=3,
        )
    return cores if n_jobs == -1 else min(n_jobs, cores)


@contextmanager
def unit_source(
    game: Game, plan: Plan, n_jobs: int, backend: str
) -> Iterator[Callable[[Sequence[int]], Iterator[Unit]]]:
    """A function from indices to their units, in the same order; workers are let go at the end.

    Args:
        game: the game; for workers it must pickle.
        plan: of the run.
        n_jobs: number of workers; 1 works in this process.
        backend: loky, threading or ray.
    """
    if n_jobs == 1 or backend == "threading":
        with torch_threads(plan.threads):
            if n_jobs == 1:
                yield lambda indices: (walk_unit(game, plan, index) for index in indices)
            else:
                yield lambda indices: _parallel(
                    indices, n_jobs, backend, lambda index: (_walk_in_thread, game, plan, index)
                )
        return
    with _handed_over(game, backend) as handle:
        if backend == "ray":
            yield lambda indices: _on_ray(indices, n_jobs, handle, plan)
            return
        yield lambda indices: _parallel(indices, n_jobs, backend, lambda index: (_walk_in_worker, handle, plan, index))


def _parallel(
    indices: Sequence[int], n_jobs: int, backend: str, task: Callable[[int], tuple[Any, ...]]
) -> Iterator[Unit]:
    joblib = _import(backend)
    left, failures = list(indices), 0
    while left:
        units = None
        try:
            parallel = joblib.Parallel(
                n_jobs=n_jobs, backend=backend, return_as="generator", pre_dispatch="2*n_jobs", batch_size=1
            )
            units = parallel(joblib.delayed(function)(*rest) for function, *rest in map(task, tuple(left)))
            for outcome in units:
                if isinstance(outcome, _Failure):
                    raise outcome.error()
                assert outcome.index == left[0]
                left.pop(0)
                failures = 0
                yield outcome
        except Exception as error:
            if not _is_worker_death(error):
                raise
            failures += 1
            if failures >= _ATTEMPTS:
                raise _died(failures, left[0], error) from error
            warnings.warn(f"A worker died ({type(error).__name__}); its units are done again.", stacklevel=2)
        finally:
            if units is not None:
                with warnings.catch_warnings():  # that what was under way is thrown away, which is the intention
                    warnings.simplefilter("ignore", UserWarning)
                    units.close()


def _on_ray(indices: Sequence[int], n_jobs: int, handle: Any, plan: Plan) -> Iterator[Unit]:
    """Ray tasks, ``n_jobs`` at a time; Ray itself gives a task whose worker died to another one."""
    import ray

    walk = ray.remote(max_retries=_ATTEMPTS - 1)(_walk_in_worker)
    limit = n_jobs if n_jobs > 0 else max(1, int(ray.cluster_resources()["CPU"]))  # type: ignore[no-untyped-call]
    waiting, running, finished = list(reversed(indices)), dict[Any, int](), dict[int, Unit | _Failure]()
    for index in indices:
        while index not in finished:
            while waiting and len(running) < limit:
                submitted = waiting.pop()
                running[walk.remote(handle, plan, submitted)] = submitted
            ready, _ = ray.wait(list(running), num_returns=1)
            number = running.pop(ready[0])
            try:
                finished[number] = ray.get(ready[0])
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
                raise _died(_ATTEMPTS, number, error) from error
        outcome = finished.pop(index)
        if isinstance(outcome, _Failure):
            raise outcome.error()
        yield outcome


def _died(times: int, index: int, error: Exception) -> WorkersDiedError:
    return WorkersDiedError(
        "workers",
        got=f"{times} deaths in a row at unit {index}: {type(error).__name__}",
        expected="workers that live",
        remedy="They may run out of memory: lower n_jobs or the chunk size. Finished units are kept.",
    )


def _walk_in_thread(game: Game, plan: Plan, index: int) -> Unit | _Failure:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(plan.threads)  # OpenMP keeps the number by thread
    return _caught(game, plan, index)


def _walk_in_worker(handle: Any, plan: Plan, index: int) -> Unit | _Failure:
    token, where = handle
    if token not in _in_this_worker:
        _in_this_worker.clear()
        if isinstance(where, Path):
            _in_this_worker[token] = pickle.loads(where.read_bytes())
        else:
            import ray

            _in_this_worker[token] = ray.get(where)
    with torch_threads(plan.threads):
        return _caught(_in_this_worker[token], plan, index)


def _caught(game: Game, plan: Plan, index: int) -> Unit | _Failure:
    try:
        return walk_unit(game, plan, index)
    except GameError as error:  # its coalition would be lost between processes
        return _Failure(error)


class _Failure:
    """A game error with its coalition, as it travels from a worker."""

    def __init__(self, error: GameError) -> None:
        self._parts = (error.what, error.got, error.expected, error.remedy, error.coalition)

    def error(self) -> GameError:
        what, got, expected, remedy, coalition = self._parts
        rebuilt = GameError(what, got=got, expected=expected, remedy=remedy)
        rebuilt.coalition = coalition
        return rebuilt


@contextmanager
def _handed_over(game: Game, backend: str) -> Iterator[tuple[str, Any]]:
    token = os.urandom(16).hex()
    if backend == "ray":
        import ray

        if not ray.is_initialized():
            ray.init(log_to_driver=False)
        yield token, ray.put(game)
        return
    from joblib.externals.loky.backend.reduction import dumps  # pickles lambdas too, as loky itself does

    with tempfile.TemporaryDirectory(prefix="data-shapley-") as folder:
        path = Path(folder) / "game.pickle"
        try:
            path.write_bytes(bytes(dumps(game)))
        except Exception as error:
            raise InputError(
                "utility",
                got=f"{type(error).__name__} when pickled: {error}",
                expected="a game that can be sent to worker processes",
                remedy="Pass n_jobs=1 or backend='threading'.",
            ) from error
        yield token, path


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """So many torch threads; nothing where torch is not loaded, as with a game in NumPy, whose workers start faster."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def thread_limit() -> int:
    """The threads torch may use, or the cores of the machine where torch is not loaded."""
    torch = sys.modules.get("torch")
    return _cores() if torch is None else int(torch.get_num_threads())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _import(backend: str) -> Any:
    """joblib or Ray."""
    package, extra = ("ray", "ray") if backend == "ray" else ("joblib", "valuation")
    try:
        return import_module(package)
    except ImportError as error:
        raise MissingDependencyError(
            package,
            got="no such package",
            expected=f"it for n_jobs > 1 with backend={backend!r}",
            remedy=f"pip install 'lightning-attnflow[{extra}]'",
        ) from error


def _is_worker_death(error: Exception) -> bool:
    from joblib.externals.loky.process_executor import BrokenProcessPool  # TerminatedWorkerError is one

    return isinstance(error, BrokenProcessPool)
