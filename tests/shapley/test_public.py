"""The public names of the core, and that it imports no framework."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lightning_attnflow.shapley as core

FIXED_NAMES = """
Game Utility FunctionGame GroupedGame CachedGame ShapleyResult PermutationEstimate Truncation random_permutation
exact_shapley permutation_shapley stratified_shapley quadrature_shapley kernel_shap leave_one_out banzhaf shapley
MaxPermutations MaxEvaluations MaxSeconds StandardErrorBelow IntervalBelow SignDecided TopDecided
is_modular audit_axioms audit_additivity AxiomReport
"""
FRAMEWORKS = ("torch", "lightning", "transformers", "networkx", "matplotlib", "numba", "pandas")


def loaded_by(statement: str) -> set[str]:
    """The frameworks that a new interpreter has imported after a statement."""
    script = f"{statement}\nimport sys\nprint(*[name for name in {FRAMEWORKS} if name in sys.modules])"
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=root)
    return set(run.stdout.split())


@pytest.mark.parametrize("name", FIXED_NAMES.split())
def test_fixed_names_are_public_and_documented(name: str) -> None:
    assert name in core.__all__
    assert getattr(core, name).__doc__


def test_all_is_sorted_and_has_no_duplicates() -> None:
    assert sorted(set(core.__all__)) == core.__all__


def test_the_core_imports_no_framework() -> None:
    assert loaded_by("import lightning_attnflow.shapley") == set()


def test_the_import_check_can_fail() -> None:
    assert loaded_by("import networkx") == {"networkx"}
