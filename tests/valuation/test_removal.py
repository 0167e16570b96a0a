"""The removal curve asks for the right coalitions and draws three lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import FunctionGame
from lightning_attnflow.valuation.removal import RemovalCurve

WEIGHTS = np.array([3.0, -1.0, 2.0, 0.0, 5.0])
GAME = FunctionGame(lambda coalitions: coalitions @ WEIGHTS, n_players=5)


def test_players_leave_in_the_order_of_their_values() -> None:
    curve = RemovalCurve.of(GAME, WEIGHTS, fractions=(0, 0.2, 0.4, 0.8), random_orders=30)
    assert curve.lowest_first.tolist() == [9, 10, 10, 5]
    assert curve.highest_first.tolist() == [9, 4, 1, -1]
    assert curve.at_random.shape == (30, 4)
    assert (curve.at_random <= np.maximum(curve.lowest_first, 9) + 1).all()
    assert (
        curve.at_random == RemovalCurve.of(GAME, WEIGHTS, fractions=(0, 0.2, 0.4, 0.8), random_orders=30).at_random
    ).all()


def test_the_figure_has_three_lines_and_says_what_they_are(tmp_path: Path) -> None:
    figure = RemovalCurve.of(GAME, WEIGHTS).figure(score="accuracy", title="movies")
    axes = figure.axes[0]
    assert [line.get_label() for line in axes.lines] == ["lowest value first", "highest value first", "at random"]
    assert (axes.get_ylabel(), axes.get_title()) == ("accuracy", "movies")
    np.testing.assert_allclose(axes.lines[0].get_ydata()[0], 9)
    figure.savefig(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_bad_input_is_said() -> None:
    with pytest.raises(InputError, match=r"values: got shape \(4,\)"):
        RemovalCurve.of(GAME, WEIGHTS[:4])
    with pytest.raises(InputError, match="fractions"):
        RemovalCurve.of(GAME, WEIGHTS, fractions=(0, 1.0))
