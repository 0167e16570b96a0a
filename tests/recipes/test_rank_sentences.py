"""The ranking recipe, run on a small scale."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

RECIPE = Path(__file__).parents[2] / "recipes" / "rank_sentences.py"


def test_recipe_ranks_movie_sentences_and_writes_its_files(tmp_path: Path) -> None:
    sizes = ["--train_size", "20", "--validation_size", "20", "--test_size", "20", "--permutations", "20"]
    places = ["--output", str(tmp_path / "out"), "--cache_dir", str(tmp_path / "cache")]
    done = subprocess.run([sys.executable, RECIPE, *sizes, *places], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "10 highest values" in done.stdout
    assert "20 permutations" in done.stdout
    assert "of 2 flipped labels are among the 2 lowest values" in done.stdout
    for name in ("ranking.csv", "ranking.html", "removal_curve.png", "permutations.ledger"):
        assert (tmp_path / "out" / name).exists()
        assert name in done.stdout
    with (tmp_path / "out" / "ranking.csv").open(encoding="utf-8", newline="") as file:
        ranked = list(csv.DictReader(file))
    assert sorted(int(row["index"]) for row in ranked) == list(range(22))
    assert {row["label"] for row in ranked} == {"negative", "positive"}
