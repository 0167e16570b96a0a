"""The debugging recipe, run on a small scale."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RECIPE = Path(__file__).parents[2] / "recipes" / "debug_a_run.py"


def test_recipe_names_the_collapsed_run(tmp_path: Path) -> None:
    sizes = ["--train_size", "96", "--val_size", "16", "--epochs", "1", "--log_dir", str(tmp_path)]
    done = subprocess.run([sys.executable, RECIPE, *sizes], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    healthy, broken = done.stdout.split("\nlearning_rate: ")
    assert "Training has collapsed" not in healthy
    assert "Training has collapsed; a common cause is a learning rate that is too high." in broken
    assert (tmp_path / "page.html").exists()
