"""Units computed here, or by the workers of a joblib backend; in either case they arrive in the order of their index.

The game is handed to a worker once, not with every task: through a file for loky, through the object store for Ray.
A worker that dies costs the units it was at, which are done again.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

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
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
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
        yield lambda indices: _parallel(indices, n_jobs, backend, lambda index: (_walk_in_worker, handle, plan, index))


def _parallel(
    indices: Sequence[int], n_jobs: int, backend: str, task: Callable[[int], tuple[Any, ...]]
) -> Iterator[Unit]:
    joblib = _import(backend)
    left, failures = list(indices), 0
    while left:
        units = None
        # Ray's backend returns lists only: a batch of a few units a worker, so that little is lost with a batch.
        batch = tuple(left if backend != "ray" else left[: 4 * max(n_jobs, 2)])
        form = "list" if backend == "ray" else "generator"
        try:
            parallel = joblib.Parallel(
                n_jobs=n_jobs, backend=backend, return_as=form, pre_dispatch="2*n_jobs", batch_size=1
            )
            units = parallel(joblib.delayed(function)(*rest) for function, *rest in map(task, batch))
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
                raise WorkersDiedError(
                    "workers",
                    got=f"{failures} deaths in a row at unit {left[0]}: {type(error).__name__}",
                    expected="workers that live",
                    remedy="They may run out of memory: lower n_jobs or the chunk size. Finished units are kept.",
                ) from error
            warnings.warn(f"A worker died ({type(error).__name__}); its units are done again.", stacklevel=2)
        finally:
            if units is not None and form == "generator":
                with warnings.catch_warnings():  # that what was under way is thrown away, which is the intention
                    warnings.simplefilter("ignore", UserWarning)
                    units.close()


def _walk_in_thread(game: Game, plan: Plan, index: int) -> Unit | _Failure:
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
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _import(backend: str) -> Any:
    try:
        import joblib
    except ImportError as error:
        raise MissingDependencyError(
            "joblib",
            got="no such package",
            expected="it for n_jobs > 1",
            remedy="pip install 'lightning-attnflow[valuation]'",
        ) from error
    if backend == "ray":
        try:
            from ray.util.joblib import register_ray
        except ImportError as error:
            raise MissingDependencyError(
                "ray",
                got="no such package",
                expected="it for backend='ray'",
                remedy="pip install 'lightning-attnflow[ray]'",
            ) from error
        register_ray()  # type: ignore[no-untyped-call]
    return joblib


def _is_worker_death(error: Exception) -> bool:
    from joblib.externals.loky.process_executor import BrokenProcessPool  # TerminatedWorkerError is one

    if isinstance(error, BrokenProcessPool):
        return True
    return type(error).__module__.startswith("ray.") and type(error).__name__ in (
        "ActorDiedError",
        "ActorUnavailableError",
        "RayActorError",
        "WorkerCrashedError",
        "NodeDiedError",
        "OwnerDiedError",
        "ObjectLostError",
    )
