"""Summaries of flows: closed forms, SciPy's rank correlation, and properties of random flows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from lightning_attnflow.errors import InputError
from lightning_attnflow.plots.summaries import drift, normalised_entropy, rank_correlation, shares, special_share

flows = arrays(np.float64, (3, 5), elements=st.floats(0.001, 1.0))


@given(flows, flows)
def test_summaries_are_in_range_and_independent_of_scale(values: np.ndarray, others: np.ndarray) -> None:
    for number in (normalised_entropy(values), special_share(values, [1, 0, 0, 1, 0]), drift(values, others)):
        assert number.shape == (3,)
        assert ((number >= 0) & (number <= 1 + 1e-12)).all()
    np.testing.assert_allclose(normalised_entropy(values * 7), normalised_entropy(values))
    np.testing.assert_allclose(drift(values * 7, others), drift(values, others), atol=1e-12)
    np.testing.assert_allclose(drift(values, others), drift(others, values))
    np.testing.assert_allclose(shares(values).sum(axis=1), 1.0)


def test_summaries_equal_closed_forms() -> None:
    values = [[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    np.testing.assert_allclose(normalised_entropy(values), [1.0, 0.5, 0.0])
    np.testing.assert_allclose(special_share(values, [True, False, False, True]), [0.5, 0.5, 0.0])
    np.testing.assert_allclose(drift(values, [values[2]] * 3), [0.75, 0.5, 0.0])
    assert normalised_entropy([[1.0]]).tolist() == [0.0]  # a single token has all the flow


@given(flows, flows)
def test_rank_correlation_equals_scipy(values: np.ndarray, others: np.ndarray) -> None:
    got = rank_correlation(values, others)
    for layer, (left, right) in enumerate(zip(shares(values), shares(others), strict=True)):
        if np.ptp(left) == 0 or np.ptp(right) == 0:
            assert np.isnan(got[layer])
        else:
            assert got[layer] == pytest.approx(spearmanr(left, right).statistic, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shares([0.5, 0.5]), r"got shape \(2,\)"),
        (lambda: shares([[0.5, -0.5]]), "negative or non-finite"),
        (lambda: shares([[0.5, np.nan]]), "negative or non-finite"),
        (lambda: shares([[1.0, 0.0], [0.0, 0.0]]), "no flow in layer 1"),
        (lambda: special_share([[0.5, 0.5]], [True]), r"special: got shape \(1,\)"),
        (lambda: drift([[0.5, 0.5]], [[0.5, 0.25, 0.25]]), r"previous: got shape \(1, 3\)"),
    ],
)
def test_invalid_flows_raise_input_errors(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()  # type: ignore[operator]
