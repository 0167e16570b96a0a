"""Shapley values of any cooperative game: exact, sampled, with intervals. NumPy only."""

from lightning_attnflow.shapley.exact import exact_shapley
from lightning_attnflow.shapley.game import CachedGame, FunctionGame, Game, GroupedGame
from lightning_attnflow.shapley.leave_one_out import leave_one_out
from lightning_attnflow.shapley.orders import draw_units, permutation_order, walk_orders
from lightning_attnflow.shapley.permutation import PermutationEstimate, permutation_shapley
from lightning_attnflow.shapley.result import ShapleyResult
from lightning_attnflow.shapley.stopping import (
    IntervalBelow,
    MaxEvaluations,
    MaxPermutations,
    MaxSeconds,
    SignDecided,
    StandardErrorBelow,
    Stop,
    TopDecided,
)
from lightning_attnflow.shapley.truncation import Truncation

__all__ = [
    "CachedGame",
    "FunctionGame",
    "Game",
    "GroupedGame",
    "IntervalBelow",
    "MaxEvaluations",
    "MaxPermutations",
    "MaxSeconds",
    "PermutationEstimate",
    "ShapleyResult",
    "SignDecided",
    "StandardErrorBelow",
    "Stop",
    "TopDecided",
    "Truncation",
    "draw_units",
    "exact_shapley",
    "leave_one_out",
    "permutation_order",
    "permutation_shapley",
    "walk_orders",
]
