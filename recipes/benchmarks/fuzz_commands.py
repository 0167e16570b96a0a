"""The commands of fuzz.py: valid and invalid arguments of ``attnflow``."""

from __future__ import annotations

import contextlib
import io
import tempfile
from functools import cache
from typing import Any

from fuzz_files import FOLDER, RUNS, TABLES
from fuzz_models import classifier, tokenizer
from fuzz_values import PLAIN_TEXTS, Call, mostly, weighted
from hypothesis import strategies as st

from lightning_attnflow.cli import main as command_line
from lightning_attnflow.errors import AttnFlowError


class CommandError(AttnFlowError):
    """A command ended with an error message."""


@cache
def model_folder() -> str:
    """Directory of a saved classifier."""
    path = tempfile.mkdtemp(prefix="model_", dir=FOLDER)
    classifier().save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def _command(**arguments: Any) -> None:
    """Run a command; raise CommandError if it ends with an exit code and an error message of one line."""
    drawn = [word for words in arguments.values() for word in words]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            code = command_line(list(map(str, drawn)))
        except SystemExit as stop:  # of the parser
            code = int(stop.code or 0)
    message = errors.getvalue()
    if "Traceback" in message:
        raise AssertionError(f"a traceback: {message[-200:]}")
    if code and (code != 2 or not message.rstrip().split("\n")[-1].startswith("error: ")):
        raise AssertionError(f"exit code {code} with the message {message[-200:]!r}")
    if code:
        raise CommandError("command", got=message, expected="no error")


def _options(**drawn: Any) -> Any:
    """Strategy of a list of options, each of them present or not."""
    return st.fixed_dictionaries({}, optional=drawn).map(
        lambda chosen: [word for name, value in chosen.items() for word in (f"--{name.replace('_', '-')}", value)]
    )


_COMMAND_TEXT = weighted((6, PLAIN_TEXTS), (1, st.text(max_size=8))).map(lambda text: [text])
_MODEL = mostly([None], "/none", "x").map(lambda name: ["--model", model_folder() if name is None else name])
_ENCODER = mostly([None], "/none").map(lambda name: ["--encoder", model_folder() if name is None else name])
_NUMBERS = mostly(["0", "1", "2"], "-1", "x", "0.5", "9" * 20)
_STRAY = mostly([[]], ["--none"], ["x"], ["--seed"])


def _with_output(command: str) -> Any:
    return TABLES.map(lambda path: [command, path, "--out", path.parent / "out"])


COMMANDS = {
    "attnflow explain": {
        "command": st.just(["explain"]),
        "text": _COMMAND_TEXT,
        "model": _MODEL,
        "options": _options(
            method=mostly(["shapley", "leave_one_out", "rollout", "saliency"], "x"),
            players=mostly(["words", "tokens"], "x"),
            target=mostly(["0", "1", "LABEL_1"], "7", "x", "a:b"),
            seed=_NUMBERS,
        ),
    },
    "attnflow flow": {
        "command": st.just(["flow"]),
        "text": _COMMAND_TEXT,
        "model": _MODEL,
        "options": _options(players=mostly(["words", "tokens"], "x"), layers=mostly(["0", "0,1"], "9", "x", "")),
    },
    "attnflow rank": {
        "command": _with_output("rank"),
        "encoder": _ENCODER,
        "permutations": mostly([["--permutations", "2"]], ["--permutations", "-1"], ["--permutations", "x"]),
        "options": _options(
            metric=mostly(["accuracy", "log_loss"], "x"), seed=_NUMBERS, text_column=mostly(["text"], "x")
        ),
    },
    "attnflow label-errors": {
        "command": _with_output("label-errors"),
        "encoder": _ENCODER,
        "options": _options(top=mostly(["1", "5"], "0", "-1", "x"), label_column=mostly(["label"], "text")),
    },
    "attnflow view": {
        "command": RUNS.map(lambda path: ["view", path.parent, "--out", path.parent / "page.html"]),
    },
}
CALLS: dict[str, Call] = {name: Call(_command, parts | {"stray": _STRAY}, ()) for name, parts in COMMANDS.items()}
