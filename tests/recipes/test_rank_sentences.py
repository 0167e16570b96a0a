"""The ranking recipe end to end on a small file: it ranks, and writes what it names."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

RECIPE = Path(__file__).parents[2] / "recipes" / "rank_sentences.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = f"import sys, runpy; sys.path[:0] = {[str(RECIPE.parent), *sys.path]!r}; "
    command += f"sys.argv = {[str(RECIPE), *arguments]!r}; runpy.run_path({str(RECIPE)!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=600)


def test_it_ranks_a_file(tmp_path: Path) -> None:
    things = ["film", "book", "song", "game", "play", "dish", "trip", "talk", "story", "car"]
    words = [("fine", "awful"), ("lovely", "boring"), ("brilliant", "terrible")]
    rows = [f"the {thing} was {pair[side]},{'yn'[side]}" for thing in things for pair in words for side in (0, 1)]
    (tmp_path / "opinions.csv").write_text("sentence,liked\n" + "\n".join(rows))
    columns = ["--data", str(tmp_path / "opinions.csv"), "--text_column", "sentence", "--label_column", "liked"]
    sizes = ["--train_size", "24", "--validation_size", "20", "--test_size", "16", "--metric", "log_loss"]
    places = ["--output", str(tmp_path / "out"), "--cache_dir", str(tmp_path / "cache")]
    done = run(*columns, *sizes, *places, "--orders", "20")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "The 10 highest values" in done.stdout
    assert "20 orders" in done.stdout
    for name in ("ranking.csv", "ranking.html", "removal_curve.png", "orders.ledger"):
        assert (tmp_path / "out" / name).exists()
        assert name in done.stdout
    with (tmp_path / "out" / "ranking.csv").open(encoding="utf-8", newline="") as file:
        ranked = list(csv.DictReader(file))
    assert sorted(int(row["index"]) for row in ranked) == list(range(24))
    assert {row["label"] for row in ranked} == {"n", "y"}
