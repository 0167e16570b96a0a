"""Batched logistic regression: updates of trained models, and small, zero and default penalties."""

from __future__ import annotations

import numpy as np
import pytest
from logistic_reference import SCORES, random_coalitions, reference_probabilities, sentences
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.linear_model import LogisticRegressionCV

from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation import FrozenEncoderUtility
from lightning_attnflow.valuation.utilities.prefix_updates import _logit_with


@pytest.mark.parametrize(("classes", "options"), [(2, {}), (3, {}), (2, {"class_weight": "balanced"})])
def test_updated_prefixes_are_close_to_trained_ones(classes: int, options: dict[str, object]) -> None:
    data = sentences(n=900, m=60, classes=classes)
    exact = FrozenEncoderUtility(*data, prefixes="exact", **options)
    updated = FrozenEncoderUtility(*data, **options)
    permutation = np.random.default_rng(1).permutation(900)
    sizes = [1, 2, 200, *range(400, 901)]
    expected = np.concatenate(list(exact.prefix_chunks(permutation, sizes)))
    found = np.concatenate(list(updated.prefix_chunks(permutation, sizes)))
    np.testing.assert_allclose(found[:3], expected[:3], atol=1e-6)  # trained in another chunk
    marginals, updates = np.diff(expected)[3:], np.diff(found)[3:]
    assert np.sqrt(np.mean((updates - marginals) ** 2)) < 0.03 * marginals.std()
    np.testing.assert_allclose(found[-1], expected[-1], atol=1e-6)  # retrained
    (last,) = np.concatenate(list(updated.prefix_chunks(permutation, [900])))
    assert last == pytest.approx(expected[-1], abs=1e-6)


@pytest.mark.parametrize("old", [-800.0, -30.0, -1.0, 0.0, 5.0, 30.0])
@pytest.mark.parametrize("leverage", [1e-3, 1.0, 50.0, 1e4])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_the_logit_after_an_added_example_solves_its_equation(old: float, leverage: float, target: float) -> None:
    bracket = (old - 1, old + leverage + 1) if target else (old - leverage - 1, old + 1)
    expected = brentq(lambda new: new - old - leverage * (target - expit(new)), *bracket, xtol=1e-12)
    assert _logit_with(old, leverage, target) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("l2", [1e-2, 1e-5])
def test_updates_of_models_with_a_small_penalty_are_retrained_more_often(l2: float) -> None:
    data = sentences(n=330, m=40, d=400)  # separable: the models change much with every example
    permutation, sizes = np.random.default_rng(1).permutation(330), range(250, 331)
    expected, found = (
        np.concatenate(list(FrozenEncoderUtility(*data, l2=l2, prefixes=way).prefix_chunks(permutation, sizes)))
        for way in ("exact", "updated")
    )
    marginals, updates = np.diff(expected), np.diff(found)
    assert np.sqrt(np.mean((updates - marginals) ** 2)) < 0.03 * marginals.std()


@pytest.mark.parametrize("l2", [1e-2, 1e-4, 1e-6])
def test_small_penalties_converge(l2: float) -> None:
    data = sentences(n=40, d=60)  # separable: only the penalty bounds the weights
    coalitions = random_coalitions(4, 40)
    expected = [SCORES["log_loss"](data[3], reference_probabilities(data, members, l2)) for members in coalitions]
    game = FrozenEncoderUtility(*data, metric="log_loss", l2=l2)
    np.testing.assert_allclose(game(coalitions), expected, rtol=1e-6)


def test_gradient_descent_allows_a_penalty_of_zero() -> None:
    data = sentences()
    everyone = np.ones((1, 60), dtype=bool)
    without = FrozenEncoderUtility(*data, metric="log_loss", epochs=5, l2=0)(everyone)
    nearly = FrozenEncoderUtility(*data, metric="log_loss", epochs=5, l2=1e-9)(everyone)
    assert without == pytest.approx(nearly, abs=1e-8)
    with pytest.raises(InputError, match="l2: got -1; expected a number >= 0"):
        FrozenEncoderUtility(*data, epochs=5, l2=-1)


@pytest.mark.parametrize("n", [100, 300, 1000])
@pytest.mark.filterwarnings("ignore::FutureWarning")  # arguments that scikit-learn is about to rename
def test_the_default_penalty_is_within_a_point_of_cross_validated_logistic_regression(n: int) -> None:
    # Decreasing variances, as in features of an encoder. recipes/benchmarks/head_accuracy.py uses movie sentences.
    rng = np.random.default_rng(n)
    spread, weights = np.arange(1, 65) ** -0.5, rng.normal(size=64)
    rows = rng.normal(size=(n + 20_000, 64)) * spread
    clear = rows @ weights
    labels = (clear + rng.logistic(size=len(rows)) * clear.std() / 2 > 0).astype(int)
    data = rows[:n], labels[:n], rows[n:], labels[n:]
    ours = FrozenEncoderUtility(*data, metric="accuracy")(np.ones((1, n), dtype=bool))[0]
    theirs = LogisticRegressionCV(Cs=10, cv=5).fit(*data[:2]).score(*data[2:])
    assert ours > theirs - 0.01
    assert 0.6 < theirs < 0.9
