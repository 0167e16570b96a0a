"""The two studies run from the command line and print the numbers they promise."""

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


def test_the_coverage_study_prints_a_row_for_each_number_of_orders() -> None:
    printed = run("coverage.py", "--runs", "3", "--games", "voting", "--plain")
    rows = re.findall(r"^voting +(\d+) +([01]\.\d+) +([01]\.\d+)", printed, flags=re.MULTILINE)
    assert [int(orders) for orders, _, _ in rows] == [10, 20, 50, 100, 500]
    assert all(float(ours) >= float(normal) for _, ours, normal in rows)
    assert "Lowest coverage from 20 orders on" in printed


def test_the_comparison_of_estimators_prints_every_peer() -> None:
    printed = run("estimators.py", "--runs", "1", "--games", "flow, random")
    header, first = printed.splitlines()[:2]
    for name in ("chosen", "stratified", "antithetic", "sq.SVARM", "sq.kernel p", "captum"):
        assert name in header
    assert first.startswith("flow, random")
    assert "evaluations a player: geometric mean" in printed
