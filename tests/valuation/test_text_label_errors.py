"""Wrong labels of texts, and training dynamics matched to texts."""

from __future__ import annotations

import models
import numpy as np
import pytest

from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation import (
    LabelledTexts,
    TrainingDynamics,
    encode_texts,
    find_label_errors,
    find_text_label_errors,
)


def sentences() -> LabelledTexts:
    verdicts = {"great": "liked", "good": "liked", "bad": "disliked", "sad": "disliked"}
    pairs = [
        (f"{a} {b} {v}", label) for a in ("this", "so") for b in ("movie", "film") for v, label in verdicts.items()
    ]
    texts, labels = zip(*pairs, strict=True)
    return LabelledTexts.of(texts, labels, rows=range(2, 18))


def test_scores_are_those_of_the_features() -> None:
    texts, parts = sentences(), {"encoder": models.bert(), "tokenizer": models.tokenizer()}
    features = encode_texts(parts["encoder"], parts["tokenizer"], texts.texts)
    for validation in (None, texts.select(range(8))):
        held_out = () if validation is None else (features[:8], validation.class_names())
        expected = find_label_errors(features, texts.class_names(), *held_out)
        errors = find_text_label_errors(texts, validation, **parts)
        np.testing.assert_allclose(errors.scores, expected.scores, atol=1e-6)
        assert (errors.texts, errors.rows, errors.labels) == (texts.texts, texts.rows, tuple(texts.class_names()))


def test_the_usual_prediction_is_the_latest_of_equally_frequent_ones() -> None:
    prediction = np.array([[1, 0, -1, 0], [0, 1, -1, 0], [2, 1, 2, 1]])  # the third example was in one epoch
    margin = np.where(prediction < 0, np.nan, -1.0).astype(np.float32)
    dynamics = TrainingDynamics.of(margin=margin, labels=[0, 0, 0, 0], prediction=prediction)
    assert dynamics.label_errors().suggested == (2, 1, 2, 0)


def test_truncate_must_be_a_bool() -> None:
    with pytest.raises(InputError, match="truncate: got 'yes'"):
        find_text_label_errors(sentences(), encoder=models.bert(), tokenizer=models.tokenizer(), truncate="yes")


def test_repeated_rows_are_scored_once_and_conflicting_labels_reported() -> None:
    texts = sentences()
    doubled = LabelledTexts.of(
        [*texts.texts, texts.texts[0], texts.texts[1]],
        [*texts.class_names(), "liked", "disliked"],
        rows=range(2, 20),
    )
    errors = find_text_label_errors(doubled, encoder=models.bert(), tokenizer=models.tokenizer())
    assert errors.rows == (*range(2, 18), 19)
    assert "1 of the repeated examples occurs with different labels" in errors.summary()


def test_an_encoder_needs_a_tokenizer_and_validation_the_same_classes() -> None:
    with pytest.raises(InputError, match="tokenizer: got None"):
        find_text_label_errors(sentences(), encoder=models.bert())
    other = LabelledTexts.of(["a film", "a movie"], ["liked", "unknown"])
    with pytest.raises(
        InputError, match="validation, row 2: got label 'unknown'; expected one of the classes 'disliked', 'liked'"
    ):
        find_text_label_errors(sentences(), other, encoder=models.bert(), tokenizer=models.tokenizer())


def test_dynamics_are_matched_to_texts_by_their_letters_and_to_conflicting_texts_by_label() -> None:
    margin = np.array([[1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, np.nan]])
    dynamics = TrainingDynamics.of(
        margin=margin,
        labels=[0, 1, 1, 0],
        texts=["a cafe, isn ' t it", "the film", "twice", "twice"],
        classes=["no", "yes"],
    )
    given = ["Twice", "THE film!", "A café, isn't it", "unseen"]
    matched = dynamics.matched(given, ["no", "yes", "no", "no"])
    assert matched.texts == tuple(given)
    np.testing.assert_array_equal(matched.aum, [4.0, 3.0, 2.0, np.nan])
    assert matched.labels.tolist() == [0, 1, 0, -1]
    assert np.isnan(dynamics.matched(["twice"]).aum[0])  # which of the two is unknown
    with pytest.raises(InputError, match="examples without texts"):
        TrainingDynamics.of(margin=margin).matched(given)
