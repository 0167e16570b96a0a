"""Ranking of labelled sentences from the text to the written files."""

from __future__ import annotations

import csv
from pathlib import Path

import models
import numpy as np
import pytest

from lightning_attnflow.errors import InputError, LedgerError
from lightning_attnflow.shapley import MaxPermutations, SignDecided
from lightning_attnflow.valuation import (
    DataShapley,
    FrozenEncoderUtility,
    LabelledTexts,
    encode_texts,
    rank_texts,
    split_sentences,
)
from lightning_attnflow.valuation.text_ranking import default_permutations


@pytest.fixture(scope="module")
def parts() -> tuple[LabelledTexts, LabelledTexts]:
    texts = [
        f"{subject} {object_} {verdict}"
        for subject in ("this", "a", "so", "very")
        for object_ in ("movie", "film", "story")
        for verdict in ("great", "good", "bad", "sad")
    ]
    labels = ["liked" if text.endswith(("great", "good")) else "disliked" for text in texts]
    return split_sentences(LabelledTexts.of(texts, labels), 12, 20)


@pytest.fixture(scope="module")
def encoder() -> dict[str, object]:
    return {"encoder": models.bert(), "tokenizer": models.tokenizer()}


def test_values_are_those_of_data_shapley_on_the_features(parts, encoder) -> None:
    train, validation = parts
    ranked = rank_texts(train, validation, **encoder, permutations=30, seed=5)
    features = [encode_texts(encoder["encoder"], encoder["tokenizer"], part.texts) for part in parts]
    utility = FrozenEncoderUtility(features[0], train.labels, features[1], validation.labels, metric="log_loss")
    expected = DataShapley(utility, stop=SignDecided() | MaxPermutations(30), truncation=None, seed=5).fit().result
    np.testing.assert_array_equal(ranked.result.values, expected.values)
    assert ranked.paths == ()
    assert f"{expected.n_permutations} permutations, {expected.n_evaluations} trainings" in ranked.summary
    assert [row.text for row in ranked.ranking] == [train.texts[row.index] for row in ranked.ranking]
    assert {row.label for row in ranked.ranking} == {"liked", "disliked"}
    assert [row.row for row in ranked.ranking] == [train.rows[row.index] for row in ranked.ranking]
    assert ranked.summary.startswith("negative log loss ")


def test_an_encoder_directory_gives_the_values_of_the_model(parts, encoder, tmp_path: Path) -> None:
    for part in encoder.values():
        part.save_pretrained(tmp_path)
    loaded = rank_texts(*parts, encoder=tmp_path, permutations=10)
    passed = rank_texts(*parts, **encoder, permutations=10)
    np.testing.assert_array_equal(loaded.result.values, passed.result.values)


def test_files_are_written_and_a_second_call_resumes(parts, encoder, tmp_path: Path) -> None:
    test = parts[1].select(range(10))
    first = rank_texts(*parts, test=test, **encoder, permutations=10, out=tmp_path / "out")
    assert [path.name for path in first.paths] == [
        "ranking.csv",
        "ranking.html",
        "removal_curve.png",
        "permutations.ledger",
    ]
    assert all(path.stat().st_size for path in first.paths)
    with first.paths[0].open(encoding="utf-8", newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == first.ranking.column("text")
    second = rank_texts(*parts, test=test, **encoder, permutations=10, out=tmp_path / "out")
    np.testing.assert_array_equal(first.result.values, second.result.values)
    with pytest.raises(LedgerError):
        rank_texts(*parts, **encoder, permutations=10, metric="accuracy", out=tmp_path / "out")


def test_ctrl_c_returns_the_ranking_so_far(parts, encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: DataShapley) -> DataShapley:
        fit(self)
        raise KeyboardInterrupt

    fit = DataShapley.fit
    monkeypatch.setattr(DataShapley, "fit", interrupted)
    ranked = rank_texts(*parts, **encoder, permutations=10)
    assert ranked.interrupted
    assert len(ranked.ranking) == 12


def test_all_parts_need_the_same_classes(parts, encoder) -> None:
    other = LabelledTexts(parts[1].texts, parts[1].labels, ("no", "yes"))
    with pytest.raises(InputError, match=r"classes of validation: got \('no', 'yes'\)"):
        rank_texts(parts[0], other, **encoder)


def test_the_encoder_needs_a_tokenizer(parts) -> None:
    with pytest.raises(InputError, match="tokenizer"):
        rank_texts(*parts, encoder=models.bert())


def test_permutations_must_be_positive(parts, encoder) -> None:
    with pytest.raises(InputError, match="permutations: got 0"):
        rank_texts(*parts, **encoder, permutations=0)


def test_a_text_that_is_too_long_is_named_by_its_row_and_cut_on_request(parts, encoder) -> None:
    train, validation = parts
    texts = (*train.texts[:2], "good " * 50, *train.texts[3:])
    long = LabelledTexts(texts, train.labels, train.classes, train.rows)
    message = rf"texts of train: got 1 with more than 40 tokens, up to 52, in row {train.rows[2]}; .*truncate=True"
    with pytest.raises(InputError, match=message):
        rank_texts(long, validation, **encoder)
    ranked = rank_texts(long, validation, **encoder, permutations=4, truncate=True)
    assert ranked.summary.endswith("1 text cut to the length that the encoder allows")
    shortened = LabelledTexts((*texts[:2], "good " * 38, *texts[3:]), train.labels, train.classes, train.rows)
    expected = rank_texts(shortened, validation, **encoder, permutations=4)
    np.testing.assert_allclose(ranked.result.values, expected.result.values)


def test_fewer_permutations_of_many_sentences_by_default() -> None:
    assert [default_permutations(n) for n in (1, 1000, 4000, 10_000, 1_000_000)] == [1000, 1000, 250, 100, 20]


def test_an_invalid_argument_leaves_no_folder(parts, encoder, tmp_path: Path) -> None:
    wrong = {"metric": "x", "n_jobs": 0, "seed": -1, "dynamics": {}, "permutations": 0}
    for name, value in wrong.items():
        with pytest.raises(InputError, match=name):
            rank_texts(*parts, **encoder, **{"out": tmp_path / "out", name: value})
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="out: got int; expected a path"):
        rank_texts(*parts, **encoder, out=3)
    with pytest.raises(InputError, match="ledger: got int; expected a path"):
        rank_texts(*parts, **encoder, ledger=3)
