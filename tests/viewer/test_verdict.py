"""Verdicts: each rule fires on its case, states its numbers, and is silent otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lightning_attnflow.viewer import FlowPart, Prediction, RunLog, find_verdicts, sentence_record, step_record

WORDS = ("[CLS]", "a", "fine", "film", "[SEP]")
CALM = np.array([[0.0, 0.1, 0.5, -0.3, 0.0], [0.1, 0.1, 0.4, -0.3, 0.0], [0.2, 0.1, 0.3, -0.2, 0.0], [0.3, 0, 0, 0, 0]])


def record(
    step: int,
    number: int = 0,
    *,
    words: tuple[str, ...] = WORDS,
    values: Any = CALM,
    positive: float = 0.7,
    drift: float = 0.1,
) -> dict:
    classes = {"negative": 1 - positive, "positive": positive}
    name = max(classes, key=classes.get)
    return sentence_record(
        step=step,
        name=f"probe_{number:02d}",
        words=words,
        is_special=[word.startswith("[") for word in words],
        text=f"text {number}",
        flows={"conductance": FlowPart(np.asarray(values), signed=True)},
        prediction=Prediction(name, classes[name], classes),
        numbers={"drift_from_start": drift},
    )


def found(*records: dict, step: int = 10) -> dict[str, Any]:
    return {verdict.name: verdict for verdict in find_verdicts(RunLog(records), step)}


def healthy() -> list[dict]:
    """Two probes whose predictions move apart."""
    other = CALM[:, [0, 2, 1, 3, 4]]
    return [
        record(0, 0, positive=0.52, drift=0.0),
        record(0, 1, positive=0.51, drift=0.0, values=other, words=("[CLS]", "the", "bad", "plot", "[SEP]")),
        record(10, 0, positive=0.9),
        record(10, 1, positive=0.2, values=other, words=("[CLS]", "the", "bad", "plot", "[SEP]")),
    ]


def test_a_healthy_run_is_silent() -> None:
    records = [*healthy(), step_record(step=0), step_record(step=10, layers={"attention_entropy": [0.9, 0.7]})]
    assert found(*records) == {}
    assert found(*records, step=0) == {}
    assert found(step_record(step=10)) == {}


def test_collapsed() -> None:
    before = [record(0, 0, positive=0.52), record(0, 1, positive=0.48, words=WORDS[::-1])]
    after = [record(10, 0, positive=0.57), record(10, 1, positive=0.57, words=WORDS[::-1])]
    verdict = found(*before, *after)["collapsed"]
    assert "predicts the same for every sentence: positive with 57%" in verdict.text
    assert "Found: 0.0e+00, 4.0e-02 at the start." in verdict.rule
    assert "near_chance" not in found(*before, *after, step_record(step=10, progress=1.0))


def test_one_sentence_or_the_start_is_not_a_collapse() -> None:
    assert "collapsed" not in found(record(0), record(10))
    assert "collapsed" not in found(record(0, 0), record(0, 1, words=WORDS[::-1]), step=0)


def test_predictions_that_never_differ_need_three_validations() -> None:
    records = [record(s, n, words=WORDS[:: 1 - 2 * n], positive=0.5) for s in (0, 10, 20, 30) for n in (0, 1)]
    assert "collapsed" not in found(*records, step=20)
    assert "collapsed" in found(*records, step=30)


def test_uniform_attention_and_its_first_step() -> None:
    layers = {0: [0.8, 0.7, 0.6], 7: [0.99, 0.985, 0.6], 10: [0.99, 1.0, 0.5]}
    records = [step_record(step=step, layers={"attention_entropy": row}) for step, row in layers.items()]
    verdict = found(*records)["uniform"]
    assert verdict.text == "Attention is uniform in layers 1 to 2 since step 7."
    assert "0.990 in layer 1, 1.000 in layer 2" in verdict.rule
    assert "uniform" not in found(*records, step=0)
    assert "since the start" in found(*records[1:])["uniform"].text


def test_unchanged() -> None:
    calm = [record(0, drift=0.0), record(10, drift=5e-4)]
    assert "5.0e-04 and 0.0e+00 in 1 sentences" in found(*calm)["unchanged"].rule
    assert "unchanged" not in found(record(0, drift=0.0), record(10, drift=0.01))
    assert "unchanged" not in found(record(0, positive=0.7, drift=0.0), record(10, positive=0.72, drift=0.0))


def test_one_special_token_with_the_flow() -> None:
    values = CALM.copy()
    values[1:3] = [0.0, 0.001, 0.001, 0.001, 0.5]
    verdict = found(record(10, values=values))["special_token"]
    assert verdict.text == "[SEP] alone carries 99% or more of the flow in layers 1 to 2."
    values[1:3, 1] = 0.1
    assert "special_token" not in found(record(10, values=values))


def test_two_probes_with_the_same_reading() -> None:
    other = ("[CLS]", "a", "bad", "film", "[SEP]")
    verdict = found(record(10, 0), record(10, 1, words=other))["same_reading"]
    assert verdict.text == "The model reads “text 0” and “text 1” the same way."
    assert "Found: 0.0000 and 0.0000." in verdict.rule
    assert "same_reading" not in found(record(10, 0), record(10, 1))  # the same sentence twice
    assert "same_reading" not in found(record(10, 0), record(10, 1, words=other, positive=0.9))


@pytest.mark.parametrize(("before", "expected"), [(0.9, True), (0.6, False)])
def test_a_confident_prediction_that_flipped(before: float, expected: bool) -> None:
    verdicts = found(record(5, positive=before), record(10, positive=0.3))
    assert ("flipped" in verdicts) is expected
    if expected:
        text = "The prediction turned for “text 0” from positive (90%) to negative (70%)."
        assert (verdicts["flipped"].text, verdicts["flipped"].level) == (text, "note")


def test_padding_in_the_attention() -> None:
    words = ("[CLS]", "fine", "[SEP]", "[PAD]", "[PAD]")
    assert "2 of 5 tokens" in found(record(10, words=words))["padding"].text


def test_one_word_that_dominates_long_sentences() -> None:
    def of(number: int, share: float = 0.8) -> dict:
        words = ("[CLS]", "Qux", *(f"{letter}{number}" for letter in "abcdefghij"), "[SEP]")
        row = [0.0, share, *[(1 - share) / 10] * 10, 0.0]
        return record(10, number, values=[row] * 4, words=words)

    verdict = found(of(0), of(1))["one_word"]
    assert verdict.text == "“qux” alone carries the prediction positive in all 2 long sentences that contain it."
    assert "Found: 80%, 80%." in verdict.rule
    assert "one_word" not in found(of(0))
    assert "one_word" not in found(of(0), of(1), of(2, share=0.5))


def test_predictions_near_chance_late_in_the_training() -> None:
    other = CALM[:, [0, 2, 1, 3, 4]]
    records = [record(10, 0, positive=0.57), record(10, 1, positive=0.45, values=other)]
    verdict = found(*records, step_record(step=10, progress=0.6))["near_chance"]
    assert "near chance after 60% of the training: 56% on average for 2 classes" in verdict.text
    assert "near_chance" not in found(*records, step_record(step=10, progress=0.4))
    rising = [record(0, 0, positive=0.5), record(0, 1, positive=0.5, values=other), *records]
    assert "near_chance" not in found(*rising, step_record(step=10, progress=0.6))
    assert "It rose by 0.060; 0 of 0" in found(*rising, step_record(step=10, progress=0.95))["near_chance"].rule
    right = [{**one, "label": one["prediction"]["class"]} for one in records]
    assert "near_chance" not in found(*right, step_record(step=10, progress=0.95))
    wrong = [{**one, "label": "positive"} for one in records]
    assert "1 of 2 labelled" in found(*wrong, step_record(step=10, progress=0.95))["near_chance"].rule
    assert "near_chance" not in found(*records, step_record(step=10))
    assert "near_chance" not in found(record(10, 0, positive=0.9), records[1], step_record(step=10, progress=0.6))
