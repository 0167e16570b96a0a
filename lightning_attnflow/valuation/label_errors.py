"""Find wrong labels from frozen features: leave-one-out predictions of two heads, and label noise by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_seed
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.data import check_features, check_validation
from lightning_attnflow.valuation.label_errors_result import LabelErrors, is_unknown
from lightning_attnflow.valuation.label_noise import LabelNoise, estimate_noise
from lightning_attnflow.valuation.label_scores import (
    blended,
    design,
    head_scores,
    kernel_design,
    loo_logits,
    probabilities,
)
from lightning_attnflow.valuation.labels import encode_labels

_REPORTED_CLASSES = 5
_VALIDATION_SHARE = 0.02  # smaller estimated shares of wrong validation labels are not reported


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

    Two logistic regressions are trained on all examples, those of the validation set included: one on the features, and
    one on the features of a Gaussian kernel. A weighted mean of their logits predicts the label of each example without
    having seen it (leave-one-out, computed in closed form for all examples at once). From these predictions the label
    noise of each class is estimated, see :func:`~lightning_attnflow.valuation.label_noise.estimate_noise`. Then both
    are trained once more, with each training example weighted by the probability that its label is correct, so that
    they follow wrong labels less, and the noise is estimated again. The score of an example is the log-odds that its
    label is correct: if most wrong labels are in one class, examples of that class move up in the ranking. The
    suggested label is the class with the largest leave-one-out probability.

    The estimated share of wrong labels and its interval assume that labels are wrong at random within a class. Labels
    that are wrong because the examples are unclear cannot be told from correct labels of unclear examples, so with them
    the share is a lower bound. Validation labels may be wrong too; the result says if they seem to be.

    Components of the result, each low where the label is likely wrong: ``p_correct``, the probability that the label is
    correct: of labels with a ``p_correct`` of about .8, about 80% are correct, if labels are wrong at random within a
    class. Low values are too low where the features of correct examples contradict their label, as of ironic sentences:
    of movie-review sentences with a ``p_correct`` below .2, on average .11, 29% of the labels were correct, of tweets
    2%, on average .06 (1,000 sentences, ``recipes/benchmarks/noise_detection.py --reliability``). The other components
    are of the first, unweighted regression on the features: ``margin``, the leave-one-out logit of the given label
    minus the largest other one; ``aum``, the mean margin over a gradient descent; ``self_influence``, minus the
    influence of the example on its own loss; and with a validation set ``influence``, the change of the validation
    log-likelihood due to the example.

    Args:
        features: float (n, d), one row for each training example.
        labels: n labels: strings, numbers or booleans, in a list, array, tensor or pandas column.
        validation_features: float (m, d). Default: no validation set.
        validation_labels: m labels, of classes that occur in ``labels``.
        ids: n different identifiers; default: the indices.
        texts: n texts, for the tables.
        rows: n row numbers in the user's file; default: the indices.
        seed: of the 500 examples whose kernel is used, if there are more.

    Raises:
        InputError: features are not finite or all equal, lengths differ, a label is missing, there are fewer than two
            classes, or an id occurs twice.

    Source: closed-form leave-one-out of logistic regression: Pregibon (1981); kernel: Williams & Seeger (2001).

    Example:
        >>> features = [[0.0], [0.1], [0.2], [0.3], [1.0], [1.1], [1.2], [1.3]]
        >>> errors = find_label_errors(features, ["neg", "neg", "pos", "neg", "pos", "pos", "pos", "pos"])
        >>> int(errors.order[0]), errors.labels[2], errors.suggested[2]
        (2, 'pos', 'neg')
    """
    seed = check_seed(seed)
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
    matrix = design(everything, n)
    scores = head_scores(matrix, every_label, len(classes), n_train=n)
    kernel = kernel_design(matrix, n, seed)
    first = blended(scores.logits, loo_logits(kernel, every_label, len(classes)))
    weights = np.ones(len(every_label))
    weights[:n] = estimate_noise(probabilities(first), every_label, n).correct
    heads = (loo_logits(rows, every_label, len(classes), weights) for rows in (matrix, kernel))
    predicted = probabilities(blended(*heads))
    noise = estimate_noise(predicted, every_label, n)
    components = {
        "p_correct": noise.correct,
        "margin": scores.margin[:n],
        "aum": scores.aum[:n],
        "self_influence": scores.self_influence[:n],
    }
    if scores.influence is not None:
        components["influence"] = scores.influence
    columns = {"ids": ids, "texts": texts, "rows": rows}
    optional: dict[str, Any] = {name: column for name, column in columns.items() if column is not None}
    return LabelErrors(
        noise.log_odds,
        score_name="log-odds of a correct label",
        component_values=np.array(list(components.values())),
        component_names=tuple(components),
        labels=tuple(classes[index] for index in given),
        suggested=tuple(classes[index] for index in predicted[:n].argmax(axis=1)),
        share=noise.share,
        share_interval=noise.interval,
        **optional,
        notes=_noise_remarks(noise, given, classes) + _remarks(train, given),
    )


def _noise_remarks(noise: LabelNoise, given: NDArray[np.int64], classes: Sequence[Any]) -> tuple[str, ...]:
    """The shares of wrong labels of at most five classes, the largest first, and that of the validation labels."""
    largest = np.argsort(-noise.by_class, kind="stable")[:_REPORTED_CLASSES]
    sizes = np.bincount(given, minlength=len(classes))
    shares = ", ".join(
        f"{noise.by_class[index]:.1%} of {classes[index]} ({counted(int(sizes[index]), 'example')})"
        for index in largest
    )
    remarks = [f"by given label {'unknown' if is_unknown(noise.interval) else shares}"]
    if noise.validation_share > _VALIDATION_SHARE:
        remarks.append(f"about {noise.validation_share:.0%} of the validation labels seem to be wrong")
    return tuple(remarks)


def _remarks(features: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[str, ...]:
    """Remarks on repeated examples, which hide each other's wrong labels."""
    found: dict[int, tuple[int, bool]] = {}
    for row, label in zip(features, labels.tolist(), strict=True):
        key = hash(row.tobytes())
        first, conflicts = found.get(key, (label, False))
        found[key] = (first, conflicts or label != first)
    remarks = []
    if len(found) < len(features):
        repeated = len(features) - len(found)
        remarks.append(f"{repeated} example{'s repeat' if repeated > 1 else ' repeats'} the features of another")
    conflicting = sum(conflicts for _, conflicts in found.values())
    if conflicting:
        remarks.append(
            f"{conflicting} of the repeated examples occur{'' if conflicting > 1 else 's'} with different labels"
        )
    return tuple(remarks)
