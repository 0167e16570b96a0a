"""Find wrong labels from frozen features: leave-one-out margins of a linear head, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_seed
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.data import check_features, check_validation
from lightning_attnflow.valuation.label_errors_result import LabelErrors
from lightning_attnflow.valuation.label_noise import estimate_share
from lightning_attnflow.valuation.label_scores import design, head_scores
from lightning_attnflow.valuation.labels import encode_labels


def find_label_errors(
    features: Any,
    labels: Any,
    validation_features: Any = None,
    validation_labels: Any = None,
    *,
    ids: Sequence[Any] | None = None,
    texts: Sequence[str] | None = None,
    rows: Sequence[int] | None = None,
    seed: int = 0,
) -> LabelErrors:
    """Rank training examples by how likely their label is wrong.

    A logistic regression is trained on the features of all examples, those of the validation set included. The score
    of an example is its leave-one-out margin: the logit of its given label minus the largest other logit, predicted by
    the model trained without the example. It is computed in closed form for all examples at once. The suggested label
    is the class with the largest leave-one-out probability.

    The share of wrong labels is estimated from how often labels disagree with confident leave-one-out predictions; see
    :func:`~lightning_attnflow.valuation.label_noise.estimate_share` for its assumptions. Clean validation labels make
    it accurate; without them its interval is wide.

    Components of the result, each low where the label is likely wrong: ``p_correct``, the probability that the label
    is correct if the estimated share of labels is wrong; ``aum``, the mean margin over a gradient descent;
    ``self_influence``, minus the influence of the example on its own loss; and with a validation set ``influence``, the
    change of the validation log-likelihood due to the example.

    Args:
        features: float (n, d), one row for each training example.
        labels: n labels: strings, numbers or booleans, in a list, array, tensor or pandas column.
        validation_features: float (m, d). Default: no validation set.
        validation_labels: m labels, of classes that occur in ``labels``. The estimated share of wrong labels is right
            only if they are correct.
        ids: n different identifiers; default: the indices.
        texts: n texts, for the tables.
        rows: n row numbers in the user's file; default: the indices.
        seed: not used, since nothing is random; it is accepted as by the other methods.

    Raises:
        InputError: features are not finite or all equal, lengths differ, a label is missing, there are fewer than two
            classes, or an id occurs twice.

    Source: closed-form leave-one-out of logistic regression: Pregibon (1981).

    Example:
        >>> features = [[0.0], [0.1], [0.2], [1.0], [1.1], [1.2]]
        >>> errors = find_label_errors(features, ["neg", "neg", "pos", "pos", "pos", "pos"])
        >>> int(errors.order[0]), errors.labels[2], errors.suggested[2]
        (2, 'pos', 'neg')
    """
    check_seed(seed)
    train = check_features("features", features)
    n = len(train)
    given, classes = encode_labels("labels", labels, n)
    everything, every_label = train, given
    if (validation_features is None) != (validation_labels is None):
        missing = "validation_features" if validation_features is None else "validation_labels"
        raise InputError(missing, got="None", expected="both validation_features and validation_labels, or neither")
    if validation_features is not None:
        held_out, truth = check_validation(validation_features, validation_labels, train.shape[1], classes)
        everything, every_label = np.concatenate([train, held_out]), np.concatenate([given, truth])
    scores = head_scores(design(everything, n), every_label, len(classes), n_train=n)
    noise = estimate_share(scores.probabilities, every_label, n)
    components = {
        "p_correct": noise.correct,
        "aum": scores.aum[:n],
        "self_influence": scores.self_influence[:n],
    }
    if scores.influence is not None:
        components["influence"] = scores.influence
    return LabelErrors(
        scores.margin[:n],
        score_name="leave-one-out margin",
        component_values=np.array(list(components.values())),
        component_names=tuple(components),
        labels=tuple(classes[index] for index in given),
        suggested=tuple(classes[index] for index in scores.probabilities[:n].argmax(axis=1)),
        share=noise.share,
        share_interval=noise.interval,
        ids=() if ids is None else tuple(ids),
        texts=() if texts is None else tuple(texts),
        rows=() if rows is None else tuple(rows),
        notes=_remarks(train, given),
    )


def _remarks(features: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[str, ...]:
    """Remarks on repeated examples, which hide each other's wrong labels."""
    found: dict[int, tuple[int, bool]] = {}
    for row, label in zip(features, labels.tolist(), strict=True):
        key = hash(row.tobytes())
        first, conflicts = found.get(key, (label, False))
        found[key] = (first, conflicts or label != first)
    remarks = []
    if len(found) < len(features):
        remarks.append(f"{len(features) - len(found)} examples repeat the features of another")
    conflicting = sum(conflicts for _, conflicts in found.values())
    if conflicting:
        remarks.append(f"{conflicting} of the repeated examples occur with different labels")
    return tuple(remarks)
