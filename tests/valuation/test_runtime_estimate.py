"""Runtime estimates against games of known cost, on a clock that only the games advance."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from lightning_attnflow.shapley import MaxPermutations
from lightning_attnflow.valuation import DataShapley
from lightning_attnflow.valuation.runtime_estimate import permutation_seconds

N = 3000


class Clock:
    """Seconds that have passed."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Costly:
    """A prefix of k players costs ``scale * k ** power`` seconds, a coalition ten seconds."""

    n_players = N

    def __init__(self, clock: Clock, scale: float, power: float) -> None:
        self.clock, self.scale, self.power = clock, scale, power

    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        self.clock.seconds += 10 * len(coalitions)
        return coalitions.sum(axis=1) / N

    def prefix_values(self, _permutations: np.ndarray) -> np.ndarray:
        raise AssertionError("a permutation was evaluated")

    def prefix_chunks(self, _permutation: np.ndarray, sizes: range) -> Iterator[np.ndarray]:
        for chunk in np.array_split(np.array(sizes, dtype=float), 600):
            self.clock.seconds += self.scale * (chunk**self.power).sum()
            yield chunk / N


class StopsImmediately(MaxPermutations):
    def is_met(self, _estimate: object) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


@pytest.mark.parametrize(("scale", "power"), [(0.01, 0), (1e-4, 1), (1e-5, 1.5), (1e-6, 2)])
def test_the_cost_of_a_permutation_is_extrapolated_from_its_first_prefixes(
    clock: Clock, scale: float, power: float
) -> None:
    game = Costly(clock, scale, power)
    expected = scale * (np.arange(1.0, N + 1) ** power).sum()
    found = permutation_seconds(game)
    assert found == pytest.approx(expected, rel=0.05)
    assert clock.seconds < 1 < expected


def test_a_cheap_permutation_is_measured(clock: Clock) -> None:
    assert permutation_seconds(Costly(clock, 1e-6, 0)) == pytest.approx(1e-6 * N)


def test_a_long_run_is_announced_before_the_first_permutation(clock: Clock) -> None:
    game = Costly(clock, 0.01, 0)  # 30 s a permutation
    with pytest.warns(UserWarning, match=r"one sample \(2 permutations\) 60.0 s, at most 12 samples .* 12 min\. Fewer"):
        DataShapley(game, stop=StopsImmediately(24)).fit()


def test_a_run_below_ten_minutes_is_not_announced(clock: Clock) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DataShapley(Costly(clock, 0.01, 0), stop=StopsImmediately(18)).fit()


def test_a_game_that_fails_is_reported_by_the_run(clock: Clock) -> None:
    class Fails(Costly):
        def prefix_chunks(self, *_: object) -> Iterator[np.ndarray]:
            raise RuntimeError("no chunks")

    assert permutation_seconds(Fails(clock, 1, 0)) is None
