"""Chart of the range over all maximum flows for each token, with single flows as markers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_attnflow._checks import check_instance, check_items, check_numbers, check_string, is_integer
from lightning_attnflow._fonts import drawable
from lightning_attnflow._optional import require
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow.result import AttentionFlow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INCHES = 9.6  # width: 1440 pixels at 150 dots per inch
_ROW_INCHES, _LOW_ROW_INCHES, _HIGH_ROWS = 0.56, 0.42, 16  # rows are lower in sentences with more tokens
_NUMBERED_LAYERS = 12  # beyond this, bars are too narrow for numbers and have an axis instead
_LAYERS_INCHES, _MARGINS_INCHES = 1.2, 2.5
_BAR, _HATCH, _LINE, _OTHER_LAYER = "#dbe1e8", "#b9c2cd", "#111111", "#c3cad3"
_STYLES = (  # marker and colour; distinguishable without colour, palette of Okabe & Ito
    ("s", "#d55e00"),
    ("o", "#0072b2"),
    ("^", "#009e73"),
    ("v", "#cc79a7"),
    ("P", "#e69f00"),
    ("X", "#56b4e9"),
    ("p", "#7a5195"),
    ("*", "#8c6d31"),
)
_TITLE_CHARACTERS, _SUBTITLE_CHARACTERS, _NAME_CHARACTERS = 88, 104, 38  # longer lines are wrapped
_RANGE, _HATCHED = "range over all maximum flows", "trivial cut: not importance"
MAX_MARKS = len(_STYLES)


def interval_chart(
    flow: AttentionFlow,
    labels: Sequence[str],
    marks: Mapping[str, ArrayLike],
    *,
    layer: int = 0,
    title: str | None = None,
    subtitle: str = "",
) -> Figure:
    """Draw the range of each token over all maximum flows into a layer, and ambiguity and saturation of every layer.

    Args:
        flow: the flow of one sentence; its values are drawn as black lines across the bars, with their intervals.
        labels: names of the n tokens or groups.
        marks: single flows to draw as markers, name -> (n,) in units of flow; at most eight.
        layer: layer of the bars, one of ``flow.layers``. Ranges decided by a trivial cut are hatched: they do not
            measure importance.
        title: default: a sentence about the token with the widest range.
        subtitle: text below the title, such as the sentence and the model.

    Returns:
        A matplotlib figure, 1440 pixels wide at 150 dots per inch, created without pyplot.

    Raises:
        InputError: a layer that the flow does not contain or that has no flow, too many marks, or labels or marks of
            the wrong length.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> import numpy as np
        >>> from lightning_attnflow import AttentionNetwork, attention_flow
        >>> network = AttentionNetwork(np.array([[[0.7, 0.3], [0.4, 0.6]]] * 2), np.array([1.0, 0.0]))
        >>> figure = interval_chart(attention_flow(network), ["good", "film"], {"one flow": [1.0, 0.0]})
        >>> figure.get_suptitle()
        'good has between 40% and 100% of the maximum flow'
    """
    new_figure = require("matplotlib.figure", extra="plots", purpose="interval_chart").Figure
    percent = require("matplotlib.ticker", extra="plots", purpose="interval_chart").PercentFormatter(xmax=1.0)
    check_instance("flow", flow, AttentionFlow, remedy="attention_flow() makes one.")
    labels = [str(label) for label in check_items("labels", labels, "a name for each token or group")]
    check_instance("marks", marks, Mapping)
    for name, text in {"title": "" if title is None else title, "subtitle": subtitle}.items():
        check_string(name, text)
    if not is_integer(layer) or layer not in flow.layers:
        raise InputError("layer", got=layer, expected=f"one of {list(flow.layers)}")
    if not (flow.total > 0).all():
        raise InputError("flow", got=f"a total flow of {flow.total.min():g}", expected="a total > 0 in every layer")
    row = flow.layers.index(layer)
    several = len(flow.layers) > 1
    row_inches = _ROW_INCHES if len(labels) <= _HIGH_ROWS else _LOW_ROW_INCHES
    heights = [row_inches * max(len(labels), 2), *([_LAYERS_INCHES] if several else [])]
    figure: Figure = new_figure(figsize=(_INCHES, sum(heights) + _MARGINS_INCHES), dpi=150)
    figure.set_layout_engine("constrained", h_pad=0.08, w_pad=0.12)
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    axes = figure.add_subplot(grid[0, :])
    total = flow.total[row]
    shares = {name: _checked(name, values, labels) / total for name, values in marks.items()}
    draw_intervals(axes, labels, flow.lower[row] / total, flow.upper[row] / total, shares)
    _draw_values(axes, flow, row)
    axes.xaxis.set_major_formatter(percent)
    axes.set_xlabel(f"share of the maximum flow through each token of layer {layer}", fontsize=11)
    axes.set_title(fill(subtitle, _SUBTITLE_CHARACTERS), fontsize=11.5, pad=10, parse_math=False)
    _draw_legend(axes, y=-0.6 / heights[0])
    if several:
        draw_layers(figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1]), flow, layer)
    heading = finding(flow, labels, layer, marks) if title is None else title
    lines, style = drawable(fill(heading, _TITLE_CHARACTERS).split("\n"))
    figure.suptitle("\n".join(lines), fontsize=12.5, weight="bold", **style)
    return figure


def finding(flow: AttentionFlow, labels: Sequence[str], layer: int, marks: Mapping[str, ArrayLike]) -> str:
    """Describe in one sentence what single flows state about the token with the widest range."""
    row = flow.layers.index(layer)
    token = int((flow.upper[row] - flow.lower[row]).argmax())
    shares = [
        value[token] / flow.total[row] for value in (flow.lower[row], flow.upper[row], *map(np.asarray, marks.values()))
    ]
    least, most, *single = (f"{share:.0%}" for share in shares)
    if least == most:
        return f"In layer {layer} the maximum flow is unique"
    distinct = sorted(set(single), key=lambda percent: float(percent[:-1]))
    if len(distinct) < 2:
        return f"{labels[token]} has between {least} and {most} of the maximum flow"
    answers = f"{', '.join(distinct[:-1])} or {distinct[-1]}"
    return f"{labels[token]} has {answers} of the maximum flow, depending on the solver"


def distinct_flows(flows: Mapping[str, ArrayLike], *, tolerance: float = 1e-6) -> dict[str, NDArray[np.float64]]:
    """Merge flows that differ by at most ``tolerance`` in every token, and join their names.

    Example:
        >>> {name: values.tolist() for name, values in distinct_flows({"a": [1.0], "b": [0.5], "c": [1.0]}).items()}
        {'a = c': [1.0], 'b': [0.5]}
    """
    groups: list[tuple[list[str], NDArray[np.float64]]] = []
    for name, values in flows.items():
        array = np.asarray(values, dtype=np.float64)
        for names, others in groups:
            if np.allclose(array, others, rtol=0.0, atol=tolerance):
                names.append(name)
                break
        else:
            groups.append(([name], array))
    return {" = ".join(names): array for names, array in groups}


def draw_intervals(
    axes: Axes, labels: Sequence[str], lower: ArrayLike, upper: ArrayLike, marks: Mapping[str, ArrayLike]
) -> None:
    """Draw a horizontal bar [lower, upper] for each label, the first at the top, and the markers of each flow.

    Args:
        axes: matplotlib axes to draw on.
        labels: n names.
        lower, upper: (n,) ends of the bars.
        marks: name -> (n,), at most ``MAX_MARKS``.
    """
    low, high = _checked("lower", lower, labels), _checked("upper", upper, labels)
    if (low > high + 1e-9).any():
        worst = int((low - high).argmax())
        raise InputError(
            "lower", got=f"{low[worst]:g} above upper {high[worst]:g} for {labels[worst]!r}", expected="lower <= upper"
        )
    if len(marks) > MAX_MARKS:
        raise InputError(
            "marks",
            got=counted(len(marks), "flow"),
            expected=f"at most {MAX_MARKS}, each with its own marker",
            remedy="Merge equal flows with distinct_flows().",
        )
    rows = np.arange(len(labels), dtype=np.float64)
    axes.barh(rows, high - low, left=low, height=0.88, color=_BAR, linewidth=0, label=_RANGE)
    lanes = np.linspace(-0.33, 0.33, len(marks)) if len(marks) > 1 else np.zeros(1)
    for (name, values), lane, (marker, colour) in zip(marks.items(), lanes, _STYLES, strict=False):
        axes.plot(
            _checked(name, values, labels), rows + lane, marker, color=colour, label=name,
            markersize=7.5, markeredgecolor="white", markeredgewidth=0.6, linestyle="none", zorder=4, clip_on=False,
        )  # fmt: skip
    names, style = drawable(labels, numbered=True)
    axes.set_yticks(rows, names, fontsize=12, **style)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.set_xlim(left=min(0.0, float(low.min(initial=0.0))))
    axes.tick_params(axis="y", length=0, pad=9)  # markers at 0 overlap the axis
    axes.tick_params(axis="x", labelsize=10)
    axes.grid(axis="x", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def draw_layers(ambiguity: Axes, saturation: Axes, flow: AttentionFlow, layer: int | None = None) -> None:
    """Draw ambiguity and saturation of every layer as bars on two axes; ``layer`` is emphasised."""
    places = np.arange(len(flow.layers))
    step = 1 + (len(places) - 1) // _NUMBERED_LAYERS
    colours = [_LINE if one == layer else _OTHER_LAYER for one in flow.layers]
    panels = (
        (ambiguity, flow.ambiguity / flow.total, "ambiguity: sum of the widths of the ranges", "{:.2f}"),
        (saturation, flow.saturation, "saturation: tokens decided by a trivial cut", "{:.0%}"),
    )
    for axes, heights, name, form in panels:
        axes.bar(places, heights, color=colours, width=0.72)
        if step == 1:
            axes.set_yticks([])
            for place, height in zip(places, heights, strict=True):
                axes.annotate(
                    form.format(height), (place, height), (0, 2), textcoords="offset points", ha="center", fontsize=9.5
                )
        axes.set_title(name, fontsize=11, loc="left", pad=9)
        axes.set_xticks(places[::step], [str(one) for one in flow.layers[::step]], fontsize=10)
        for tick, one in zip(axes.get_xticklabels(), flow.layers[::step], strict=True):
            tick.set_fontweight("bold" if one == layer else "normal")
        axes.set_xlabel("layer", fontsize=10)
        axes.set_ylim(0, 1.2 * max(float(heights.max()), 0.05))
        axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_values(axes: Axes, flow: AttentionFlow, row: int) -> None:
    """Draw the values as lines across the bars, and hatch bars decided by a trivial cut in layers that have any."""
    rows = np.arange(flow.values.shape[1])
    name = "Shapley flow (unique)" if flow.method == "shapley" else f"{flow.method} flow"
    values, low, high = (array[row] / flow.total[row] for array in (flow.values, flow.low, flow.high))
    axes.vlines(values, rows - 0.44, rows + 0.44, color=_LINE, linewidth=2.4, zorder=3, label=name)
    axes.hlines(rows, low, high, color=_LINE, linewidth=1.2, zorder=3)
    if flow.saturation[row] == 0:
        return
    bars = list(axes.patches)
    for bar, cut in zip(bars, flow.binding_cut[row], strict=True):
        if cut != "mixed":
            bar.set(hatch="////", edgecolor=_HATCH)


def _draw_legend(axes: Axes, y: float) -> None:
    from matplotlib.patches import Patch

    handles, names = axes.get_legend_handles_labels()
    named = dict(zip(names, handles, strict=True))
    named[_RANGE] = Patch(facecolor=_BAR)  # the first bar may be hatched
    if any(bar.get_hatch() for bar in axes.patches):
        named[_HATCHED] = Patch(facecolor=_BAR, edgecolor=_HATCH, hatch="////")
    axes.legend(
        named.values(),
        [fill(name, _NAME_CHARACTERS) for name in named],
        loc="upper center",
        bbox_to_anchor=(0.5, y),
        ncols=3,
        frameon=False,
        fontsize=10,
    )


def _checked(name: str, values: ArrayLike, labels: Sequence[str]) -> NDArray[np.float64]:
    array = check_numbers(name, values, f"{counted(len(labels), 'finite number')}, one per label")
    if array.shape != (len(labels),) or not np.isfinite(array).all():
        got = f"shape {array.shape}" if array.shape != (len(labels),) else "a value that is not finite"
        raise InputError(name, got=got, expected=f"{counted(len(labels), 'finite number')}, one per label")
    return array
