"""All maximum flows in one picture: a bar from the least to the most of each token, single flows as markers in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_attnflow.errors import InputError, MissingDependencyError
from lightning_attnflow.flow.result import AttentionFlow
from lightning_attnflow.plots.lettering import word_families

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INCHES = 9.6  # wide: 1440 pixels at 150 dots per inch, which a README shows at about two thirds
_ROW_INCHES, _LOW_ROW_INCHES, _HIGH_ROWS = 0.56, 0.42, 16  # rows are lower in sentences of more tokens than that
_NUMBERED_LAYERS = 12  # of more layers the bars are too narrow for their numbers: an axis takes their place
_LAYERS_INCHES, _MARGINS_INCHES = 1.2, 2.5
_BAR, _HATCH, _LINE, _OTHER_LAYER = "#dbe1e8", "#b9c2cd", "#111111", "#c3cad3"
_STYLES = (  # marker and colour of the Okabe-Ito palette, told apart without colour too
    ("s", "#d55e00"),
    ("o", "#0072b2"),
    ("^", "#009e73"),
    ("v", "#cc79a7"),
    ("P", "#e69f00"),
    ("X", "#56b4e9"),
    ("p", "#7a5195"),
    ("*", "#8c6d31"),
)
_TITLE_CHARACTERS, _SUBTITLE_CHARACTERS, _NAME_CHARACTERS = 88, 104, 38  # longer lines are broken
_RANGE, _HATCHED = "range over all maximum flows", "set by a trivial cut: not importance"
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
        flow: the flow of one sentence; its values are drawn as a black line across the bar, with their interval.
        labels: the name of each of the n tokens or groups.
        marks: single flows, name -> (n,) in the units of the flow: each gets a marker of its own.
        layer: the layer of the bars, one of `flow.layers`. Ranges that a trivial cut sets are hatched: they say next
            to nothing about the token.
        title: the heading; default: what the marks say of the most uncertain token, in words.
        subtitle: a line below it, say the sentence and the model.

    Returns:
        A matplotlib figure, 1440 pixels wide at 150 dots per inch, that belongs to no pyplot state.

    Raises:
        InputError: a layer that the flow does not have, no flow at all, too many marks, labels or marks that do not fit
            its tokens.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> import numpy as np
        >>> from lightning_attnflow import AttentionNetwork, attention_flow
        >>> network = AttentionNetwork(np.array([[[0.7, 0.3], [0.4, 0.6]]] * 2), np.array([1.0, 0.0]))
        >>> figure = interval_chart(attention_flow(network), ["good", "film"], {"one flow": [1.0, 0.0]})
        >>> figure.get_suptitle()
        'good may carry anything from 40% to 100% of the maximum flow'
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import PercentFormatter
    except ImportError as error:
        raise MissingDependencyError(
            "interval_chart",
            got="no matplotlib",
            expected="matplotlib >= 3.8",
            remedy="pip install 'lightning-attnflow[plots]'",
        ) from error
    if layer not in flow.layers:
        raise InputError("layer", got=layer, expected=f"one of {list(flow.layers)}", remedy="Compute that layer too.")
    if not (flow.total > 0).all():
        raise InputError(
            "flow",
            got=f"a total flow of {flow.total.min():g}",
            expected="a total > 0 in every layer",
            remedy="Draw the layers that flow reaches.",
        )
    row = flow.layers.index(layer)
    several = len(flow.layers) > 1
    row_inches = _ROW_INCHES if len(labels) <= _HIGH_ROWS else _LOW_ROW_INCHES
    heights = [row_inches * max(len(labels), 2), *([_LAYERS_INCHES] if several else [])]
    figure = Figure(figsize=(_INCHES, sum(heights) + _MARGINS_INCHES), dpi=150)
    figure.set_layout_engine("constrained", h_pad=0.08, w_pad=0.12)
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    axes = figure.add_subplot(grid[0, :])
    total = flow.total[row]
    shares = {name: _checked(name, values, labels) / total for name, values in marks.items()}
    draw_intervals(axes, labels, flow.lower[row] / total, flow.upper[row] / total, shares)
    _draw_values(axes, flow, row)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1.0))
    axes.set_xlabel(f"share of the maximum flow that each token of layer {layer} carries", fontsize=11)
    axes.set_title(fill(subtitle, _SUBTITLE_CHARACTERS), fontsize=11.5, pad=10, parse_math=False)
    _draw_legend(axes, y=-0.6 / heights[0])
    if several:
        draw_layers(figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1]), flow, layer)
    heading = finding(flow, labels, layer, marks) if title is None else title
    figure.suptitle(fill(heading, _TITLE_CHARACTERS), fontsize=12.5, weight="bold", parse_math=False)
    return figure


def finding(flow: AttentionFlow, labels: Sequence[str], layer: int, marks: Mapping[str, ArrayLike]) -> str:
    """Say in a line what single flows say of the token that a layer leaves most uncertain."""
    row = flow.layers.index(layer)
    token = int((flow.upper[row] - flow.lower[row]).argmax())
    shares = [
        value[token] / flow.total[row] for value in (flow.lower[row], flow.upper[row], *map(np.asarray, marks.values()))
    ]
    least, most, *single = (f"{share:.0%}" for share in shares)
    if least == most:
        return f"In layer {layer} the maximum flow is unique"
    carried = sorted(set(single), key=lambda percent: float(percent[:-1]))
    if len(carried) < 2:
        return f"{labels[token]} may carry anything from {least} to {most} of the maximum flow"
    answers = f"{', '.join(carried[:-1])} or {carried[-1]}"
    return f"{labels[token]} carries {answers} of the maximum flow, depending on who computes it"


def distinct_flows(flows: Mapping[str, ArrayLike], *, tolerance: float = 1e-6) -> dict[str, NDArray[np.float64]]:
    """Join the names of flows that differ by no more than `tolerance` in any token, in the order of their first.

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
    """Draw a horizontal bar [lower, upper] a label, the first on top, and in it a lane for each named set of values.

    Args:
        axes: the matplotlib axes to draw into.
        labels: n names.
        lower: (n,), and `upper`: the ends of the bars.
        upper: (n,).
        marks: up to `MAX_MARKS` sets of values, name -> (n,).

    Raises:
        InputError: arrays of another length, lower above upper, a NaN, or too many marks.
    """
    low, high = _checked("lower", lower, labels), _checked("upper", upper, labels)
    if (low > high + 1e-9).any():
        worst = int((low - high).argmax())
        raise InputError(
            "lower",
            got=f"{low[worst]:g} above upper {high[worst]:g} for {labels[worst]!r}",
            expected="lower <= upper",
            remedy="Pass the least first.",
        )
    if len(marks) > MAX_MARKS:
        raise InputError(
            "marks",
            got=f"{len(marks)} sets of values",
            expected=f"at most {MAX_MARKS}, each with a marker of its own",
            remedy="Draw sets that are equal as one.",
        )
    rows = np.arange(len(labels), dtype=np.float64)
    axes.barh(rows, high - low, left=low, height=0.88, color=_BAR, linewidth=0, label=_RANGE)
    lanes = np.linspace(-0.33, 0.33, len(marks)) if len(marks) > 1 else np.zeros(1)
    for (name, values), lane, (marker, colour) in zip(marks.items(), lanes, _STYLES, strict=False):
        axes.plot(
            _checked(name, values, labels), rows + lane, marker, color=colour, label=name,
            markersize=7.5, markeredgecolor="white", markeredgewidth=0.6, linestyle="none", zorder=4, clip_on=False,
        )  # fmt: skip
    axes.set_yticks(rows, list(labels), fontsize=12, parse_math=False, fontfamily=word_families())
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.set_xlim(left=min(0.0, float(low.min(initial=0.0))))
    axes.tick_params(axis="y", length=0, pad=9)  # markers at 0 reach over the axis
    axes.tick_params(axis="x", labelsize=10)
    axes.grid(axis="x", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def draw_layers(ambiguity: Axes, saturation: Axes, flow: AttentionFlow, layer: int | None = None) -> None:
    """Draw the ambiguity and the saturation of every layer of a flow as bars into two axes; `layer` is emphasised."""
    places = np.arange(len(flow.layers))
    step = 1 + (len(places) - 1) // _NUMBERED_LAYERS
    colours = [_LINE if one == layer else _OTHER_LAYER for one in flow.layers]
    panels = (
        (ambiguity, flow.ambiguity / flow.total, "ambiguity: summed width of the ranges", "{:.2f}"),
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
    """Draw the values as lines across the bars; hatch the bars that a trivial cut decides, as those are no finding."""
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
    named[_RANGE] = Patch(facecolor=_BAR)  # not the first bar, which may be hatched
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
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (len(labels),) or not np.isfinite(array).all():
        got = f"shape {array.shape}" if array.shape != (len(labels),) else "a value that is not finite"
        raise InputError(
            name,
            got=got,
            expected=f"{len(labels)} finite numbers, one a label",
            remedy="Take labels and values from one sentence.",
        )
    return array
