"""Verdicts about the predictions: the same for every sentence, near chance, turned, or never changed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lightning_attnflow.viewer.record import Record
from lightning_attnflow.viewer.verdict import Sentences, Verdict, classes_of, short

UNCHANGED = 1e-3
"""Drift of the flow, and change of the probability, up to which nothing has changed."""
CONFIDENT = 0.8
"""Probability from which a later change of the predicted class is reported."""
SAME_PREDICTIONS = 0.01
"""Largest spread of the probabilities over the sentences of a collapsed model."""
HALF_OF_TRAINING, END_OF_TRAINING, NEAR_CHANCE, RISE, MOSTLY_RIGHT = 0.5, 0.9, 0.1, 0.01, 0.75
"""The mean probability should be this far above chance at the end of the training, and have risen by half of it, unless
this share of the labelled sentences is predicted correctly."""


def collapsed(sentences: Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    """The predictions do not depend on the sentence."""
    spreads = {}
    for s in sorted({s for of_step in sentences for s in of_step}):
        distinct = {tuple(of_step[s]["words"]): classes_of(of_step[s]) for of_step in sentences if s in of_step}
        rows = [list(classes.values()) for classes in distinct.values() if classes]
        if len(rows) >= 2 and len({len(row) for row in rows}) == 1:
            spreads[s] = float(np.ptp(np.array(rows), axis=0).max())
    if step not in spreads or step == min(spreads):
        return
    first, low = spreads[min(spreads)], spreads[step] < SAME_PREDICTIONS
    validations = sorted(s for s in spreads if s > min(spreads))
    lasting = len(validations) >= 3 and all(spreads[s] < SAME_PREDICTIONS for s in validations[-3:])
    if low and (spreads[step] < first / 2 or lasting):
        prediction = sentences[0][step]["prediction"]
        yield Verdict(
            "collapsed",
            f"The model predicts the same for every sentence: {prediction['class']} with "
            f"{prediction['probability']:.0%}. Training has collapsed; a common cause is a learning rate that is too "
            "high.",
            f"Rule: the probabilities of {len(sentences)} sentences differ by less than {SAME_PREDICTIONS} and by less "
            f"than half of the spread at the start, or in three validations in a row. Found: {spreads[step]:.1e}, "
            f"{first:.1e} at the start.",
        )


def near_chance(sentences: Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:
    """The predictions are near chance late in the training."""
    progress = steps.get(step, {}).get("progress")
    if progress is None or progress < HALF_OF_TRAINING:
        return
    rows = [list(classes_of(of_step[step]).values()) for of_step in sentences]
    if len(rows) < 2 or len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        return
    mean, n_classes = float(np.max(rows, axis=1).mean()), len(rows[0])
    before = [list(classes_of(of_step[min(of_step)]).values()) for of_step in sentences if min(of_step) < step]
    rise = mean - float(np.mean([max(row) for row in before])) if before and all(before) else 0.0
    labelled = [of_step[step] for of_step in sentences if of_step[step].get("label")]
    n_right = sum(record["prediction"]["class"] == record["label"] for record in labelled)
    if labelled and n_right >= MOSTLY_RIGHT * len(labelled):
        return
    if mean <= 1 / n_classes + NEAR_CHANCE and (rise < RISE or progress >= END_OF_TRAINING):
        yield Verdict(
            "near_chance",
            f"The predictions are still near chance after {progress:.0%} of the training: {mean:.0%} on average for "
            f"{n_classes} classes. Check the labels.",
            f"Rule: the mean probability of the predicted class is at most {NEAR_CHANCE} above 1/{n_classes} in "
            f"{len(rows)} sentences, after {END_OF_TRAINING:.0%} of the training, or after {HALF_OF_TRAINING:.0%} if "
            f"it rose by less than {RISE}. It rose by {rise:.3f}; "
            f"{n_right} of {len(labelled)} labelled sentences are predicted correctly.",
        )


def unchanged(sentences: Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    """Neither predictions nor flows changed since the start."""
    drifts, changes = [], []
    for of_step in sentences:
        first = min(of_step)
        drift = of_step[step]["numbers"].get("drift_from_start")
        if first == step or drift is None:
            continue
        drifts.append(drift)
        before, now = classes_of(of_step[first]), classes_of(of_step[step])
        changes += [abs(now[name] - before[name]) for name in now if name in before]
    if drifts and changes and max(drifts) <= UNCHANGED and max(changes) <= UNCHANGED:
        yield Verdict(
            "unchanged",
            "Nothing has changed since the start: neither the predictions nor the flow.",
            f"Rule: no sentence drifted and no probability changed by more than {UNCHANGED}. Found: at most "
            f"{max(drifts):.1e} and {max(changes):.1e} in {len(drifts)} sentences.",
        )


def flipped(sentences: Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    """Confident predictions changed since the last validation."""
    changes = []
    for of_step in sentences:
        before = [s for s in of_step if s < step]
        if not before or "prediction" not in of_step[step]:
            continue
        old, now = of_step[max(before)].get("prediction"), of_step[step]["prediction"]
        if old and old["class"] != now["class"] and (old["probability"] or 0) >= CONFIDENT:
            changes.append(
                f"“{short(of_step[step]['text'])}” from {old['class']} ({old['probability']:.0%}) to {now['class']} "
                f"({now['probability']:.0%})"
            )
    if changes:
        others = f", and of {len(changes) - 1} more" if len(changes) > 1 else ""
        yield Verdict(
            "flipped",
            f"The prediction turned for {changes[0]}{others}.",
            f"Rule: the predicted class changed since the last validation, where its probability was at least "
            f"{CONFIDENT:.0%}. Found: {'; '.join(changes)}.",
            "note",
        )
