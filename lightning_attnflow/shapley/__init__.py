"""Shapley values of any cooperative game, exact or estimated with confidence intervals. NumPy and SciPy only."""

from lightning_attnflow.shapley.auto import shapley
from lightning_attnflow.shapley.axioms import AxiomCheck, AxiomReport, audit_additivity, audit_axioms
from lightning_attnflow.shapley.banzhaf import banzhaf
from lightning_attnflow.shapley.exact import exact_shapley
from lightning_attnflow.shapley.game import Game, Utility
from lightning_attnflow.shapley.kernel import kernel_shap
from lightning_attnflow.shapley.leave_one_out import leave_one_out
from lightning_attnflow.shapley.modularity import Modularity, is_modular
from lightning_attnflow.shapley.permutation import PermutationEstimate, permutation_shapley
from lightning_attnflow.shapley.permutation_sampling import (
    PermutationMarginals,
    draw_permutations,
    permutation_marginals,
    random_permutation,
)
from lightning_attnflow.shapley.quadrature import quadrature_shapley
from lightning_attnflow.shapley.result import ShapleyResult
from lightning_attnflow.shapley.stopping import Stop
from lightning_attnflow.shapley.stopping_criteria import (
    IntervalBelow,
    MaxEvaluations,
    MaxPermutations,
    MaxSeconds,
    SignDecided,
    StandardErrorBelow,
    TopDecided,
)
from lightning_attnflow.shapley.stratified import stratified_shapley
from lightning_attnflow.shapley.truncation import Truncation
from lightning_attnflow.shapley.wrappers import CachedGame, FunctionGame, GroupedGame

__all__ = [
    "AxiomCheck",
    "AxiomReport",
    "CachedGame",
    "FunctionGame",
    "Game",
    "GroupedGame",
    "IntervalBelow",
    "MaxEvaluations",
    "MaxPermutations",
    "MaxSeconds",
    "Modularity",
    "PermutationEstimate",
    "PermutationMarginals",
    "ShapleyResult",
    "SignDecided",
    "StandardErrorBelow",
    "Stop",
    "TopDecided",
    "Truncation",
    "Utility",
    "audit_additivity",
    "audit_axioms",
    "banzhaf",
    "draw_permutations",
    "exact_shapley",
    "is_modular",
    "kernel_shap",
    "leave_one_out",
    "permutation_marginals",
    "permutation_shapley",
    "quadrature_shapley",
    "random_permutation",
    "shapley",
    "stratified_shapley",
]
