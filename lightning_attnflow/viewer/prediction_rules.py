"""Verdicts about the predictions: the same for every sentence, near chance, turned, or never changed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import fdtri, ndtr, stdtrit

from lightning_attnflow._words import counted
from lightning_attnflow.viewer.record import Record
from lightning_attnflow.viewer.verdict import Sentences, Verdict, classes_of, probability_of, short

UNCHANGED = 1e-3
"""Drift of the flow, and change of the probability, up to which nothing has changed."""
CONFIDENT = 0.8
"""Probability from which a later change of the predicted class is reported."""
SAME_LOG_ODDS = 0.04
"""Largest range of the log odds over the sentences of a collapsed model: 0.01 in probability near 0.5."""
LASTING, FEWEST_SENTENCES, FEWEST_LABELS = 3, 4, 6
"""Number of validations, and of sentences, in which equal predictions are no coincidence; number of labelled sentences
from which predictions that are no better than chance are a warning, and not only a note."""
LEVEL = 0.001
"""Level of the test that predictions differ less than before training."""
HALF_OF_TRAINING, ABOVE_CHANCE, CONFIDENCE = 0.5, 0.1, 0.95
"""From half of the training the mean probability should be, or be on the way to, more than this share of the distance
from chance to certainty; the confidence of the bound that says it is not, and of the test of the labels."""


def collapsed(sentences: Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    """The predictions do not depend on the sentence."""
    odds = {s: found for s in {s for of_step in sentences for s in of_step} if (found := _log_odds(sentences, s))}
    if step not in odds or step == min(odds):
        return
    start, now = odds[min(odds)], odds[step]
    if np.ptp(now) >= SAME_LOG_ODDS:
        return
    last = sorted(s for s in odds if s > min(odds))[-LASTING:]
    is_lasting = len(last) == LASTING and all(np.ptp(odds[s]) < SAME_LOG_ODDS for s in last)
    z, n_labels = _agreement_with_labels(sentences, step)
    has_fallen = np.var(now, ddof=1) < fdtri(len(now) - 1, len(start) - 1, LEVEL) * np.var(start, ddof=1)
    if not has_fallen and not (is_lasting and len(now) >= FEWEST_SENTENCES and ndtr(z) < CONFIDENCE):
        return
    prediction = sentences[0][step]["prediction"]
    yield Verdict(
        "collapsed",
        f"The model predicts the same for every sentence: {prediction['class']} with {probability_of(prediction)}.",
        f"Rule: the log odds of {counted(len(now), 'sentence')} differ by less than {SAME_LOG_ODDS}, and by less than "
        f"at the start (F test of the variances at level {LEVEL}) or, if the labels are not predicted better than by "
        f"chance, in {LASTING} validations in a row. Found: {np.ptp(now):.1e}, {np.ptp(start):.1e} at the start; "
        + _agreement_text(z, n_labels),
        "warning" if has_fallen or n_labels >= FEWEST_LABELS else "note",
        "Training has collapsed; a common cause is a learning rate that is too high."
        if has_fallen
        else "Common causes are weights that are not trained, a learning rate that is too low, and wrong labels.",
    )


def near_chance(sentences: Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:
    """The predictions are near chance in the second half of the training, in two validations in a row."""
    before = max((s for s in steps if s < step), default=0)
    bounds = [_expected_probability(sentences, steps, s) for s in (before, step)]
    if bounds[0] is None or bounds[1] is None:
        return
    z, n_labels = _agreement_with_labels(sentences, step)
    if ndtr(z) >= CONFIDENCE:
        return  # better than chance, although the probabilities are not
    mean, bound, n_classes = bounds[1]
    limit = 1 / n_classes + ABOVE_CHANCE * (1 - 1 / n_classes)
    if max(bounds[0][1], bound) >= limit:
        return
    progress = steps[step]["progress"]
    yield Verdict(
        "near_chance",
        f"The predictions are still near chance after {progress:.0%} of the training: {mean:.0%} on average for "
        f"{counted(n_classes, 'class')}.",
        f"Rule: the mean probability of the predicted class in {counted(len(sentences), 'sentence')}, extrapolated to "
        f"the end of the training, is below {limit:.3f} ({CONFIDENCE:.0%} t bound) in two validations in a row, and "
        f"the labels are not predicted better than by chance (permutation test at level {1 - CONFIDENCE:.2f}). Found: "
        f"at most {bound:.3f}, and {bounds[0][1]:.3f} before; {_agreement_text(z, n_labels)}",
        "warning" if n_labels >= FEWEST_LABELS else "note",
        "Common causes are labels that do not belong to the sentences, a learning rate that is too low, and "
        "too few steps.",
    )


def _log_odds(sentences: Sentences, step: int) -> list[float]:
    """Log odds of the class with the highest mean probability, of distinct sentences; empty for fewer than two."""
    distinct = {tuple(of_step[step]["words"]): classes_of(of_step[step]) for of_step in sentences if step in of_step}
    rows = [classes for classes in distinct.values() if len(classes) >= 2]
    if len(rows) < 2 or any(classes.keys() != rows[0].keys() for classes in rows):
        return []
    best = max(rows[0], key=lambda name: sum(classes[name] for classes in rows))
    others = [sum(value for name, value in classes.items() if name != best) for classes in rows]
    return [float(np.log((row[best] + 1e-30) / (rest + 1e-30))) for row, rest in zip(rows, others, strict=True)]


def _agreement_text(z: float, n_labels: int) -> str:
    return f"z = {round(z, 2) + 0.0:.2f} for the labels of {counted(n_labels, 'sentence')}."  # no -0.00


def _agreement_with_labels(sentences: Sentences, step: int) -> tuple[float, int]:
    """Standard score of the log likelihood of the labels among all their permutations, and the number of labels.

    The mean and the variance over the permutations are exact (Hoeffding, "A combinatorial central limit theorem",
    1951). Zeros if no two labels differ.
    """
    labelled = [of_step[step] for of_step in sentences if of_step[step].get("label") in classes_of(of_step[step])]
    n = len(labelled)
    logs = np.log([[classes_of(one)[other["label"]] + 1e-30 for other in labelled] for one in labelled]).reshape(n, n)
    if len({one["label"] for one in labelled}) < 2:
        return 0.0, 0
    centred = logs - logs.mean(axis=0) - logs.mean(axis=1)[:, None] + logs.mean()
    deviation = np.sqrt((centred**2).sum() / (n - 1))
    return float(np.trace(centred) / max(deviation, 1e-12)), n


def _expected_probability(sentences: Sentences, steps: dict[int, Record], step: int) -> tuple[float, float, int] | None:
    """Mean probability of the predicted classes, its bound at the end of the training, and the number of classes.

    The bound extrapolates the rise since before the training. None before half of the training.
    """
    progress = steps.get(step, {}).get("progress")
    rows = [list(classes_of(of_step[step]).values()) for of_step in sentences if step in of_step]
    if progress is None or progress < HALF_OF_TRAINING or len(rows) < 2 or len({len(row) for row in rows}) != 1:
        return None
    if not rows[0]:  # no probabilities of classes, as for a language model
        return None
    now = np.array(rows).max(axis=1)
    n, n_classes = np.array(rows).shape
    untrained = [max(classes_of(of_step[0]).values(), default=np.nan) for of_step in sentences if 0 in of_step]
    start = float(np.mean(untrained)) if untrained and np.isfinite(untrained).all() else 1 / n_classes
    end = start + (now - start) / progress
    bound = end.mean() + stdtrit(n - 1, CONFIDENCE) * end.std(ddof=1) / np.sqrt(n)
    return (float(now.mean()), float(bound), n_classes) if n_classes > 1 else None


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
            f"{max(drifts):.1e} and {max(changes):.1e} in {counted(len(drifts), 'sentence')}.",
        )


def flipped(sentences: Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    """Confident predictions changed since the last validation."""
    changes, names = [], []
    for of_step in sentences:
        before = [s for s in of_step if s < step]
        if not before or "prediction" not in of_step[step]:
            continue
        old, now = of_step[max(before)].get("prediction"), of_step[step]["prediction"]
        if old and old["class"] != now["class"] and (old["probability"] or 0) >= CONFIDENT:
            changes.append(
                f"“{short(of_step[step]['text'])}” from {old['class']} ({probability_of(old)}) to {now['class']} "
                f"({probability_of(now)})"
            )
            names.append(of_step[step]["name"])
    if changes:
        others = f", and of {len(changes) - 1} more" if len(changes) > 1 else ""
        yield Verdict(
            "flipped",
            f"The prediction turned for {changes[0]}{others}.",
            f"Rule: the predicted class changed since the last validation, where its probability was at least "
            f"{CONFIDENT:.0%}. Found: {'; '.join(changes)}.",
            "note",
            sentence=names[0],
        )
