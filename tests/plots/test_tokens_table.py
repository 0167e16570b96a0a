"""The terminal table shows tokens as they are, brackets included."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from lightning_attnflow.attribution import TokenAttribution
from lightning_attnflow.plots.tokens_table import attribution_table


def printed(attribution):
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(attribution_table(attribution))
    return console.file.getvalue()


def test_shows_every_token_value_and_interval():
    attribution = TokenAttribution(
        tokens=("[CLS]", "[red]", "film"),
        values=np.array([0.5, -0.25, 0.0]),
        method="shapley",
        positions=((0,), (1,), (2,)),
        is_special=np.array([True, False, False]),
        low=np.array([0.4, -0.5, 0.0]),
        high=np.array([0.6, 0.0, 0.0]),
        interval="confidence 0.95",
    )
    lines = printed(attribution).splitlines()
    row = {line.split("│")[1].strip(): line for line in lines if line.startswith("│")}
    assert list(row) == ["[CLS]", "[red]", "film"]
    assert "+0.5000" in row["[CLS]"]
    assert "+0.4000 .. +0.6000" in row["[CLS]"]
    assert [line.count("█") for line in row.values()] == [24, 12, 0]


def test_has_no_interval_column_without_an_interval():
    attribution = TokenAttribution(("film",), np.array([0.0]), "saliency", ((0,),))
    assert ".." not in printed(attribution)
