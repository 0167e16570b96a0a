"""Tables of flows (Markdown, plain text) and of attributions (rich)."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console
from test_heatmap import sentence

from lightning_attnflow.attribution import TokenAttribution
from lightning_attnflow.errors import InputError
from lightning_attnflow.plots import attribution_table, flow_table, top_words_table


def test_markdown_table_ranks_words_and_sums_special_tokens() -> None:
    lines = top_words_table(sentence(saturated=(0,)), n_words=2).splitlines()
    assert lines[0] == "**word0 word1 word2**"
    assert lines[4] == "| 1 | word2 **40.0** [20.0 to 60.0], word1 **30.0** [15.0 to 45.0] | 10.0% |"
    assert lines[5] == "| 0 | *saturated: not importance* | 10.0% |"
    assert len(lines) == 6


def test_markdown_is_escaped() -> None:
    table = top_words_table(sentence(labels=("[CLS]", "a|b", "*c*", "<script>"), text="a|b *c* <script>"))
    body = table.replace("*saturated: not importance*", "")
    assert "<script>" not in body
    assert "*c*" not in body
    assert all(line.count("|") == 4 for line in table.splitlines()[2:])


def test_plain_table_shows_first_middle_and_last_layer_with_ranges() -> None:
    lines = flow_table(sentence(n_layers=6, saturated=(0, 1))).splitlines()
    assert lines[0].split("  ")[0] == "token"
    assert [lines[0].count(f"layer {layer}") for layer in range(7)] == [1, 0, 0, 1, 0, 1, 0]
    assert lines[0].count("(saturated)") == 1
    assert lines[2].split() == ["word0", *("0.200", "[0.100,", "0.300]") * 3]
    assert lines[-1].startswith("saturated: trivial cuts")
    assert flow_table(sentence(n_layers=1)).splitlines()[0].split() == ["token", "layer", "0"]
    assert flow_table(sentence(), layers=[2]).splitlines()[1].split() == ["[CLS]", "1.000", "[0.500,", "1.500]"]


def test_unique_flows_have_no_range() -> None:
    unique = sentence()
    unique = sentence(lower=unique.values, upper=unique.values)
    assert "word2 **40.0**, word1" in top_words_table(unique)
    assert flow_table(unique).splitlines()[2].split() == ["word0", "0.200", "0.200"]


def test_arguments_are_checked() -> None:
    with pytest.raises(InputError, match=r"layers: got \[3\]; expected a sequence of layers in 0\.\.2"):
        flow_table(sentence(), layers=[0, 3])
    for wrong in (3, "01", np.array(0)):
        with pytest.raises(InputError, match="layers: got"):
            flow_table(sentence(), layers=wrong)
    with pytest.raises(InputError, match="n_words: got 0"):
        top_words_table(sentence(), n_words=0)
    with pytest.raises(InputError, match="flow: got str; expected a SentenceFlow or ConductanceFlow"):
        flow_table("text")
    with pytest.raises(InputError, match="sentence: got None"):
        top_words_table(None)
    with pytest.raises(InputError, match="attribution: got float; expected a TokenAttribution"):
        attribution_table(0.5)


def test_special_share_is_zero_without_special_tokens() -> None:
    assert "| 0.0% |" in top_words_table(sentence(special=np.zeros(4, dtype=bool)))


def printed(attribution):
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(attribution_table(attribution))
    return console.file.getvalue()


def test_attribution_table_shows_tokens_values_and_intervals():
    attribution = TokenAttribution(
        tokens=("[CLS]", "[red]", "film"),
        values=np.array([0.5, -0.25, 0.0]),
        method="shapley",
        positions=((0,), (1,), (2,)),
        is_special=np.array([True, False, False]),
        low=np.array([0.4, -0.5, 0.0]),
        high=np.array([0.6, 0.0, 0.0]),
        interval="95% interval",
    )
    lines = printed(attribution).splitlines()
    row = {line.split("│")[1].strip(): line for line in lines if line.startswith("│")}
    assert list(row) == ["[CLS]", "[red]", "film"]
    assert "+0.5000" in row["[CLS]"]
    assert "+0.4000 .. +0.6000" in row["[CLS]"]
    assert [line.count("█") for line in row.values()] == [24, 12, 0]


def test_attribution_table_without_intervals_has_no_interval_column():
    attribution = TokenAttribution(("film",), np.array([0.0]), "saliency", ((0,),))
    assert ".." not in printed(attribution)
