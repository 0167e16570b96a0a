"""Data Shapley: exact values, workers, truncation and its audit, groups and errors."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from games import saturating
from interrupts import interruptible

from lightning_attnflow.errors import GameError, InputError
from lightning_attnflow.shapley import (
    FunctionGame,
    MaxEvaluations,
    MaxPermutations,
    PermutationEstimate,
    SignDecided,
    Truncation,
    draw_permutations,
    exact_shapley,
    permutation_shapley,
)
from lightning_attnflow.valuation import DataShapley, FrozenEncoderUtility, knn_game, knn_shapley
from lightning_attnflow.valuation.result import TruncationAudit
from lightning_attnflow.valuation.runtime_estimate import decided_signs, total_permutations
from lightning_attnflow.valuation.sampling import SampleSettings, evaluate_sample


def frozen(n: int = 30, chunk_size: int = 8, metric: str = "accuracy") -> FrozenEncoderUtility:
    rng = np.random.default_rng(0)
    labels = np.arange(n + 40) % 2
    features = rng.normal(size=(n + 40, 4))
    features[:, 0] += 2 * labels
    labels[:3] = 1 - labels[:3]  # three wrong labels
    return FrozenEncoderUtility(
        features[:n], labels[:n], features[n:], labels[n:], chunk_size=chunk_size, metric=metric
    )


def test_without_truncation_the_values_equal_permutation_shapley() -> None:
    game = frozen()
    core = permutation_shapley(game, stop=MaxPermutations(30), seed=7)
    run = DataShapley(game, stop=MaxPermutations(30), truncation=None, seed=7).fit()
    np.testing.assert_allclose(run.result.values, core.values, atol=1e-12)
    np.testing.assert_allclose(run.result.interval(), core.interval(), atol=1e-12)
    assert run.result.n_evaluations == core.n_evaluations
    assert abs(run.result.efficiency_gap) < 1e-12


def test_truncation_does_not_depend_on_prefix_chunks() -> None:
    by_chunks = DataShapley(frozen(), stop=MaxPermutations(14), truncation=Truncation(0.05)).fit().result
    game = frozen()
    by_prefix = DataShapley(FunctionGame(game, 30), stop=MaxPermutations(14), truncation=Truncation(0.05)).fit().result
    np.testing.assert_allclose(by_chunks.values, by_prefix.values, atol=1e-12)
    assert by_chunks.n_truncated == by_prefix.n_truncated > 0
    assert by_prefix.n_evaluations < by_chunks.n_evaluations < 14 * 29 + 2


def test_a_sample_depends_on_settings_and_index_only() -> None:
    game = saturating()
    settings = SampleSettings(3, Truncation(0.05), 1e-9, 0.0, float(game(np.ones((1, 8), bool))[0]), threads=1)
    samples = [evaluate_sample(game, settings, index) for index in (0, 1, 2, 7)]
    again = [evaluate_sample(game, settings, index) for index in (7, 2, 1, 0)][::-1]
    for one, other in zip(samples, again, strict=True):
        assert (one.marginals == other.marginals).all()
        assert (one.cuts == other.cuts).all()
    assert [sample.lost is not None for sample in samples] == [True, True, False, False]
    assert (samples[0].evaluations == 7).all()  # audited samples are evaluated to the end
    assert (samples[2].evaluations == samples[2].cuts).all()


def test_with_truncation_the_values_equal_permutation_shapley() -> None:
    truncation = Truncation(0.05)
    core = permutation_shapley(saturating(), stop=MaxPermutations(30), truncation=truncation, seed=7)
    result = DataShapley(saturating(), stop=MaxPermutations(30), truncation=truncation, seed=7).fit().result
    np.testing.assert_allclose(result.values, core.values, atol=1e-12)
    assert result.n_truncated == core.n_truncated > 0


class RecordingUtility:
    """An additive utility with every optional method, which records the calls of its methods."""

    n_players = 6

    def __init__(self) -> None:
        self.calls: set[str] = set()

    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        return coalitions @ np.arange(1.0, 7.0)

    def prefix_values(self, permutations: np.ndarray) -> np.ndarray:
        self.calls.add("prefix_values")
        return np.concatenate([np.zeros((len(permutations), 1)), np.cumsum(permutations + 1.0, axis=1)], axis=1)

    def prefix_chunks(self, permutation: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
        self.calls.add("prefix_chunks")
        for size in sizes:
            yield np.array([(permutation[:size] + 1.0).sum()])

    def marginal_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        self.calls.add("marginal_bounds")
        return np.zeros(6), np.arange(1.0, 7.0)

    def pop_training_variance(self) -> tuple[float, int]:
        self.calls.add("pop_training_variance")
        return 0.02, 1

    def configuration(self) -> dict[str, object]:
        self.calls.add("configuration")
        return {"utility": "recording"}


@pytest.mark.parametrize("groups", [None, [[0, 5], [1, 2], [3, 4]]])
@pytest.mark.parametrize("truncation", [None, Truncation()])
def test_the_optional_methods_of_a_utility_are_called(
    tmp_path: Path, truncation: Truncation | None, groups: list[list[int]] | None
) -> None:
    utility = RecordingUtility()
    run = DataShapley(utility, stop=MaxPermutations(20), truncation=truncation, groups=groups, ledger=tmp_path / "run")
    result = run.fit().result
    np.testing.assert_allclose(result.values, np.arange(1.0, 7.0) if groups is None else [7.0, 5.0, 9.0])
    prefixes = "prefix_values" if truncation is None and groups is None else "prefix_chunks"
    assert utility.calls == {prefixes, "marginal_bounds", "pop_training_variance", "configuration"}
    assert result.training_variance == pytest.approx(0.02)
    assert result.bounds is not None


def test_the_audit_estimates_the_bias_and_the_interval_contains_it() -> None:
    game = saturating()
    exact = exact_shapley(game).values
    run = DataShapley(game, stop=MaxPermutations(4000), truncation=Truncation(0.1, 1), audit=0.2).fit()
    audit = run.result.audit
    assert isinstance(audit, TruncationAudit)
    assert 300 < audit.n_samples < 500
    bias = exact - run.result.values
    assert (np.abs(bias - audit.bias) < 5 * np.hypot(run.result.stderr, audit.stderr)).all()
    assert bias[1:].min() > 0.003  # far above the sampling error for all but the player of least weight
    assert audit.total_bias == pytest.approx(run.result.efficiency_gap, abs=5 * float(audit.stderr.sum()))
    low, high = run.result.interval(0.999)
    assert ((low <= exact) & (exact <= high)).all()
    assert ((low <= run.result.values) & (run.result.values <= high)).all()


def test_intervals_cover_the_exact_knn_values() -> None:
    rng = np.random.default_rng(2)
    labels = np.arange(12) % 2
    data = rng.normal(size=(12, 2)), labels, rng.normal(size=(30, 2)), np.arange(30) % 2
    exact, game = knn_shapley(*data), knn_game(*data)
    covered = []
    for seed in range(25):
        low, high = DataShapley(game, stop=MaxPermutations(40), truncation=None, seed=seed).fit().result.interval(0.9)
        covered.append((low <= exact) & (exact <= high))
    assert np.mean(covered) > 0.88  # 300 intervals, not independent


@pytest.mark.parametrize(("n_jobs", "backend"), [(1, "loky"), (2, "loky"), (2, "threading"), (4, "threading")])
@pytest.mark.filterwarnings("ignore:n_jobs. got 4")  # on a machine of two cores
def test_values_do_not_depend_on_workers_and_global_state_is_restored(n_jobs: int, backend: str) -> None:
    stop = SignDecided(tolerance=0.1) | MaxPermutations(60)
    alone = DataShapley(frozen(), stop=stop).fit().result
    torch.manual_seed(0)
    threads, state, legacy = torch.get_num_threads(), torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    shared = DataShapley(frozen(), stop=stop, n_jobs=n_jobs, backend=backend).fit().result
    assert (alone.values == shared.values).all()
    assert (np.array(alone.interval()) == np.array(shared.interval())).all()
    assert (alone.n_evaluations, alone.n_truncated) == (shared.n_evaluations, shared.n_truncated)
    assert torch.get_num_threads() == threads
    assert torch.equal(state, torch.get_rng_state())
    assert (legacy == np.random.get_state()[1]).all()  # noqa: NPY002


def test_groups_are_valued_as_players() -> None:
    groups = [[0, 1, 2], [3], [4, 5, 6, 7], list(range(8, 30))]
    game = frozen(metric="log_loss")
    expected = exact_shapley(FunctionGame(lambda c: game(c[:, np.repeat(range(4), [3, 1, 4, 22])]), 4)).values
    for truncation in (None, Truncation(1e-9)):
        run = DataShapley(game, groups=groups, stop=MaxPermutations(60), truncation=truncation).fit()
        np.testing.assert_allclose(run.result.values, expected, atol=0.1)
        assert run.result.values.sum() == pytest.approx(expected.sum())
    assert run.ranking(texts=["a", "b", "c", "d"])[0].text == "d"
    with pytest.raises(InputError, match="partition"):
        DataShapley(game, groups=[[0, 1]])


def test_games_of_one_and_two_players() -> None:
    one = DataShapley(FunctionGame(lambda c: c.sum(axis=1) * 3.0, 1), stop=MaxPermutations(4)).fit().result
    assert one.values.tolist() == [3.0]
    two = DataShapley(FunctionGame(lambda c: c @ np.array([1.0, 2.0]), 2), stop=MaxPermutations(4)).fit().result
    assert two.values.tolist() == [1.0, 2.0]


# loky's manager thread may be reading when the other workers are terminated.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_errors_of_the_utility_name_the_coalition_with_and_without_workers() -> None:
    def payoff(coalitions: np.ndarray) -> np.ndarray:
        return np.where(coalitions[:, 0] & ~coalitions[:, 1], np.nan, coalitions.sum(axis=1))

    for n_jobs in (1, 2):
        with pytest.raises(GameError, match="payoff") as caught:
            DataShapley(FunctionGame(payoff, 5), stop=MaxPermutations(40), n_jobs=n_jobs).fit()
        assert 0 in caught.value.coalition
        assert 1 not in caught.value.coalition


def test_an_interrupted_run_keeps_completed_samples() -> None:
    class Interrupts:
        n_players, calls = 4, 0

        def __call__(self, coalitions: np.ndarray) -> np.ndarray:
            self.calls += 1
            if self.calls == 50:
                os.kill(os.getpid(), signal.SIGINT)
            return coalitions.sum(axis=1) * 1.0

    run = DataShapley(Interrupts(), stop=MaxPermutations(1000))
    with pytest.raises(InputError, match=r"Call fit\(\) first"):
        run.result  # noqa: B018
    with interruptible(), pytest.raises(KeyboardInterrupt):
        run.fit()
    assert 2 < run.result.n_permutations < 1000
    assert len(run.ranking()) == 4


def test_evaluations_use_one_thread_by_default_and_at_most_the_torch_threads() -> None:
    seen = set()

    def payoff(coalitions: np.ndarray) -> np.ndarray:
        seen.add(torch.get_num_threads())
        return coalitions.sum(axis=1)

    DataShapley(FunctionGame(payoff, 3), stop=MaxPermutations(4)).fit()
    assert seen == {1}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.raises(InputError, match=r"threads: got 2; expected at most 1, the current number"):
            DataShapley(frozen(), threads=2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": 100}, "stop: got 100"),
        ({"truncation": 0.01}, "truncation: got 0.01"),
        ({"audit": 0}, "audit: got 0"),
        ({"seed": -1}, "seed: got -1"),
        ({"n_jobs": 0}, "n_jobs: got 0"),
        ({"backend": "dask"}, "backend: got 'dask'"),
        ({"threads": 0}, "threads: got 0"),
    ],
)
def test_invalid_arguments_raise_input_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DataShapley(saturating(), **options)


def test_invalid_utilities_and_lengths_raise_input_errors() -> None:
    with pytest.raises(InputError, match="utility: got str"):
        DataShapley("features")
    with pytest.raises(InputError, match="no player"):
        DataShapley(FunctionGame(lambda c: np.zeros(len(c)), 0))
    with pytest.raises(InputError, match="MaxPermutations: got 1"):
        DataShapley(saturating(), stop=MaxPermutations(1)).fit()
    run = DataShapley(saturating(), stop=MaxPermutations(4)).fit()
    with pytest.raises(InputError, match="texts: got 2; expected 8"):
        run.ranking(texts=["a", "b"])
    with pytest.raises(InputError, match="labels: got 1; expected 8"):
        run.ranking(labels=[0])


def test_more_workers_than_cores_are_reduced_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="this machine has"):
        assert DataShapley(saturating(), n_jobs=10_000).n_jobs < 10_000


def test_the_runtime_estimate_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    stop = SignDecided(tolerance=1e-9) | MaxPermutations(60)
    DataShapley(saturating(), stop=stop, truncation=None, progress=True).fit()
    shown = " ".join(capsys.readouterr().err.split())
    assert re.search(r"One evaluation takes .*2 permutations.* at most 30 samples with 1 worker", shown)


def test_the_progress_bar_counts_decided_signs_and_permutations() -> None:
    estimate = PermutationEstimate(3, v_empty=0.0, v_full=2.0, seed=0)
    pairs = draw_permutations(0, range(100), 3)
    estimate.update(pairs, np.broadcast_to([3.0, -1.0, 0.0], pairs.shape).copy(), n_evaluations=400)
    assert decided_signs(estimate) == "1 helpful, 1 harmful, 1 undecided"
    assert total_permutations(MaxPermutations(300), estimate) == 300


def test_the_maximum_number_of_samples_of_combined_criteria() -> None:
    new = PermutationEstimate(8, v_empty=0.0, v_full=1.0, seed=0, n_evaluations=2)
    assert np.isinf((SignDecided() & MaxPermutations(60)).max_samples(new))
    assert (SignDecided() | MaxPermutations(60) | MaxEvaluations(100)).max_samples(new) == 98 // 14
