"""Statistics of batches of every shape, against the losses of torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.example_statistics import content_hash, example_statistics, find_task

GENERATOR = torch.Generator().manual_seed(0)
ONE, THREE = torch.randn(6, 1, generator=GENERATOR), torch.randn(6, 3, generator=GENERATOR)
BINARY, CLASSES = torch.tensor([0, 1, 1, 0, 1, 0]), torch.tensor([0, 1, 2, 2, 1, 0])


@pytest.mark.parametrize("logits", [ONE, ONE[:, 0], ONE.bfloat16()], ids=["column", "vector", "bfloat16"])
@pytest.mark.parametrize(
    "labels", [BINARY, BINARY[:, None], BINARY.float(), BINARY.bool(), BINARY.to(torch.uint8)], ids=range(5)
)
def test_one_logit_with_labels_0_and_1_is_that_of_a_binary_classification(logits: Any, labels: Any) -> None:
    assert find_task(logits, labels) == "classification"
    loss, margin, confidence, norm, prediction, label = example_statistics(logits, labels, "classification").T
    signed = logits.float().flatten() * (2 * BINARY - 1)
    expected = binary_cross_entropy_with_logits(logits.float().flatten(), BINARY.float(), reduction="none")
    np.testing.assert_allclose(loss, expected, atol=1e-6)
    np.testing.assert_allclose(margin, signed, atol=1e-6)
    np.testing.assert_allclose(confidence, signed.sigmoid(), atol=1e-6)
    np.testing.assert_allclose(norm, (1 - signed.sigmoid()) * 2**0.5, atol=1e-6)
    np.testing.assert_array_equal(prediction, logits.flatten() > 0)
    np.testing.assert_array_equal(label, BINARY)


@pytest.mark.parametrize("labels", [CLASSES, CLASSES[:, None], CLASSES.int()], ids=["vector", "column", "int32"])
def test_classes_in_a_column_are_those_of_a_vector(labels: torch.Tensor) -> None:
    assert find_task(THREE, labels) == "classification"
    found = example_statistics(THREE, labels, "classification")
    np.testing.assert_allclose(found[:, 0], cross_entropy(THREE, CLASSES, reduction="none"), atol=1e-6)
    np.testing.assert_array_equal(found, example_statistics(THREE, CLASSES, "classification"))


@pytest.mark.parametrize(
    ("logits", "labels", "problem_type", "expected"),
    [
        (ONE, BINARY.float(), "regression", "regression"),  # as Hugging Face models compute the loss
        (ONE, BINARY / 2, None, "regression"),
        (ONE[:, 0], BINARY * 5, None, "regression"),
        (THREE, (THREE > 0).float(), None, "multi_label"),
        (THREE, (THREE > 0).int(), "multi_label_classification", "multi_label"),
        (THREE, THREE, None, "regression"),
        (THREE, THREE.softmax(dim=1), "regression", "regression"),
    ],
    ids=range(7),
)
def test_the_task_of_other_shapes(logits: Any, labels: Any, problem_type: str | None, expected: str) -> None:
    assert find_task(logits, labels, problem_type=problem_type) == expected
    loss = example_statistics(logits, labels, expected)[:, 0]  # type: ignore[arg-type]
    logits, labels = logits.reshape(6, -1), labels.float().reshape(6, -1)
    if expected == "regression":
        np.testing.assert_allclose(loss, (logits - labels).square().mean(dim=1), atol=1e-6)
    else:
        np.testing.assert_allclose(
            loss, binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=1), atol=1e-6
        )


def test_fractions_are_no_classes() -> None:
    labels = torch.tensor([0.0, 1.0, 0.5, 1.0, 0.0, 1.0])
    assert torch.isnan(example_statistics(ONE, labels, "classification")[:, :3]).any(dim=1).tolist() == [
        False, False, True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (THREE, THREE.softmax(dim=1), r"labels of a training batch: got probabilities of the classes; .*argmax"),
        (THREE, CLASSES[:4], r"got shapes \(6, 3\) and \(4,\)"),
        (THREE[0, 0], CLASSES, r"got shapes \(\) and \(6,\)"),
        (THREE, CLASSES.float(), r"got shapes \(6, 3\) and \(6,\) \(torch.float32\)"),
    ],
    ids=range(4),
)
def test_shapes_without_a_task_are_refused(logits: Any, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_task(logits, labels)


@pytest.mark.parametrize(
    ("task", "labels"),
    [("classification", CLASSES[:4]), ("multi_label", CLASSES), ("regression", CLASSES)],
)
def test_shapes_that_a_task_does_not_have_are_refused(task: Any, labels: torch.Tensor) -> None:
    with pytest.raises(InputError, match=f"logits and labels, task '{task}': got shapes"):
        example_statistics(THREE, labels, task)


def test_the_hash_ignores_padding_and_tells_examples_apart() -> None:
    ids = torch.randint(0, 30_000, (20_000, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    left = torch.nn.functional.pad(ids, (3, 0), value=7), torch.nn.functional.pad(mask, (3, 0))
    right = torch.nn.functional.pad(ids, (0, 2), value=9), torch.nn.functional.pad(mask, (0, 2))
    assert torch.equal(content_hash(*left), content_hash(*right))
    assert torch.equal(content_hash(ids), content_hash(ids, mask))
    assert len(set(content_hash(ids).tolist())) == len(set(map(tuple, ids.tolist())))
    swapped = ids.flip(1)
    assert not (content_hash(swapped) == content_hash(ids))[(swapped != ids).any(dim=1)].any()


def test_statistics_of_tokens_and_of_several_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(2, 3, 5, generator=generator), torch.tensor([[1, -100, 4], [0, 2, 3]])
    loss, margin, confidence, *_ = example_statistics(logits, labels, "token_classification").T
    for row in range(2):
        kept = labels[row] != -100
        expected = torch.nn.functional.cross_entropy(logits[row][kept], labels[row][kept])
        assert float(loss[row]) == pytest.approx(float(expected), abs=1e-6)
        chosen, other = logits[row][kept], logits[row][kept].clone()
        own = chosen.gather(1, labels[row][kept][:, None])[:, 0]
        other.scatter_(1, labels[row][kept][:, None], -torch.inf)
        margins = own - other.amax(dim=1)
        assert float(margin[row]) == pytest.approx(float(margins.min()), abs=1e-6)
        worst = chosen.softmax(1).gather(1, labels[row][kept][:, None])[:, 0][margins.argmin()]
        assert float(confidence[row]) == pytest.approx(float(worst), abs=1e-6)
    causal = example_statistics(logits, labels, "causal_lm")
    expected = torch.nn.functional.cross_entropy(logits[1, :-1], labels[1, 1:])
    assert float(causal[1, 0]) == pytest.approx(float(expected), abs=1e-6)
    signs = torch.tensor([[1.0, 0.0, 1.0]])
    several = example_statistics(torch.tensor([[2.0, 1.0, 3.0]]), signs, "multi_label")
    assert float(several[0, 1]) == -1.0
