"""The explanation methods by name, with the options each takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_attnflow.attribution.attribution import TokenAttribution
from lightning_attnflow.attribution.sentence import Sentence
from lightning_attnflow.errors import InputError

Compute = Callable[..., TokenAttribution]


@dataclass(frozen=True)
class Method:
    """One explanation method.

    Args:
        name: what ``explain(method=...)`` is given.
        family: ``attention``, ``game`` or ``gradient``.
        compute: the function (sentence, **options) -> attribution.
        options: the keywords it takes beside those of every method.
        summary: one line.
    """

    name: str
    family: str
    compute: Compute
    options: tuple[str, ...]
    summary: str

    def __call__(self, sentence: Sentence, options: Mapping[str, Any]) -> TokenAttribution:
        """Compute, refusing options that this method does not take."""
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            raise InputError(
                f"options of method {self.name!r}",
                got=", ".join(unknown),
                expected=f"a selection of {', '.join(self.options)}",
                remedy="Leave the others out: this method would ignore them.",
            )
        return self.compute(sentence, **options)


METHODS: dict[str, Method] = {}


def register(family: str, name: str | None = None) -> Callable[[Compute], Compute]:
    """Enter a function (sentence, *, option=default, ...) -> TokenAttribution as a method."""

    def enter(compute: Compute) -> Compute:
        parameters = inspect.signature(compute).parameters.values()
        options = tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)
        title = name or compute.__name__
        METHODS[title] = Method(title, family, compute, options, (compute.__doc__ or "").strip().split("\n")[0])
        return compute

    return enter


def get_method(name: str) -> Method:
    """Look a method up.

    Raises:
        InputError: an unknown name; the message lists the known ones.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise InputError("method", got=repr(name), expected=f"one of {', '.join(METHODS)}", remedy="Pick one.")
    return METHODS[name]


def check_taken(options: Mapping[str, Any], methods: Sequence[Method]) -> None:
    """Refuse options that none of the methods takes."""
    known = sorted({option for method in methods for option in method.options})
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(
            f"options of {', '.join(method.name for method in methods)}",
            got=", ".join(unknown),
            expected=f"a selection of {', '.join(known)}",
            remedy="Check the spelling.",
        )
