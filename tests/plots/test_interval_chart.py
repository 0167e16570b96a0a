"""Interval chart: positions of ranges, markers and values; titles; argument checks."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_attnflow import AttentionNetwork, attention_flow
from lightning_attnflow.errors import InputError, MissingDependencyError
from lightning_attnflow.plots.intervals import MAX_MARKS, distinct_flows, draw_intervals, finding, interval_chart

LABELS = ["[CLS]", "$x^2$", "film", "."]


@pytest.fixture(scope="module")
def flow():
    attention = np.random.default_rng(0).dirichlet(np.ones(4), size=(3, 2, 4))
    return attention_flow(AttentionNetwork.from_attentions(list(attention)))


def marks(flow):
    return {"least": flow.lower[1], "most": flow.upper[1]}


def drawn(axes):
    """Return what is drawn as markers, name -> x of each token."""
    return {line.get_label(): line.get_xdata() for line in axes.lines}


def test_ranges_marks_and_values_are_drawn_at_their_positions(flow, tmp_path):
    figure = interval_chart(flow, LABELS, marks(flow), layer=1, subtitle="$5 or $6")
    axes = figure.axes[0]
    bars = axes.patches
    np.testing.assert_allclose([bar.get_x() for bar in bars], flow.lower[1], atol=1e-12)
    np.testing.assert_allclose([bar.get_x() + bar.get_width() for bar in bars], flow.upper[1])
    assert [bool(bar.get_hatch()) for bar in bars] == [cut != "mixed" for cut in flow.binding_cut[1]]
    np.testing.assert_allclose(drawn(axes)["least"], flow.lower[1])
    np.testing.assert_allclose(drawn(axes)["most"], flow.upper[1])
    shapley = [segment[0, 0] for segment in axes.collections[0].get_segments()]
    np.testing.assert_allclose(shapley, flow.values[1])
    assert [label.get_text() for label in axes.get_yticklabels()] == LABELS
    names = {text.get_text() for text in axes.get_legend().get_texts()}
    assert names >= {"least", "most", "Shapley flow (unique)", "range over all maximum flows"}
    figure.savefig(tmp_path / "intervals.png")
    assert (tmp_path / "intervals.png").read_bytes()[16:20] == (1440).to_bytes(4, "big")  # pixels wide


def test_small_panels_show_all_layers(flow):
    _, ambiguity, saturation = interval_chart(flow, LABELS, {}).axes
    np.testing.assert_allclose([bar.get_height() for bar in ambiguity.patches], flow.ambiguity)
    np.testing.assert_allclose([bar.get_height() for bar in saturation.patches], flow.saturation)
    assert len({bar.get_facecolor() for bar in ambiguity.patches}) == 2  # the layer of the bars is emphasised


def test_values_are_divided_by_the_total_flow():
    flow = attention_flow(AttentionNetwork.from_attentions([np.full((1, 4, 4), 0.25)] * 2, readout="all"))
    axes = interval_chart(flow, LABELS, {"values": flow.values[0]}).axes[0]
    np.testing.assert_allclose(drawn(axes)["values"], 0.25)


def test_one_layer_has_no_small_panels_and_many_layers_have_an_axis():
    attention = np.random.default_rng(1).dirichlet(np.ones(3), size=(14, 1, 3))
    network = AttentionNetwork.from_attentions(list(attention))
    assert len(interval_chart(attention_flow(network, layers=[2]), LABELS[:3], {}, layer=2).axes) == 1
    _, ambiguity, _ = interval_chart(attention_flow(network), LABELS[:3], {}).axes
    assert [label.get_text() for label in ambiguity.get_xticklabels()] == [str(layer) for layer in range(0, 15, 2)]


def test_the_title_describes_the_token_with_the_widest_range(flow):
    row = flow.upper[1] - flow.lower[1]
    token = int(row.argmax())
    least, most = f"{flow.lower[1, token]:.0%}", f"{flow.upper[1, token]:.0%}"
    says = f"{LABELS[token]} has {least} or {most} of the maximum flow, depending on the solver"
    assert finding(flow, LABELS, 1, marks(flow)) == says
    assert interval_chart(flow, LABELS, marks(flow), layer=1).get_suptitle().replace("\n", " ") == says
    assert f"between {least} and {most}" in finding(flow, LABELS, 1, {})
    assert finding(flow, LABELS, 2, {}) == "In layer 2 the maximum flow is unique"


def test_equal_flows_are_merged():
    flows = {"a": np.array([1.0, 0.0]), "b": np.array([0.9, 0.1]), "c": np.array([1.0, 1e-9])}
    assert list(distinct_flows(flows)) == ["a = c", "b"]
    assert list(distinct_flows(flows, tolerance=0.2)) == ["a = b = c"]


def test_pyplot_has_no_new_figure(flow):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    interval_chart(flow, LABELS, {})
    assert plt.get_fignums() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": 9}, r"layer: got 9; expected one of \[0, 1, 2, 3\]"),
        ({"labels": LABELS[:2]}, "expected 2 finite numbers"),
        ({"labels": None}, "labels: got NoneType"),
        ({"marks": [[0.5]]}, "marks: got list; expected a Mapping"),
        ({"marks": {"text": ["a"] * 4}}, "text: got list of dtype"),
        ({"title": 5}, "title: got int; expected a string"),
        ({"subtitle": None}, "subtitle: got NoneType"),
        ({"layer": True}, "layer: got True"),
        ({"marks": {"short": [0.5]}}, r"short: got shape \(1,\)"),
        ({"marks": {"odd": [np.nan, 0, 0, 0]}}, "odd: got a value that is not finite"),
        ({"marks": {str(i): np.zeros(4) for i in range(MAX_MARKS + 1)}}, f"at most {MAX_MARKS}"),
    ],
)
def test_invalid_arguments_raise_input_errors(flow, change, message):
    arguments = {"labels": LABELS, "marks": {}, "layer": 0} | change
    with pytest.raises(InputError, match=message):
        interval_chart(flow, **arguments)


def test_lower_bounds_above_upper_bounds_raise_an_input_error():
    from matplotlib.figure import Figure

    with pytest.raises(InputError, match=r"above upper 0\.2 for 'b'"):
        draw_intervals(Figure().subplots(), ["a", "b"], [0.0, 0.3], [1.0, 0.2], {})


def test_the_error_without_matplotlib_names_the_extra(monkeypatch, flow):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"lightning-attnflow\[plots\]"):
        interval_chart(flow, LABELS, {})


def test_a_chart_of_something_else_raises_an_input_error():
    with pytest.raises(InputError, match=r"flow: got dict; expected an AttentionFlow. attention_flow\(\) makes one"):
        interval_chart({}, LABELS, {})
