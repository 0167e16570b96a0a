"""Attention networks for the tests: hypothesis strategies and fixed generators."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from lightning_attnflow import AttentionNetwork

KINDS = ("random", "sharp", "causal", "sparse", "zero rows")
READOUTS = ("first", "last", "mean", "vector")


def stochastic(n_layers: int, n: int, seed: int, kind: str = "random", residual: float = 0.5) -> np.ndarray:
    """Rows that sum to 1, (L, T, T); with "zero rows" some rows contain only the residual stream."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n_layers, n, n)) * (4.0 if kind == "sharp" else 1.0)
    if kind == "sparse":
        scores[rng.random(scores.shape) < 0.6] = -np.inf
        scores[:, np.arange(n), np.arange(n)] = 0.0
    if kind == "causal":
        scores = np.where(np.tri(n, dtype=bool), scores, -np.inf)
    attention = np.exp(scores - scores.max(axis=2, keepdims=True))
    attention /= attention.sum(axis=2, keepdims=True)
    if kind == "zero rows":
        attention[rng.random((n_layers, n)) < 0.4] = 0.0
    mixed = (1 - residual) * attention + residual * np.eye(n)
    return mixed / mixed.sum(axis=2, keepdims=True)


def readout_vector(kind: str, n: int, seed: int) -> np.ndarray:
    """A readout that is a probability vector."""
    named = {"first": np.eye(n)[0], "last": np.eye(n)[-1], "mean": np.full(n, 1 / n)}
    return named[kind] if kind in named else np.random.default_rng(seed).dirichlet(np.full(n, 0.5))


@st.composite
def networks(draw: st.DrawFn, max_layers: int = 4, max_positions: int = 6) -> AttentionNetwork:
    """Attention networks with probability rows and readout."""
    n_layers, n = draw(st.integers(1, max_layers)), draw(st.integers(1, max_positions))
    seed = draw(st.integers(0, 2**32 - 1))
    residual = draw(st.sampled_from([0.1, 0.5, 0.9]))
    capacities = stochastic(n_layers, n, seed, draw(st.sampled_from(KINDS)), residual)
    return AttentionNetwork(capacities, readout_vector(draw(st.sampled_from(READOUTS)), n, seed))


@st.composite
def weighted_networks(draw: st.DrawFn) -> AttentionNetwork:
    """Networks of arbitrary capacities, such as gradient-weighted attention."""
    n_layers, n = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    capacities = rng.exponential(size=(n_layers, n, n)) * (rng.random((n_layers, n, n)) < 0.7)
    capacities[:, 0, 0] += 0.01
    readout = rng.exponential(size=n) * (rng.random(n) < 0.7)
    readout[0] += 0.01
    return AttentionNetwork(capacities * draw(st.sampled_from([1e-3, 1.0, 50.0])), readout)


def coalitions_of(n: int) -> np.ndarray:
    """All coalitions of n players, bool (2^n, n)."""
    return (np.arange(2**n)[:, None] >> np.arange(n)) % 2 == 1
