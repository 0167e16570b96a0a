"""Removal curves: scores, figure, saving and loading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import FunctionGame
from lightning_attnflow.valuation.removal import RemovalCurve

WEIGHTS = np.array([3.0, -1.0, 2.0, 0.0, 5.0])
GAME = FunctionGame(lambda coalitions: coalitions @ WEIGHTS, n_players=5)


def test_players_are_removed_in_the_order_of_their_values() -> None:
    curve = RemovalCurve.of(GAME, WEIGHTS, fractions=(0, 0.2, 0.4, 0.8), n_permutations=30)
    assert curve.lowest_first.tolist() == [9, 10, 10, 5]
    assert curve.highest_first.tolist() == [9, 4, 1, -1]
    assert curve.random.shape == (30, 4)
    assert (curve.random <= np.maximum(curve.lowest_first, 9) + 1).all()
    assert (
        curve.random == RemovalCurve.of(GAME, WEIGHTS, fractions=(0, 0.2, 0.4, 0.8), n_permutations=30).random
    ).all()


def test_the_plot_has_three_labelled_lines(tmp_path: Path) -> None:
    axes = RemovalCurve.of(GAME, WEIGHTS).plot(score="accuracy", title="movies")
    assert [line.get_label() for line in axes.lines] == ["lowest value first", "highest value first", "random order"]
    assert (axes.get_ylabel(), axes.get_title()) == ("accuracy", "movies")
    np.testing.assert_allclose(axes.lines[0].get_ydata()[0], 9)
    axes.figure.savefig(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_a_loaded_curve_equals_the_saved_one(tmp_path: Path) -> None:
    curve = RemovalCurve.of(GAME, WEIGHTS)
    loaded = RemovalCurve.load(curve.save(tmp_path / "curve"))
    assert all((getattr(loaded, name) == column).all() for name, column in vars(curve).items())
    frame = curve.to_pandas()
    assert frame.columns.tolist() == ["fractions", "lowest_first", "highest_first", "random"]
    assert frame["random"].tolist() == curve.random.mean(axis=0).tolist()


def test_invalid_arguments_raise_input_errors() -> None:
    for name, wrong in {
        "fractions": {"fractions": ["a"]},
        "game": {"game": 3},
        "values": {"values": "abc"},
    }.items():
        with pytest.raises(InputError, match=f"{name}: got"):
            RemovalCurve.of(**{"game": GAME, "values": WEIGHTS} | wrong)
    for name in ("score", "title"):
        with pytest.raises(InputError, match=f"{name}: got int; expected a string"):
            RemovalCurve.of(GAME, WEIGHTS).plot(**{name: 3})
    with pytest.raises(InputError, match=r"values: got shape \(4,\)"):
        RemovalCurve.of(GAME, WEIGHTS[:4])
    with pytest.raises(InputError, match="values: got NaN at index 2"):
        RemovalCurve.of(GAME, np.where(np.arange(len(WEIGHTS)) == 2, np.nan, WEIGHTS))
    with pytest.raises(InputError, match="fractions"):
        RemovalCurve.of(GAME, WEIGHTS, fractions=(0, 1.0))
