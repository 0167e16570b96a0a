"""Kill -9 of two processes with one ledger, a full disk, a read-only folder, a backward clock, and two versions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "recipes" / "benchmarks" / "soak.py"


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_runs_with_faults_are_refused_or_resumed_bit_by_bit() -> None:
    done = subprocess.run([sys.executable, SOAK, "--kills", "8"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("as expected") == 4
    assert 'library_version: here "99.0"' in done.stdout
    assert "free some space" in done.stdout
    assert "values and intervals identical" in done.stdout
