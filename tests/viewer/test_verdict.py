"""Verdicts: each rule fires on its case, states its numbers, and is silent otherwise."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from lightning_attnflow.viewer import FlowPart, Prediction, RunLog, find_verdicts, sentence_record, step_record
from lightning_attnflow.viewer.prediction_rules import _agreement_with_labels

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
    after = [record(10, n, positive=0.57 + 1e-6 * n, words=WORDS[:: 1 - 2 * n]) for n in (0, 1)]
    verdict = found(*before, *after)["collapsed"]
    assert verdict.text == (
        "The model predicts the same for every sentence: positive with 57%. Training has collapsed; a common cause is "
        "a learning rate that is too high."
    )
    assert "Found: 4.1e-06, 1.6e-01 at the start; z = 0.00 for the labels of 0 sentences." in verdict.rule
    # log odds of 0.08 and -0.08 before: with one degree of freedom each, the test asks for less than a 600th of this
    closer = record(10, 1, positive=0.571, words=WORDS[::-1])
    assert "collapsed" not in found(*before, after[0], closer)
    late = [{**one, "step": step} for step in (10, 20) for one in after]
    assert "near_chance" not in found(*before, *late, *progress((10, 0.5), (20, 1.0)), step=20)


def test_confident_predictions_of_one_class_are_no_collapse() -> None:
    records = [
        record(step, n, positive=p, words=WORDS[:: 1 - 2 * n])
        for step, row in enumerate([(0.51, 0.5), (0.995, 0.999), (0.996, 0.9999), (0.997, 0.9999)])
        for n, p in enumerate(row)
    ]
    assert "collapsed" not in found(*records, step=3)


def test_one_sentence_or_the_start_is_not_a_collapse() -> None:
    assert "collapsed" not in found(record(0), record(10))
    assert "collapsed" not in found(record(0, 0), record(0, 1, words=WORDS[::-1]), step=0)


def test_predictions_that_never_differ_need_three_validations() -> None:
    records = [record(s, n, words=(*WORDS[:4], str(n)), positive=0.5) for n in range(4) for s in (0, 10, 20, 30)]
    assert "collapsed" not in found(*records, step=20)
    assert "collapsed" not in found(*records[:12], step=30)  # of three sentences
    verdict = found(*records, step=30)["collapsed"]
    assert "weights that are not trained" in verdict.text
    assert verdict.level == "note"  # without labels


def test_uniform_attention_and_its_first_step() -> None:
    layers = {0: [0.8, 0.7, 0.6], 7: [0.99, 0.985, 0.6], 10: [0.99, 1.0, 0.5]}
    records = [step_record(step=step, layers={"attention_entropy": row}) for step, row in layers.items()]
    verdict = found(*records)["uniform"]
    assert verdict.text == "Attention is uniform in layers 1 to 2 since step 7."
    assert "0.990 in layer 1, 1.000 in layer 2" in verdict.rule
    assert "uniform" not in found(*records, step=0)
    assert "since the start" in found(*records[1:])["uniform"].text
    new = step_record(step=0, layers={"attention_entropy": [0.99, 0.7, 0.6]})  # of a model with new weights
    assert found(new, step=0) == {}
    assert "Attention is uniform in layer 2 since step 7." in found(new, *records[1:])["uniform"].text


def test_unchanged() -> None:
    calm = [record(0, drift=0.0), record(10, drift=5e-4)]
    assert "5.0e-04 and 0.0e+00 in 1 sentence." in found(*calm)["unchanged"].rule
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
    assert verdict.sentence == "probe_00"
    assert "same_reading" not in found(record(10, 0), record(10, 1))  # the same sentence twice
    assert "same_reading" not in found(record(10, 0), record(10, 1, words=other, positive=0.9))
    short = [record(10, n, words=("[CLS]", word, "[SEP]"), values=[[0, 1, 0]] * 3) for n, word in enumerate("ab")]
    assert "same_reading" not in found(*short)  # all of the flow comes from the only word


@pytest.mark.parametrize(("before", "expected"), [(0.9, True), (0.6, False)])
def test_a_confident_prediction_that_flipped(before: float, expected: bool) -> None:
    verdicts = found(record(5, positive=before), record(10, positive=0.3))
    assert ("flipped" in verdicts) is expected
    if expected:
        text = "The prediction turned for “text 0” from positive (90%) to negative (70%)."
        assert (verdicts["flipped"].text, verdicts["flipped"].level) == (text, "note")
        assert verdicts["flipped"].sentence == "probe_00"


def test_padding_in_the_attention() -> None:
    words = ("[CLS]", "fine", "[SEP]", "[PAD]", "[PAD]")
    verdict = found(record(10, 0, words=words), record(10, 1, words=(*words[:4], "film")))["padding"]
    assert "3 of 10 tokens that the model attends to are padding, in 2 sentences." in verdict.text
    assert verdict.sentence == "probe_00"  # the sentence with most of it


def test_one_word_that_dominates_long_sentences() -> None:
    def of(number: int, share: float = 0.8) -> dict:
        words = ("[CLS]", "Qux", *(f"{letter}{number}" for letter in "abcdefghij"), "[SEP]")
        row = [0.0, share, *[(1 - share) / 10] * 10, 0.0]
        return record(10, number, values=[row] * 4, words=words)

    others = [record(10, number, positive=0.1) for number in range(2, 9)]
    verdict = found(of(0), of(1), *others)["one_word"]
    assert verdict.text == (
        "“qux” alone carries the prediction positive in all 2 long sentences that contain it. It may be an artefact of "
        "the data."
    )
    assert verdict.sentence == "probe_00"
    assert "Found: 80%, 80%; p = 0.0278." in verdict.rule  # 1 of the 36 pairs of nine sentences
    assert "one_word" not in found(of(0), *others)
    assert "one_word" not in found(of(0), of(1))  # all sentences are positive
    assert "one_word" not in found(of(0), of(1), *others[:4])  # p = 1 / 15
    assert "one_word" not in found(of(0), of(1), of(9, share=0.5), *others)


def progress(*steps: tuple[int, float]) -> list[dict]:
    return [step_record(step=step, progress=share) for step, share in steps]


def test_predictions_near_chance_in_two_validations_late_in_the_training() -> None:
    def at(step: int, *positive: float) -> list[dict]:
        return [record(step, n, positive=p, values=np.roll(CALM, n, axis=1)) for n, p in enumerate(positive)]

    start, first, second = at(0, 0.5, 0.5, 0.5), at(10, 0.51, 0.49, 0.52), at(20, 0.53, 0.49, 0.52)
    steps = progress((0, 0.0), (10, 0.5), (20, 0.8))
    verdict = found(*start, *first, *second, *steps, step=20)["near_chance"]
    assert verdict.text.startswith(
        "The predictions are still near chance after 80% of the training: 52% on average for 2 classes. Common causes "
        "are labels that do not belong to the sentences"
    )
    # the mean of 0.5 + (0.03, 0.01, 0.02) / 0.8 is 0.525, its standard error 0.0125 / sqrt(3), and t = 2.92
    assert "Found: at most 0.546, and 0.546 before; z = 0.00 for the labels of 0 sentences." in verdict.rule
    assert "near_chance" not in found(*start, *first, *steps)
    assert "near_chance" not in found(*start, *first, *second, *progress((10, 0.4), (20, 0.8)), step=20)
    assert "near_chance" not in found(*start, *first, *second, step_record(step=10), step_record(step=20), step=20)
    rising = at(20, 0.6, 0.4, 0.6)
    assert "near_chance" not in found(*start, *first, *rising, *steps, step=20)
    varied = at(20, 0.5, 0.5, 0.6)  # the mean is low, but not its bound
    assert "near_chance" not in found(*start, *first, *varied, *steps, step=20)


@pytest.mark.parametrize(
    ("labels", "level"),
    [
        ("ppppnnnn", None),  # predicted in the right order, although all probabilities are near one half
        ("pnpnpnpn", "warning"),
        ("pnpn", "note"),  # too few labels
        ("pppppppp", "note"),  # labels that do not differ
    ],
)
def test_predictions_near_chance_are_fine_if_the_labels_are_predicted(labels: str, level: str | None) -> None:
    records = [
        record(step, n, positive=0.514 - 0.004 * n, values=np.roll(CALM, n, axis=1))
        | {"label": {"p": "positive", "n": "negative"}[label]}
        for step in (10, 20)
        for n, label in enumerate(labels)
    ]
    verdict = found(*records, *progress((10, 0.5), (20, 1.0)), step=20).get("near_chance")
    assert (verdict and verdict.level) == level


def test_the_score_of_the_labels_is_that_of_all_permutations() -> None:
    random = np.random.default_rng(0)
    probabilities, labels = random.dirichlet(np.ones(3), 6), [0, 1, 2, 0, 0, 1]
    sentences = [
        {5: {"label": str(label), "prediction": {"classes": dict(zip("012", row, strict=True))}}}
        for label, row in zip(labels, probabilities, strict=True)
    ]
    sums = [
        sum(np.log(row[labels[place]]) for row, place in zip(probabilities, order, strict=True))
        for order in permutations(range(6))
    ]
    z, n = _agreement_with_labels(sentences, 5)
    assert n == 6
    assert z == pytest.approx((sums[0] - np.mean(sums)) / np.std(sums), rel=1e-9)


def test_a_cause_comes_before_its_consequence_which_refers_to_it() -> None:
    words = ("[CLS]", "fine", "film", "[SEP]", "[PAD]")
    records = [
        record(step, n, positive=0.51 + 0.005 * n, words=words, values=np.roll(CALM, n, axis=1))
        for step in (10, 20)
        for n in range(3)
    ]
    verdicts = list(found(*records, *progress((10, 0.5), (20, 1.0)), step=20).values())
    assert [verdict.name for verdict in verdicts] == ["padding", "near_chance"]
    assert verdicts[1].text.endswith("2 classes. A likely cause is that padding is not masked, see above.")
