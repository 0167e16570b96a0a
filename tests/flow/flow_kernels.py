"""Kernels that compiled code alone can call, for tests."""

import numpy as np
from numba import njit

from lightning_attnflow.flow.engine.permutations import CoalitionBounds, _shift_marginals, model_values

Array = np.ndarray


@njit
def write_model_values(
    bounds: CoalitionBounds, by_player: Array, permutation: Array, high: Array, modelled: Array, sums: Array
) -> int:
    """Call `model_values`."""
    return model_values(bounds, by_player, permutation, high, modelled, sums)


@njit
def add_shift_marginals(
    n: int, permutation: Array, prefixes: Array, reached: Array, total: int, full_player: int, marginals: Array
) -> None:
    """Call `_shift_marginals`."""
    _shift_marginals(n, permutation, prefixes, reached, total, full_player, marginals)
