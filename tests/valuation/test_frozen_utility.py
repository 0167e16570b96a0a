"""Batched logistic regression: optimality, independence of the batches, and payoffs of all coalitions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from logistic_reference import METRICS, SCORES, prepared, random_coalitions, reference_probabilities, sentences
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.metrics import log_loss

from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation import FrozenEncoderUtility


@pytest.mark.parametrize("metric", METRICS)
def test_payoffs_equal_those_of_newtons_method(metric: str) -> None:
    data = sentences()
    coalitions = random_coalitions(20, 60)
    expected = [SCORES[metric](data[3], reference_probabilities(data, members)) for members in coalitions]
    np.testing.assert_allclose(FrozenEncoderUtility(*data, metric=metric)(coalitions), expected, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"epochs": 20, "lr": 0.5}, {"epochs": 3, "batch_size": 16, "seed": 4}])
@pytest.mark.parametrize("classes", [2, 3])
def test_payoffs_do_not_depend_on_the_batch_of_coalitions(options: dict[str, object], classes: int) -> None:
    game = FrozenEncoderUtility(*sentences(classes=classes), metric="log_loss", **options)
    coalitions = random_coalitions(40, 60)
    one_by_one = np.concatenate([game(coalition[None]) for coalition in coalitions])
    np.testing.assert_allclose(game(coalitions), one_by_one, rtol=0, atol=1e-5)
    assert np.ptp(one_by_one) > 0.05


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("n", [60, 17])
def test_prefix_values_equal_the_payoffs_of_the_prefixes(metric: str, classes: int, n: int) -> None:
    # n = 60 > 2 (d + 1) covers both forms of the product with the Gram matrix
    game = FrozenEncoderUtility(*sentences(n=n, classes=classes), metric=metric, chunk_size=7)
    permutation = np.random.default_rng(1).permutation(n)
    prefixes = np.argsort(permutation) < np.arange(n + 1)[:, None]
    np.testing.assert_allclose(game.prefix_values(permutation[None])[0], game(prefixes), rtol=0, atol=1e-6)


def test_minibatch_gradient_descent_equals_a_plain_loop() -> None:
    features, labels, held_out, truth = data = sentences(n=20)
    game = FrozenEncoderUtility(*data, metric="log_loss", epochs=2, lr=0.3, batch_size=8, seed=5, l2=0.7)
    members = np.arange(20) % 3 > 0
    inside, outside, offset = prepared(features, held_out, labels)
    weights, generator = np.zeros(9), np.random.default_rng(np.random.SeedSequence(5))
    for _ in range(2):
        shuffled = generator.permutation(20)
        for start in range(0, 20, 8):
            batch = [i for i in shuffled[start : start + 8] if members[i]]
            rows = inside[batch]
            gradient = rows.T @ (expit(offset + rows @ weights) - labels[batch]) / len(batch)
            weights -= 0.3 * (gradient + 0.7 / members.sum() * weights)
    logits = offset + outside @ weights
    expected = -np.log1p(np.exp(np.where(truth == 1, -logits, logits))).mean()
    assert game(members[None])[0] == pytest.approx(expected, abs=1e-9)


def test_the_empty_coalition_predicts_the_base_rates() -> None:
    features, _, held_out, _ = sentences(m=40)
    labels, truth = (np.arange(60) % 5 > 0).astype(int), (np.arange(40) % 4 > 0).astype(int)
    empty = np.zeros((1, 60), dtype=bool)
    rate = expit(prepared(features, held_out, labels)[2])
    assert 0.7 < rate < 0.8
    expected = {
        "accuracy": 0.75,
        "balanced_accuracy": 0.5,
        "f1": (2 * 0.75 / 1.75) / 2,
        "log_loss": 0.75 * np.log(rate) + 0.25 * np.log(1 - rate),
        "auc": 0.5,
    }
    for metric, score in expected.items():
        assert FrozenEncoderUtility(features, labels, held_out, truth, metric=metric)(empty)[0] == pytest.approx(score)


@pytest.mark.parametrize("metric", METRICS)
def test_a_coalition_of_one_class_is_trained_like_any_other(metric: str) -> None:
    data = sentences()
    members = np.zeros(60, dtype=bool)
    members[np.flatnonzero(data[1] == 0)[:3]] = True
    expected = SCORES[metric](data[3], reference_probabilities(data, members))
    assert FrozenEncoderUtility(*data, metric=metric)(members[None])[0] == pytest.approx(expected, abs=1e-6)


def test_the_offset_is_zero_for_even_classes_and_the_base_rate_for_rare_ones() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 2))
    for share, expected in ((0.5, 0.0), (0.48, 0.0), (0.1, 0.99 * logit(31 / 302))):
        labels = (np.arange(300) < share * 300).astype(int)
        offset = float(FrozenEncoderUtility(features, labels, features, labels)._task.offset[0])
        assert offset == pytest.approx(expected, rel=0.01, abs=0)
    three = FrozenEncoderUtility(features, np.arange(300) % 3, features, np.arange(300) % 3)
    np.testing.assert_allclose(three._task.offset, logit(1 / 3))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), l2=st.floats(0.05, 20), d=st.integers(1, 12), n=st.integers(3, 40))
def test_the_gradient_vanishes_at_the_optimum(seed: int, l2: float, d: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    features, labels = rng.normal(size=(n, d)), rng.permutation(np.arange(n) % 2)
    game = FrozenEncoderUtility(features, labels, features, labels, l2=l2)
    coalition = rng.random((1, n)) < 0.7
    everyone = torch.arange(n)
    from lightning_attnflow.valuation.utilities.logistic_regression import Rows

    design = game._head.problem.design
    weights, _ = game._head.train(Rows(design, everyone), everyone, torch.from_numpy(coalition.T).double())
    rows = design.rows.numpy()
    chance = expit(float(game._task.offset) + rows @ weights[:, 0].numpy())
    gradient = rows.T @ (coalition[0] * (chance - labels)) + l2 * weights[:, 0].numpy()
    assert np.linalg.norm(gradient) <= 1.01e-6 * l2


def test_constant_features_do_not_change_payoffs() -> None:
    features, labels, held_out, truth = sentences()
    noise = np.random.default_rng(0).normal(size=(110, 2)) * 1e-32
    coalitions = random_coalitions(10, 60)
    alive = FrozenEncoderUtility(features, labels, held_out, truth, metric="log_loss")(coalitions)
    dead = FrozenEncoderUtility(
        np.c_[features, noise[:60]], labels, np.c_[held_out, noise[60:]], truth, metric="log_loss"
    )(coalitions)
    np.testing.assert_allclose(dead, alive, atol=1e-9)


def test_global_random_states_are_restored_and_float32_tensors_are_accepted() -> None:
    data = [torch.tensor(part) for part in sentences()]
    torch.manual_seed(3)
    state, legacy = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    FrozenEncoderUtility(data[0].float(), data[1], data[2].float(), data[3], epochs=2, batch_size=8)(
        random_coalitions(3, 60)
    )
    assert torch.equal(state, torch.random.get_rng_state())
    assert (legacy == np.random.get_state()[1]).all()  # noqa: NPY002


def test_the_configuration_depends_on_data_and_arguments() -> None:
    data = sentences()
    one = FrozenEncoderUtility(*data).configuration()
    assert one == FrozenEncoderUtility(*data).configuration()
    assert one != FrozenEncoderUtility(*data, l2=2.0).configuration()
    flipped = data[1].copy()
    flipped[[0, 1]] = 1 - flipped[[0, 1]]
    assert one["data"] != FrozenEncoderUtility(data[0], flipped, *data[2:]).configuration()["data"]


FEATURES, LABELS, HELD_OUT, TRUTH = sentences(n=6, m=6)
WITH_NAN = FEATURES.copy()
WITH_NAN[4, 2] = np.nan


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((FEATURES[:0], LABELS[:0], HELD_OUT, TRUTH), {}, "features: got shape"),
        ((FEATURES, LABELS, HELD_OUT[:0], TRUTH[:0]), {}, "validation_features: got shape"),
        ((FEATURES, LABELS[:5], HELD_OUT, TRUTH), {}, "labels: got shape"),
        ((FEATURES, LABELS, HELD_OUT, TRUTH[:5]), {}, "validation_labels: got shape"),
        ((FEATURES, np.ones(6, int), HELD_OUT, TRUTH), {}, "labels: got 6 of class 1 only"),
        ((FEATURES, LABELS, HELD_OUT, np.ones(6, int)), {}, "validation_labels: got 6 of class 1 only"),
        ((FEATURES[:1], LABELS[:1], HELD_OUT, TRUTH), {}, "at least two classes"),
        (
            (FEATURES, LABELS, HELD_OUT, TRUTH + 1),
            {},
            "validation_labels: got 2; expected one of the classes 0, 1",
        ),
        ((FEATURES, LABELS + 0.5, HELD_OUT, TRUTH), {}, "labels: got [01].5; expected strings.*task='regression'"),
        ((FEATURES, [None, *LABELS[1:]], HELD_OUT, TRUTH), {}, "labels, index 0: got None; expected a label"),
        (
            (FEATURES, LABELS, HELD_OUT, TRUTH),
            {"sample_weight": [1.0, 0.0, 1, 1, 1, 1]},
            "sample_weight: got a smallest",
        ),
        ((FEATURES, LABELS, HELD_OUT, TRUTH), {"class_weight": {0: 2.0}}, r"class_weight: got weights of \[0\]"),
        ((FEATURES, LABELS, HELD_OUT, TRUTH), {"prefixes": "fast"}, "prefixes: got 'fast'"),
        ((WITH_NAN, LABELS, HELD_OUT, TRUTH), {}, "NaN or infinity in 1 row, first in row 4"),
        ((FEATURES, LABELS, HELD_OUT[:, :3], TRUTH), {}, "got 3 features; expected 8"),
        ((np.ones((6, 2)), LABELS, np.ones((6, 2)), TRUTH), {}, "the same row for every example"),
        ((FEATURES, LABELS, HELD_OUT, TRUTH), {"metric": "gini"}, "metric: got 'gini'"),
        (
            (FEATURES, LABELS, HELD_OUT, TRUTH),
            {"l2": 0},
            "l2: got 0; expected a number >= 1e-06. Separable data",
        ),
        ((FEATURES, LABELS, HELD_OUT, TRUTH), {"lr": 0.1}, "Pass epochs too"),
        ((FEATURES, LABELS, HELD_OUT, TRUTH), {"epochs": 0}, "epochs: got 0"),
        ((FEATURES, LABELS, HELD_OUT, TRUTH), {"chunk_size": True}, "chunk_size: got True"),
    ],
)
def test_invalid_arguments_raise_input_errors(
    arguments: tuple[object, ...], options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        FrozenEncoderUtility(*arguments, **options)


@pytest.mark.parametrize(("first", "second"), [("neg", "pos"), (-1, 1), (1, 2), (False, True)])
def test_labels_of_any_kind_give_the_values_of_the_classes_0_and_1(first: object, second: object) -> None:
    features, labels, held_out, truth = sentences()
    names = [[(first, second)[label] for label in part] for part in (labels, truth)]
    coalitions = random_coalitions(5, len(labels))
    game = FrozenEncoderUtility(features, names[0], held_out, pd.Series(names[1]))
    assert game.classes == (first, second)
    assert (game(coalitions) == FrozenEncoderUtility(features, labels, held_out, truth)(coalitions)).all()


def test_weights_equal_those_of_scikit_learn() -> None:
    features, labels, held_out, truth = sentences(n=80)
    weight = np.random.default_rng(3).uniform(0.2, 3, size=80)
    game = FrozenEncoderUtility(
        features, labels, held_out, truth, sample_weight=weight, class_weight="balanced", prefixes="exact"
    )
    rows, outside, _ = prepared(features, held_out, labels)
    balanced = weight * (80 / (2 * np.bincount(labels)))[labels]
    offset = float(game._task.offset[0])
    members = random_coalitions(1, 80)[0]
    found = minimize(
        lambda w: (balanced * np.logaddexp(0, -(2 * labels - 1) * (rows @ w + offset)))[members].sum() + w @ w / 2,
        np.zeros(rows.shape[1]),
        tol=1e-12,
    )
    expected = -log_loss(truth, expit(outside @ found.x + offset))
    assert game(members[None])[0] == pytest.approx(expected, abs=1e-6)
    tripled = FrozenEncoderUtility(features, labels, held_out, truth, class_weight={0: 3.0, 1: 1.0})
    assert float(tripled._task.offset[0]) < float(
        FrozenEncoderUtility(features, labels, held_out, truth)._task.offset[0]
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_a_function_can_be_the_metric(classes: int) -> None:
    data = sentences(classes=classes)
    coalitions = random_coalitions(9, 60)

    def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        return (probabilities.argmax(axis=1) == labels).mean()

    custom, named = FrozenEncoderUtility(*data, metric=accuracy), FrozenEncoderUtility(*data, metric="accuracy")
    np.testing.assert_allclose(custom(coalitions), named(coalitions))
    assert custom.configuration()["metric"].endswith("accuracy")
    permutation = np.random.default_rng(1).permutation(60)[None]
    np.testing.assert_allclose(custom.prefix_values(permutation), named.prefix_values(permutation))
