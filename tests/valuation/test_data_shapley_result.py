"""Results of Data Shapley: saving, loading and merging."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from games import saturating

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import (
    MaxPermutations,
    ShapleyResult,
    Truncation,
    exact_shapley,
)
from lightning_attnflow.valuation import DataShapley
from lightning_attnflow.valuation.result import DataShapleyResult


@pytest.mark.parametrize("truncation", [None, Truncation(0.1, 1)])
def test_a_loaded_result_equals_the_saved_one(tmp_path: Path, truncation: Truncation | None) -> None:
    result = DataShapley(saturating(), stop=MaxPermutations(40), truncation=truncation, audit=0.5).fit().result
    result.save(tmp_path / "result.npz")
    loaded = DataShapleyResult.load(tmp_path / "result.npz")
    assert (np.array(loaded.interval()) == np.array(result.interval())).all()
    assert (loaded.audit is None) == (truncation is None)
    assert (loaded.audit and loaded.audit.n_samples) == (result.audit and result.audit.n_samples)
    with pytest.raises(InputError, match="expected a ShapleyResult of version"):
        ShapleyResult.load(tmp_path / "result.npz")  # without the audit, the intervals would be too narrow
    exact_shapley(saturating()).save(tmp_path / "plain.npz")
    with pytest.raises(InputError, match="expected a DataShapleyResult of version"):
        DataShapleyResult.load(tmp_path / "plain.npz")


def test_the_training_variance_of_a_merged_result_is_the_mean_over_its_permutations() -> None:
    few, many = (
        replace(DataShapley(saturating(), stop=MaxPermutations(count), seed=seed).fit().result, training_variance=noise)
        for seed, count, noise in ((0, 20, 0.08), (1, 60, 0.02))
    )
    for merged in (few + many, many + few):
        assert merged.training_variance == pytest.approx((20 * 0.08 + 60 * 0.02) / 80)


def test_results_with_different_truncation_are_not_merged() -> None:
    cut, whole, other = (
        DataShapley(saturating(), stop=MaxPermutations(20), truncation=truncation, seed=seed).fit().result
        for seed, truncation in enumerate((Truncation(0.1, 1), None, Truncation(0.1, 2)))
    )
    for left, right in ((cut, whole), (whole, cut), (cut, other)):
        with pytest.raises(InputError, match="truncation"):
            left + right


def test_results_with_different_groups_are_not_merged(tmp_path: Path) -> None:
    def run(groups: list[list[int]], seed: int) -> DataShapleyResult:
        return DataShapley(saturating(), stop=MaxPermutations(20), groups=groups, seed=seed).fit().result

    n = saturating().n_players
    groups = [[0, 1], list(range(2, n))]
    merged = run(groups, 0) + run([[1, 0], list(range(2, n))], 1)
    merged.save(tmp_path / "merged.npz")
    assert DataShapleyResult.load(tmp_path / "merged.npz").groups == ((0, 1), tuple(range(2, n)))
    for other in ([[0], list(range(1, n))], groups[::-1]):
        with pytest.raises(InputError, match="groups"):
            merged + run(other, 2)
