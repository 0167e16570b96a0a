"""Results: saving, tables and figures, and merging of independent runs."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from functools import reduce
from operator import add
from pathlib import Path

import games
import numpy as np
import pytest

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import (
    MaxPermutations,
    ShapleyResult,
    Truncation,
    exact_shapley,
    kernel_shap,
    permutation_shapley,
    stratified_shapley,
)

GAME, VALUES = games.airport(np.array([1.0, 2.0, 5.0, 5.0, 9.0, 9.5, 12.0]))


def sampled(seed: int, **options: object) -> ShapleyResult:
    return permutation_shapley(GAME, stop=MaxPermutations(40), seed=seed, **options)


antithetic = sampled


METHODS = {
    "exact": lambda seed: exact_shapley(GAME),  # noqa: ARG005
    "antithetic": antithetic,
    "stratified": lambda seed: stratified_shapley(GAME, budget=60, seed=seed),
    "kernel": lambda seed: kernel_shap(GAME, budget=60, seed=seed),
    "truncated": lambda seed: sampled(seed, truncation=Truncation(0.1, patience=1)),
    "grouped": lambda seed: sampled(seed, groups=[[0, 2], [1, 3, 4, 5, 6]]),
    "merged": lambda seed: antithetic(seed) + antithetic(seed + 1),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_loaded_result_equals_the_saved_one(method, tmp_path: Path) -> None:
    result = method(5)
    assert result.save(tmp_path / "result.npz") == tmp_path / "result.npz"
    again = ShapleyResult.load(tmp_path / "result.npz")
    for name in ("values", "stderr", "counts"):
        np.testing.assert_array_equal(getattr(again, name), getattr(result, name))
    for name in ("method", "seed", "seeds", "v_empty", "v_full", "n_evaluations", "n_permutations", "efficiency_gap"):
        assert getattr(again, name) == getattr(result, name), name
    assert (again.truncation, again.groups, again.n_truncated) == (result.truncation, result.groups, result.n_truncated)
    np.testing.assert_array_equal(again.interval(0.9), result.interval(0.9))


def test_bounds_are_saved(tmp_path: Path) -> None:
    result = replace(antithetic(0), bounds=(np.zeros(7), np.full(7, 5.0)))
    result.save(tmp_path / "bounded.npz")
    np.testing.assert_array_equal(ShapleyResult.load(tmp_path / "bounded.npz").interval(), result.interval())


def test_loading_another_npz_file_is_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", values=np.ones(3))
    with pytest.raises(InputError, match="ShapleyResult"):
        ShapleyResult.load(tmp_path / "other.npz")


def test_results_are_immutable() -> None:
    result = antithetic(0)
    with pytest.raises(FrozenInstanceError):
        result.v_full = 3.0
    with pytest.raises(ValueError, match="read-only"):
        result.values[0] = 3.0


def test_arrays_of_different_shapes_are_an_error() -> None:
    with pytest.raises(InputError, match="shapes"):
        ShapleyResult(np.ones(3), np.ones(2), np.ones(3), 0.0, 1.0, "by hand")


def test_merged_runs_equal_one_longer_run() -> None:
    runs = [antithetic(seed) for seed in range(3)]
    merged = runs[0] + runs[1] + runs[2]
    assert merged.seeds == (0, 1, 2)
    assert merged.n_permutations == 120
    assert merged.n_evaluations == sum(run.n_evaluations for run in runs)
    np.testing.assert_allclose(merged.values, np.mean([run.values for run in runs], axis=0))
    m = 20
    squares = sum(run.stderr**2 * m * (m - 1) + m * (run.values - merged.values) ** 2 for run in runs)
    np.testing.assert_allclose(merged.stderr, np.sqrt(squares / (3 * m - 1) / (3 * m)))
    np.testing.assert_allclose((runs[2] + (runs[0] + runs[1])).interval(), merged.interval())


def test_merged_runs_are_weighted_by_their_permutations() -> None:
    long = permutation_shapley(GAME, stop=MaxPermutations(300), seed=1)
    short = permutation_shapley(GAME, stop=MaxPermutations(100), seed=2)
    np.testing.assert_allclose((long + short).values, 0.75 * long.values + 0.25 * short.values)


@pytest.mark.parametrize("name", ["stratified", "kernel"])
def test_merged_runs_have_the_standard_error_of_their_mean(name: str) -> None:
    left, right = METHODS[name](1), METHODS[name](2)
    merged = left + right
    np.testing.assert_allclose(merged.values, (left.values + right.values) / 2)
    np.testing.assert_allclose(merged.stderr, np.hypot(left.stderr, right.stderr) / 2)


@pytest.mark.parametrize("name", ["antithetic", "stratified", "kernel"])
def test_intervals_of_twenty_merged_runs_cover_the_values(name: str) -> None:
    covered = []
    for first in range(0, 400, 20):
        merged = reduce(add, (METHODS[name](seed) for seed in range(first, first + 20)))
        low, high = merged.interval()
        covered.append((low <= VALUES) & (high >= VALUES))
    assert np.mean(covered) > 0.9


def test_merging_runs_of_the_same_seed_is_an_error() -> None:
    with pytest.raises(InputError, match=r"the same seed twice: \[1\]"):
        antithetic(1) + antithetic(1)
    with pytest.raises(InputError, match=r"the same seed twice: \[2\]"):
        antithetic(1) + antithetic(2) + antithetic(2)


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (exact_shapley(GAME), "without a seed"),
        (stratified_shapley(GAME, budget=60, seed=2), "methods"),
        (permutation_shapley(games.airport(np.ones(3))[0], stop=MaxPermutations(4), seed=2), "7 and 3 players"),
        (permutation_shapley(games.airport(np.ones(7))[0], stop=MaxPermutations(4), seed=2), "payoffs"),
    ],
)
def test_merging_runs_of_different_games_or_methods_is_an_error(other: ShapleyResult, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        antithetic(1) + other


CUT, GROUPS = Truncation(0.1, patience=1), [[0, 1], [2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("one", "other", "problem"),
    [
        ({"truncation": CUT}, {}, "truncation Truncation"),
        ({}, {"truncation": CUT}, "truncation None and Truncation"),
        ({"truncation": CUT}, {"truncation": Truncation(0.2, patience=1)}, "truncation Truncation"),
        ({"groups": GROUPS}, {"groups": [[0, 2], [1, 3], [4, 5, 6]]}, "groups"),
        ({"groups": GROUPS}, {}, "methods"),
    ],
)
def test_merging_runs_with_different_options_is_an_error(one: dict, other: dict, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        sampled(1, **one) + sampled(2, **other)


def test_merged_runs_keep_their_options() -> None:
    merged = sampled(1, truncation=CUT) + sampled(2, truncation=CUT)
    assert merged.truncation == CUT
    assert merged.n_truncated > 0
    merged = sampled(1, groups=GROUPS) + sampled(2, groups=[[5, 4, 6], [1, 0], [2, 3]])
    assert merged.groups == ((0, 1), (2, 3), (4, 5, 6))


def test_unknown_truncation_is_not_merged_with_untruncated_runs() -> None:
    old = replace(sampled(1, truncation=CUT), truncation=None)
    with pytest.raises(InputError, match="truncation unknown and None"):
        old + sampled(2)
    assert (old + replace(sampled(2, truncation=CUT), truncation=None)).n_permutations == 80


def test_adding_another_type_is_an_error() -> None:
    with pytest.raises(TypeError):
        antithetic(1) + 1


def test_the_suffix_is_optional_and_invalid_files_are_errors(tmp_path: Path) -> None:
    result = exact_shapley(games.modular(np.ones(2))[0])
    result.save(tmp_path / "kept")
    assert ShapleyResult.load(tmp_path / "kept").values.tolist() == [1.0, 1.0]
    with pytest.raises(FileNotFoundError):
        ShapleyResult.load(tmp_path / "nowhere")
    np.save(tmp_path / "array.npy", np.ones(2))
    (tmp_path / "text.npz").write_text("values")
    (tmp_path / "empty.npz").touch()
    for name in ("array.npy", "text.npz", "empty.npz"):
        with pytest.raises(InputError, match=name):
            ShapleyResult.load(tmp_path / name)


def test_to_pandas_has_one_row_per_player() -> None:
    result = sampled(1)
    frame = result.to_pandas(confidence=0.9)
    assert list(frame.columns) == ["value", "stderr", "low", "high", "count"]
    np.testing.assert_array_equal(frame["value"], result.values)
    np.testing.assert_array_equal(frame[["low", "high"]].to_numpy().T, result.interval(0.9))


def test_plot_draws_all_players_in_their_order() -> None:
    result = sampled(1)
    axes = result.plot(labels=list("abcdefg"))
    assert [label.get_text() for label in axes.get_yticklabels()] == list("abcdefg")
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], result.values)
    assert axes.get_title() == ""


def test_plot_selects_the_largest_values_of_many_players() -> None:
    weights = np.array([0.5, -3.0, 1.0, 2.0])
    result = exact_shapley(games.modular(weights)[0])
    ax = result.plot().figure.add_subplot()
    axes = result.plot(max_players=2, ax=ax)
    assert axes is ax
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "3"]
    assert axes.get_title() == "2 of 4 players"


@pytest.mark.parametrize("wrong", [{"labels": ["a"]}, {"max_players": 0}, {"confidence": 2}])
def test_plot_checks_its_arguments(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        sampled(1).plot(**wrong)
