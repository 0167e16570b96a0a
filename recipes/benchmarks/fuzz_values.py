"""Strategies of fuzz.py: mostly valid texts, games, attention, arrays and tables, and hostile values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fuzz_models import WORDS, classifier, language_model, tokenizer
from hypothesis import strategies as st

import lightning_attnflow as lib
from lightning_attnflow import shapley


@dataclass(frozen=True)
class Call:
    """A function, class or command that is called.

    Args:
        function: what is called.
        arguments: a strategy for each argument.
        hostile: the arguments that may be replaced by hostile values or added with them; None: all.
        data: the arguments that are drawn together, as the dictionary ``data``.
        data: the arguments that are drawn together, as the dictionary ``data``.
    """

    function: Any
    arguments: dict[str, Any]
    hostile: tuple[str, ...] | None = None
    data: tuple[str, ...] = ()


HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [-1, 0, 1, 2, 3, -(10**20), 0.5, -0.5, float("nan"), float("inf"), 1e-320, b"x", "", "x", "\ud800"]
    ),
    st.text(max_size=5),
    st.builds(object),
    st.lists(st.sampled_from([0, 1, "a", None, 0.5, []]), max_size=3),
    st.dictionaries(st.sampled_from(["a", 0]), st.integers(0, 2), max_size=2),
    st.sampled_from(
        [np.zeros((0, 2)), np.array("x"), np.ones(3, dtype=complex), np.array([None, 1]), torch.ones(2, 2)]
    ),
)


def weighted(*choices: tuple[int, Any]) -> Any:
    """Strategy that draws from one of several, each given with its weight."""
    repeated = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.sampled_from(range(len(repeated))).flatmap(repeated.__getitem__)


def mostly(valid: Sequence[Any], *other: Any) -> Any:
    """One of the valid values, or rarely (one draw in eight) one of the others."""
    return weighted((7, st.sampled_from(valid)), (1, st.sampled_from(other)))


def whole(low: int, high: int) -> Any:
    """Integers of a range, all equally likely; ``st.integers`` draws 0 in a quarter of the cases."""
    return st.sampled_from(range(low, high + 1))


MODELS = st.sampled_from([0, 0, 0, 1]).map(lambda kind: (language_model if kind else classifier)())
TOKENIZERS = st.booleans().map(lambda template: tokenizer(template=template))
SEEDS = whole(0, 3)
FLOATS = st.floats(-2, 2, width=32)
SHARES = mostly([0.95, 0.5], 0.0, 1.0, -1.0)
PLAIN_TEXTS = st.lists(st.sampled_from(WORDS[5:]), min_size=1, max_size=6).map(" ".join)
TEXTS = weighted(
    (12, PLAIN_TEXTS),
    (1, st.text(max_size=12)),
    (
        1,
        st.sampled_from(
            ["", " ", "[CLS] fine [SEP]", "\ud83d", "好 😀 עברית", "a\x00b", "e\u0301", "\u200b", "fine " * 50]
        ),
    ),
    (1, st.lists(st.integers(-1, 20), max_size=6)),
    (1, st.just([{"role": "user", "content": "fine"}])),
)


@st.composite
def games(draw: Any, n_players: int | None = None) -> Any:
    """A game of up to five players, which rarely raises, or returns NaN or a wrong shape."""
    n = draw(whole(1, 5)) if n_players is None else n_players
    weights = np.array(draw(st.lists(FLOATS, min_size=n, max_size=n)))
    kind = draw(mostly(["good"], "nan", "shape", "raise", "text"))

    def payoff(coalitions: Any) -> Any:
        if kind == "raise":
            raise KeyError("user")
        values = -((coalitions @ weights) ** 2)  # at most 0, as log-probabilities are
        return {"nan": values * np.nan, "shape": values[:-1], "text": ["x"] * len(values)}.get(kind, values)

    return shapley.FunctionGame(payoff, n)


@st.composite
def attentions(draw: Any) -> Any:
    """Attention of up to three layers, rarely no probabilities."""
    layers, heads, length = draw(whole(1, 3)), draw(whole(1, 2)), draw(whole(1, 5))
    array = np.random.default_rng(draw(st.integers(0, 10**6))).random((layers, heads, length, length))
    scale = draw(mostly(["rows"], "none", "nan", "negative", "zero", "tiny"))
    array = array / array.sum(-1, keepdims=True) if scale in ("rows", "tiny") else array
    factors = {"nan": np.nan, "negative": -1.0, "zero": 0.0, "tiny": 1e-300}
    return list(array * factors.get(scale, 1.0))


@st.composite
def networks(draw: Any) -> Any:
    """A network of valid attention."""
    layers, length = draw(whole(1, 3)), draw(whole(1, 5))
    array = np.random.default_rng(draw(st.integers(0, 10**6))).random((layers, 1, length, length))
    return lib.AttentionNetwork.from_attentions(list(array / array.sum(-1, keepdims=True)))


@st.composite
def arrays(draw: Any, n: int | None = None, ndim: int = 1) -> Any:
    """Finite numbers or rows of them, rarely with NaN, infinity or rows of different lengths."""
    size = draw(whole(1, 5)) if n is None else n
    rows = [draw(st.lists(FLOATS, min_size=size, max_size=size)) for _ in range(draw(whole(1, 4)) if ndim == 2 else 1)]
    if (bad := draw(mostly([None], "nan", "inf", "large", "short"))) == "short":
        rows[-1] = rows[-1][1:]
    elif bad is not None:
        rows[0][0] = {"nan": float("nan"), "inf": float("inf"), "large": 1e300}[bad]
    return rows if ndim == 2 else np.array(rows[0])


@st.composite
def games_with(draw: Any, game: str, values: str) -> dict[str, Any]:
    """A game and one number for each player, under these names."""
    made = draw(games())
    return {game: made, values: draw(arrays(made.n_players))}


@st.composite
def tables(draw: Any) -> dict[str, Any]:
    """Features and labels of a training and a validation set."""
    n, m, d = draw(weighted((7, whole(3, 8)), (1, whole(1, 2)))), draw(whole(2, 5)), draw(whole(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    scale = draw(mostly([1.0], 1e300, 1e-300, np.nan, np.inf))
    labels = draw(mostly([[0, 1], [1, 2], ["a", "b"], [True, False], [0, 1, 2]], [0.5, 1.5], [0], [0, 99], [None, 1]))
    return {
        "features": rng.normal(size=(n, d)) * scale,
        "labels": [labels[i % len(labels)] for i in range(n)],
        "validation_features": rng.normal(size=(m, d)),
        "validation_labels": [labels[i % min(2, len(labels))] for i in range(m)],
    }


TABLE = ("features", "labels", "validation_features", "validation_labels")


TABLE = ("features", "labels", "validation_features", "validation_labels")


def optional(**arguments: Any) -> Any:
    """A dictionary with some of the arguments."""
    return st.fixed_dictionaries({}, optional=arguments)
