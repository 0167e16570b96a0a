"""Shared drawing: bars with whiskers, heat map of layers, fonts, labels."""

from __future__ import annotations

import re
from importlib.resources import files

import numpy as np
import pytest

from lightning_attnflow._figures import (
    STRONGEST_MULTIPLE,
    layer_heat_map,
    share_colours,
    shorten,
    signed_colours,
    value_bars,
)

VALUES = np.array([0.4, -0.3, 0.1])


def test_bars_and_whiskers_are_at_the_values_and_intervals() -> None:
    low, high = np.array([0.3, -0.5, -np.inf]), np.array([0.5, -0.2, np.inf])
    axes = value_bars(VALUES, labels=["[CLS]", "$x^2$", "a long name of a span of many words"], low=low, high=high)
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], VALUES)
    segments = axes.collections[0].get_segments()
    ends = np.array([[segment[0, 0], segment[1, 0]] for segment in segments])
    np.testing.assert_allclose(ends, np.stack([low, high], axis=1)[:2])  # infinite intervals have no whiskers
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["[CLS]", "$x^2$", "a long name … many words"]
    assert len({bar.get_facecolor() for bar in axes.patches}) == 2
    assert value_bars(VALUES, labels=["a", "b", "c"], ax=axes) is axes


def test_figures_do_not_use_pyplot() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    value_bars(VALUES, labels=["a", "b", "c"]).figure.canvas.draw()
    assert plt.get_fignums() == before


def test_hatched_rows_have_no_numbers() -> None:
    values = np.array([[0.2, 0.8], [0.6, 0.4]])
    numbers = [[f"{value:.2f}" for value in row] for row in values]
    axes = layer_heat_map(
        signed_colours(values, 1.0),
        numbers,
        rows=["layer 0", "layer 1"],
        columns=["$5", "film"],
        hatched=np.array([True, False]),
        note="saturated",
    )
    drawn = {gid: [text.get_text() for text in axes.texts if text.get_gid() == gid] for gid in ("number", "word", None)}
    assert drawn == {"number": ["0.60", "0.40"], "word": ["$5", "film"], None: ["saturated"]}
    assert [patch.get_hatch() for patch in axes.patches] == ["////"]


def test_signed_colours_are_white_at_zero_and_full_at_the_darkest_value() -> None:
    colours = signed_colours(np.array([[2.0, 0.0, -2.0, -1.0]]), 2.0)
    np.testing.assert_allclose(colours[0, 1], 1.0)
    np.testing.assert_allclose(colours[0, 0] * 255, [0x00, 0x72, 0xB2])
    np.testing.assert_allclose(colours[0, 2] * 255, [0xD5, 0x5E, 0x00])
    np.testing.assert_allclose(colours[0, 3], (1 + colours[0, 2]) / 2)
    np.testing.assert_allclose(signed_colours(np.zeros((1, 2)), 0.0), 1.0)


def test_colours_of_shares_depend_on_the_multiple_of_the_uniform_share_alone() -> None:
    multiples = np.array([0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
    few, many = (share_colours(multiples[None] / n, n)[0] for n in (20, 500))
    np.testing.assert_allclose(few, many, atol=1 / 255)
    brightness = few.mean(axis=1)
    assert brightness[0] == brightness[1] == brightness[2]  # nothing stands out at or below the uniform share
    assert (np.diff(brightness[2:6]) < -0.1).all()
    assert brightness[5] == brightness[6]
    grey = share_colours(multiples[None] / 20, 20, special=np.full(7, True))
    assert np.ptp(grey, axis=2).max() < 1e-6


def test_figures_and_pages_have_the_same_scale_of_shares() -> None:
    script = (files("lightning_attnflow.viewer") / "static" / "scale.js").read_text(encoding="utf-8")
    assert re.findall(r"STRONGEST_MULTIPLE = (\d+);", script) == [str(STRONGEST_MULTIPLE)]


@pytest.mark.parametrize("length", [1, 2, 5, 8, 20])
def test_shortened_labels_have_the_given_length(length: int) -> None:
    assert len(shorten("incomprehensible", length)) == min(length, 16)
