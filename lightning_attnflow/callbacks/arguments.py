"""Checks of the arguments of ``AttentionFlowMonitor``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from lightning_attnflow._checks import check_items
from lightning_attnflow.errors import InputError


def check_name(name: str) -> str:
    """Return the name of a monitor, which is a part of names of metrics and files."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]*", name, re.ASCII) or name == "test":
        raise InputError("name", got=repr(name), expected="letters, digits, '_', '.' and '-', other than 'test'")
    return name


def check_probes(probes: Sequence[str], max_sentences: int) -> tuple[str, ...]:
    """Return the probes; without any, validation sentences are needed."""
    probes = probes if isinstance(probes, str) else check_items("probes", probes, "a list of sentences")
    if isinstance(probes, str) or (not probes and not max_sentences):
        got = repr(probes) + ("" if probes else " and max_sentences=0")
        raise InputError("probes", got=got, expected="a list of sentences, or max_sentences > 0")
    return tuple(probes)


def load_tokenizer(
    tokenizer: PreTrainedTokenizerBase | str | None, *, required: bool
) -> PreTrainedTokenizerBase | None:
    """Return a tokenizer, from its name or path if need be."""
    if tokenizer is None and required:
        raise InputError("tokenizer", got="None with probes", expected="the tokenizer of the model")
    if isinstance(tokenizer, str):
        from transformers import AutoTokenizer

        try:
            loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tokenizer)
        except Exception as error:  # transformers raises errors of many types
            expected = "a tokenizer, or its directory or Hub name"
            raise InputError("tokenizer", got=repr(tokenizer), expected=expected) from error
        return loaded
    if tokenizer is not None and not callable(tokenizer):
        raise InputError("tokenizer", got=type(tokenizer).__name__, expected="the tokenizer of the model")
    return tokenizer


def integer_of(value: str | int) -> str | int:
    """Return the integer of a string of digits, as positions and heads arrive from a command line."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value
