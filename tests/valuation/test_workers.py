"""Workers that die, and Ray."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from lightning_attnflow.shapley import MaxPermutations
from lightning_attnflow.valuation import DataShapley, workers
from lightning_attnflow.valuation.workers import WorkersDiedError


class DeadlyGame:
    """A game that kills its worker once, or at every evaluation; the file ``mark`` records it."""

    n_players = 5

    def __init__(self, mark: Path, home: int, always: bool = False) -> None:
        self.mark, self.home, self.always = mark, home, always

    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        if os.getpid() != self.home and (self.always or not self.mark.exists()):
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return np.sqrt(coalitions @ np.arange(1.0, 6.0))


def expected(permutations: int) -> np.ndarray:
    game = DeadlyGame(Path("unused"), os.getpid())
    return DataShapley(game, stop=MaxPermutations(permutations), truncation=None).fit().result.values


def test_samples_of_a_dead_worker_are_computed_again(tmp_path: Path) -> None:
    game = DeadlyGame(tmp_path / "died", os.getpid())
    run = DataShapley(game, stop=MaxPermutations(40), truncation=None, n_jobs=2)
    with pytest.warns(UserWarning, match="worker"):
        run.fit()
    assert game.mark.exists()
    assert (run.result.values == expected(40)).all()


@pytest.mark.filterwarnings("ignore:A worker died", "ignore:.*worker.*:UserWarning")
def test_repeated_worker_deaths_raise_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_ATTEMPTS", 2)
    game = DeadlyGame(tmp_path / "died", os.getpid(), always=True)
    with pytest.raises(WorkersDiedError, match="2 consecutive deaths at sample 0"):
        DataShapley(game, stop=MaxPermutations(10), truncation=None, n_jobs=2).fit()


@pytest.fixture(scope="module")
def ray_cluster():
    """A local cluster of two workers without the dashboard."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the workers import this file and the package
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray
    ray.shutdown()


@pytest.mark.filterwarnings("ignore")  # deprecations inside Ray, unclosed sockets after the death of a worker
@pytest.mark.usefixtures("ray_cluster")
def test_ray_gives_identical_values_also_after_a_worker_death(tmp_path: Path) -> None:
    healthy = DeadlyGame(tmp_path, os.getpid())  # the mark exists, so that no worker dies
    run = DataShapley(healthy, stop=MaxPermutations(40), truncation=None, n_jobs=2, backend="ray").fit()
    assert (run.result.values == expected(40)).all()
    deadly = DeadlyGame(tmp_path / "died", os.getpid())
    run = DataShapley(deadly, stop=MaxPermutations(40), truncation=None, n_jobs=2, backend="ray").fit()
    assert deadly.mark.exists()
    assert (run.result.values == expected(40)).all()
