"""The last layer in which a token has flow (Section 6 of the paper)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_attnflow.attribution import last_layer_with_flow
from lightning_attnflow.errors import InputError


def _reference(values, tolerance):
    last = []
    for token in range(values.shape[1]):
        having = [k for k in range(len(values)) if values[k, token] > tolerance * values[k].sum()]
        last.append(max(having, default=-1))
    return last


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 10**6), st.sampled_from([0.0, 0.05, 0.2, 1.0]))
def test_last_layer_with_flow_equals_its_definition(n_layers, n_tokens, seed, tolerance):
    values = np.random.default_rng(seed).dirichlet(np.full(n_tokens, 0.3), size=n_layers)
    assert last_layer_with_flow(values, tolerance=tolerance).tolist() == _reference(values, tolerance)


@pytest.mark.parametrize(
    ("values", "tolerance"), [(np.ones(3), 0.1), (np.ones((2, 2)), -0.1), (np.full((2, 2), np.nan), 0)]
)
def test_invalid_arguments_raise_input_errors(values, tolerance):
    with pytest.raises(InputError):
        last_layer_with_flow(values, tolerance=tolerance)
