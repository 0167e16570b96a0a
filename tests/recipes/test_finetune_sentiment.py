"""The fine-tuning recipe on a small data set: accuracy, logs, figure, output and error messages."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

RECIPE = Path(__file__).parents[2] / "recipes" / "finetune_sentiment.py"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs the recipe with command-line arguments."""

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", [str(RECIPE), *arguments])
        runpy.run_path(str(RECIPE), run_name="__main__")

    return run


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 60 sentences whose label depends on one word."""
    path = tmp_path_factory.mktemp("data") / "opinions.csv"
    things = ["film", "book", "song", "game", "play", "dish", "trip", "talk", "story", "car"]
    words = [("fine", "awful"), ("lovely", "boring"), ("brilliant", "terrible")]
    rows = [f"the {thing} was {pair[side]},{'yn'[side]}" for thing in things for pair in words for side in (0, 1)]
    path.write_text("sentence,liked\n" + "\n".join(rows))
    return path


@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval", "ignore:.*Experiment logs directory")
def test_recipe_trains_on_a_csv_file_and_writes_figure_log_and_checkpoint(
    run, small_file: Path, tmp_path: Path, capsys, caplog
) -> None:
    columns = ["--data", str(small_file), "--text_column", "sentence", "--label_column", "liked"]
    sizes = ["--train_size", "40", "--val_size", "20", "--epochs", "4", "--batch_size", "8", "--lr", "5e-4"]
    with caplog.at_level("INFO"):
        run(*columns, *sizes, "--log_dir", str(tmp_path))
    printed = capsys.readouterr().out
    accuracy = float(printed.split("validation accuracy ")[1].split("%")[0])
    assert accuracy >= 80
    for probe in ("This movie was great!", "This was better than I expected."):
        assert probe in printed
    assert "great" in printed.split("token")[1]
    for name in ("attention_flow.png", "conductance_flow.png"):
        (picture,) = tmp_path.glob(f"finetune_sentiment/version_0/{name}")
        assert str(picture) in printed
        assert picture.read_bytes()[:4] == b"\x89PNG"
    assert list(tmp_path.glob("finetune_sentiment/version_0/events.*"))
    assert "readout 'first'" in caplog.text
    (checkpoint,) = tmp_path.glob("finetune_sentiment/version_0/checkpoint")
    assert str(checkpoint) in printed
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    tokens = AutoTokenizer.from_pretrained(checkpoint)(["the cat was fine", "the cat was awful"], return_tensors="pt")
    assert [model.config.id2label[int(row.argmax())] for row in model(**tokens).logits] == ["y", "n"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label_column", "rating", "--text_column", "sentence"], "expected a column 'rating'"),
        (["--label_column", "liked", "--text_column", "sentence", "--val_size", "30"], "distinct sentences"),
        (["--label_column", "liked", "--text_column", "sentence", "--colour", "red"], "colour"),
    ],
)
def test_invalid_input_exits_with_a_message(run, small_file: Path, arguments: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("--data", str(small_file), *arguments)
    assert stopped.value.code not in (0, None)
    assert message in str(stopped.value.code) + capsys.readouterr().err
