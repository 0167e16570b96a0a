"""The tables name the largest words with their intervals, and do not lend themselves to misreading."""

from __future__ import annotations

import numpy as np
import pytest
from test_heatmap import sentence

from lightning_attnflow.errors import InputError
from lightning_attnflow.plots import flow_table, top_words_table


def test_markdown_table_ranks_words_and_sums_special_tokens_up() -> None:
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


def test_plain_table_shows_first_middle_and_last_layer_with_intervals() -> None:
    lines = flow_table(sentence(n_layers=6, saturated=(0, 1))).splitlines()
    assert lines[0].split("  ")[0] == "token"
    assert [lines[0].count(f"layer {layer}") for layer in range(7)] == [1, 0, 0, 1, 0, 1, 0]
    assert lines[0].count("(saturated)") == 1
    assert lines[2].split() == ["word0", *("0.200", "[0.100,", "0.300]") * 3]
    assert lines[-1].startswith("saturated: trivial cuts")
    assert flow_table(sentence(n_layers=1)).splitlines()[0].split() == ["token", "layer", "0"]
    assert flow_table(sentence(), layers=[2]).splitlines()[1].split() == ["[CLS]", "1.000", "[0.500,", "1.500]"]


def test_unique_flows_have_no_interval() -> None:
    unique = sentence()
    unique = sentence(lower=unique.values, upper=unique.values)
    assert "word2 **40.0**, word1" in top_words_table(unique)
    assert flow_table(unique).splitlines()[2].split() == ["word0", "0.200", "0.200"]


def test_arguments_are_checked() -> None:
    with pytest.raises(InputError, match=r"layers: got \[3\]; expected layers in 0\.\.2"):
        flow_table(sentence(), layers=[0, 3])
    with pytest.raises(InputError, match="n_words: got 0"):
        top_words_table(sentence(), n_words=0)


def test_a_flow_without_special_tokens() -> None:
    assert "| 0.0% |" in top_words_table(sentence(special=np.zeros(4, dtype=bool)))
