"""The coverage and estimator benchmarks run from the command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(script: str, *options: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "recipes" / "benchmarks" / script), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=300).stdout


def test_the_coverage_benchmark_prints_a_row_for_each_number_of_permutations() -> None:
    printed = run("coverage.py", "--runs", "3", "--games", "voting", "--plain")
    by_permutations, _, by_budget = printed.partition("per player")
    rows = re.findall(r"^voting +(\d+) +([01]\.\d+) +([01]\.\d+)", by_permutations, flags=re.MULTILINE)
    assert [int(count) for count, _, _ in rows] == [10, 20, 50, 100, 500]
    assert all(float(ours) >= float(normal) for _, ours, normal in rows)
    budgets = re.findall(r"^voting +(\d+) +([01]\.\d+)", by_budget, flags=re.MULTILINE)
    assert [int(per_player) for per_player, _ in budgets] == [4, 10, 30, 100]
    assert all(float(coverage) > 0.5 for _, coverage in budgets)
    assert "Lowest coverage from 20 permutations on" in printed


def test_the_estimator_benchmark_prints_every_peer() -> None:
    printed = run("estimators.py", "--runs", "2", "--games", "random")
    header, first = printed.splitlines()[:2]
    for name in ("auto", "stratified", "antithetic", "sq.SVARM", "sq.kernel p", "captum"):
        assert name in header
    assert re.fullmatch(r"random +36( +\d+\.\d\d){10} +\S+  \d+\.\d\d \+- \d+\.\d\d", first)
    assert "evaluations per player: geometric mean" in printed
