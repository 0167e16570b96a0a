"""The flow of one sentence as tables: Markdown for a logger's text tab, plain text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_attnflow.errors import InputError
from lightning_attnflow.plots.records import SentenceFlow, shortened, word_order

_MARKDOWN = str.maketrans({character: f"&#{ord(character)};" for character in "\\`*_|<>&~#!"})
_LONGEST_LABEL = 24


def top_words_table(sentence: SentenceFlow, *, n_words: int = 4) -> str:
    """Return a Markdown table: for every layer, the words with the largest flow in percent.

    Args:
        sentence: the flow of one sentence.
        n_words: how many words to name a layer; special tokens are summed up in a column of their own.

    Returns:
        Markdown, a row a layer, the layer next to the readout first.
    """
    if n_words < 1:
        raise InputError("n_words", got=n_words, expected="at least 1", remedy="Leave it at 4.")
    lines = [f"**{sentence.text.translate(_MARKDOWN)}**", ""] if sentence.text else []
    lines += [
        "| layer | largest flow, % of the layer [least to most over all maximum flows, if not unique] | special |",
        "|---|---|---|",
    ]
    for layer in range(sentence.n_layers - 1, -1, -1):
        total = sentence.values[layer].sum()
        special = f"{100 * sentence.values[layer][sentence.special].sum() / total:.1f}%" if total else ""
        if sentence.is_saturated(layer):
            words = "*saturated: not importance*"
        else:
            words = ", ".join(
                f"{sentence.labels[player].translate(_MARKDOWN)} {_percent(sentence, layer, player)}"
                for player in list(word_order(sentence, layer))[:n_words]
            )
        lines.append(f"| {layer} | {words} | {special} |")
    return "\n".join(lines)


def flow_table(sentence: SentenceFlow, *, layers: Sequence[int] | None = None) -> str:
    """Return a plain-text table: a row a word, a column a layer, each cell the flow and, unless unique, its interval.

    Args:
        sentence: the flow of one sentence.
        layers: the columns; default: the first, the middle and the last attention layer's input, 0, L // 2 and L - 1.

    Raises:
        InputError: a layer outside 0..L.
    """
    top = sentence.n_layers
    wanted = sorted({0, top // 2, top - 1}) if layers is None else list(layers)
    outside = [layer for layer in wanted if not 0 <= layer <= top]
    if outside:
        raise InputError("layers", got=outside, expected=f"layers in 0..{top}", remedy="Leave layers=None.")
    heads = [f"layer {layer}" + (" (saturated)" if sentence.is_saturated(layer) else "") for layer in wanted]
    cells = [[_with_interval(sentence, layer, player) for layer in wanted] for player in range(len(sentence.labels))]
    names = [shortened(label, _LONGEST_LABEL) for label in sentence.labels]
    first = max(map(len, [*names, "token"]))
    widths = [max(map(len, [head, *(row[column] for row in cells)])) for column, head in enumerate(heads)]
    lines = ["  ".join(["token".ljust(first), *(h.rjust(w) for h, w in zip(heads, widths, strict=True))])]
    for name, row in zip(names, cells, strict=True):
        lines.append("  ".join([name.ljust(first), *(cell.rjust(w) for cell, w in zip(row, widths, strict=True))]))
    if any(sentence.is_saturated(layer) for layer in wanted):
        lines.append("saturated: trivial cuts decide most tokens of that layer; do not read it as importance")
    return "\n".join(line.rstrip() for line in lines)


def _with_interval(sentence: SentenceFlow, layer: int, player: int) -> str:
    """Write the flow, and the least and most it could be unless that is the same to three decimals."""
    value, low, high = (f"{array[layer, player]:.3f}" for array in (sentence.values, sentence.lower, sentence.upper))
    return value if low == high else f"{value} [{low}, {high}]"


def _percent(sentence: SentenceFlow, layer: int, player: int) -> str:
    total = sentence.values[layer].sum()
    arrays = (sentence.values, sentence.lower, sentence.upper)
    value, low, high = (f"{100 * array[layer, player] / total:.1f}" for array in arrays)
    return f"**{value}**" if low == high else f"**{value}** [{low} to {high}]"
