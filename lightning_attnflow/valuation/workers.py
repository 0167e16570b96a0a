"""Evaluation of samples in this process, by joblib workers or on a Ray cluster.

The game is sent to each worker once: through a pipe when loky starts the worker, or through the object store of Ray. No
file is read. If a worker dies, its samples are computed again. Ray is used directly, because its joblib backend hangs
after a worker has died.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lightning_attnflow._checks import check_choice, is_integer
from lightning_attnflow._optional import require
from lightning_attnflow._threads import n_cores
from lightning_attnflow.errors import AttnFlowError, GameError, InputError
from lightning_attnflow.shapley import Game
from lightning_attnflow.valuation.sampling import PermutationSample, SampleSettings, evaluate_sample

BACKENDS = ("loky", "threading", "ray")
_ATTEMPTS = 4  # consecutive worker deaths without a completed sample before the run fails

_worker_games: dict[str, Game] = {}  # in a worker: the game of the current run by its token


class WorkersDiedError(AttnFlowError, RuntimeError):
    """Workers died repeatedly without completing a sample."""


def check_workers(n_jobs: object, backend: str) -> int:
    """Return the number of workers, at most the number of cores of this machine unless the backend is Ray."""
    check_choice("backend", backend, BACKENDS)
    if not is_integer(n_jobs) or (n_jobs < 1 and n_jobs != -1):
        raise InputError("n_jobs", got=repr(n_jobs), expected="an integer >= 1, or -1 for all cores")
    if n_jobs != 1:
        _require(backend)
    if backend == "ray":
        return n_jobs
    cores = n_cores()
    if n_jobs > cores:
        warnings.warn(
            f"n_jobs: got {n_jobs}, but this machine has {cores} cores; {cores} workers are used.", stacklevel=3
        )
    return cores if n_jobs == -1 else min(n_jobs, cores)


@contextmanager
def sample_source(
    game: Game, settings: SampleSettings, n_jobs: int, backend: str
) -> Iterator[Callable[[Sequence[int]], Iterator[PermutationSample]]]:
    """Yield a function that computes the samples of given indices in their order."""
    if n_jobs == 1 or backend == "threading":
        with torch_threads(settings.threads):
            if n_jobs == 1:
                yield lambda indices: (evaluate_sample(game, settings, index) for index in indices)
            else:
                yield lambda indices: _parallel(
                    indices, n_jobs, backend, lambda index: (_evaluate_in_thread, game, settings, index)
                )
        return
    with _sent_to_workers(game, backend) as handle:
        if backend == "ray":
            yield lambda indices: _on_ray(indices, n_jobs, handle, settings)
            return
        yield lambda indices: _parallel(
            indices,
            n_jobs,
            backend,
            lambda index: (_evaluate_in_worker, (handle[0], None), settings, index),
            initializer=_receive,
            initargs=handle,
        )


def _parallel(
    indices: Sequence[int], n_jobs: int, backend: str, task: Callable[[int], tuple[Any, ...]], **options: Any
) -> Iterator[PermutationSample]:
    joblib = _require(backend)
    remaining, failures = list(indices), 0
    while remaining:
        samples = None
        try:
            parallel = joblib.Parallel(
                n_jobs=n_jobs, backend=backend, return_as="generator", pre_dispatch="2*n_jobs", batch_size=1, **options
            )
            samples = parallel(joblib.delayed(function)(*rest) for function, *rest in map(task, tuple(remaining)))
            for outcome in samples:
                if isinstance(outcome, GameError):
                    raise outcome
                assert outcome.index == remaining[0]
                remaining.pop(0)
                failures = 0
                yield outcome
        except Exception as error:
            if not _is_worker_death(error):
                raise
            failures += 1
            if failures >= _ATTEMPTS:
                raise _died(failures, remaining[0], error) from error
            warnings.warn(f"A worker died ({type(error).__name__}); its samples are computed again.", stacklevel=2)
        finally:
            if samples is not None:
                with warnings.catch_warnings():  # joblib warns that unfinished tasks are discarded
                    warnings.simplefilter("ignore", UserWarning)
                    samples.close()


def _on_ray(indices: Sequence[int], n_jobs: int, handle: Any, settings: SampleSettings) -> Iterator[PermutationSample]:
    """Run at most ``n_jobs`` Ray tasks at a time; Ray repeats the tasks of a worker that died."""
    import ray

    remote = ray.remote(max_retries=_ATTEMPTS - 1)(_evaluate_in_worker)
    limit = n_jobs if n_jobs > 0 else max(1, int(ray.cluster_resources()["CPU"]))  # type: ignore[no-untyped-call]
    waiting, running, finished = list(reversed(indices)), dict[Any, int](), dict[int, PermutationSample | GameError]()
    for index in indices:
        while index not in finished:
            while waiting and len(running) < limit:
                submitted = waiting.pop()
                running[remote.remote(handle, settings, submitted)] = submitted
            ready, _ = ray.wait(list(running), num_returns=1)
            number = running.pop(ready[0])
            try:
                finished[number] = ray.get(ready[0])
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
                raise _died(_ATTEMPTS, number, error) from error
        outcome = finished.pop(index)
        if isinstance(outcome, GameError):
            raise outcome
        yield outcome


def _died(times: int, index: int, error: Exception) -> WorkersDiedError:
    return WorkersDiedError(
        "workers",
        got=f"{times} consecutive deaths at sample {index}: {type(error).__name__}",
        expected="workers that stay alive",
        remedy="If memory is short, reduce n_jobs or chunk_size. Completed samples are kept.",
    )


def _evaluate_in_thread(game: Game, settings: SampleSettings, index: int) -> PermutationSample | GameError:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(settings.threads)  # the number is local to the thread
    return _evaluate(game, settings, index)


def _evaluate_in_worker(handle: Any, settings: SampleSettings, index: int) -> PermutationSample | GameError:
    token, where = handle
    if token not in _worker_games:
        import ray

        _worker_games.clear()
        _worker_games[token] = ray.get(where)
    with torch_threads(settings.threads):
        return _evaluate(_worker_games[token], settings, index)


def _evaluate(game: Game, settings: SampleSettings, index: int) -> PermutationSample | GameError:
    try:
        return evaluate_sample(game, settings, index)
    except GameError as error:  # returned, because loky and Ray would wrap it in an exception of their own
        return error


@dataclass(eq=False)
class _Sent:
    """Holds the game, so that joblib, which keeps the arguments of its last workers, does not keep the game."""

    game: Game | None


def _receive(token: str, sent: _Sent) -> None:
    """In a worker that starts: store the game of the run."""
    assert sent.game is not None
    _worker_games[token] = sent.game


@contextmanager
def _sent_to_workers(game: Game, backend: str) -> Iterator[tuple[str, Any]]:
    token = os.urandom(16).hex()
    if backend == "ray":
        import ray

        if not ray.is_initialized():
            ray.init(log_to_driver=False)
        yield token, ray.put(game)
        return
    from joblib.externals.loky.backend.reduction import dumps  # pickles lambdas too, as loky itself does

    try:
        dumps(game)
    except Exception as error:
        raise InputError(
            "utility",
            got=f"{type(error).__name__} when pickled: {error}",
            expected="a game that can be sent to worker processes",
            remedy="Pass n_jobs=1 or backend='threading'.",
        ) from error
    sent = _Sent(game)
    try:
        yield token, sent
    finally:
        sent.game = None


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Set the number of torch threads; does nothing if torch is not imported, so that workers start faster."""
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


def _require(backend: str) -> Any:
    package, extra = ("ray", "ray") if backend == "ray" else ("joblib", "valuation")
    return require(package, extra=extra, purpose=f"n_jobs > 1 with backend={backend!r}")


def _is_worker_death(error: Exception) -> bool:
    from joblib.externals.loky.process_executor import BrokenProcessPool  # TerminatedWorkerError is one

    return isinstance(error, BrokenProcessPool)
