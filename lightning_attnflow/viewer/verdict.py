"""What a reader should notice in a run, in words: each rule with its numbers, and nothing on a healthy run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.viewer.record import Record, unpack
from lightning_attnflow.viewer.run_log import RunLog

UNIFORM_ENTROPY = 0.98
"""Normalised entropy of the attention from which a layer counts as uniform."""
UNCHANGED = 1e-3
"""Drift of the flow, and change of the probability, up to which nothing has changed."""
SPECIAL_SHARE = 0.95
"""Share of the flow of a layer from which one special token carries the flow."""
SAME_FLOW, SAME_PROBABILITY = 0.02, 0.01
"""Largest differences of two probes that are read the same way."""
CONFIDENT = 0.8
"""Probability from which a later change of the predicted class is reported."""
SAME_PREDICTIONS = 0.01
"""Largest spread of the probabilities over the sentences of a collapsed model."""
LEADING_SHARE, LEADING_SENTENCES, LONG_SENTENCE = 0.6, 2, 10
"""Share of the flow, number of sentences, and number of words of these, from which one word dominates a run."""
HALF_OF_TRAINING, NEAR_CHANCE = 0.5, 0.1
"""Share of the training after which the mean probability should be this far above chance."""


@dataclass(frozen=True)
class Verdict:
    """One finding.

    Attributes:
        name: of the rule, such as ``collapsed``.
        text: the finding in one sentence.
        rule: the rule with its threshold and the numbers found.
        level: ``warning`` or ``note``.
    """

    name: str
    text: str
    rule: str
    level: str = "warning"

    def to_json(self) -> Record:
        """Return the JSON values."""
        return asdict(self)


def find_verdicts(log: RunLog, step: int) -> list[Verdict]:
    """Return the findings at a step, from the records up to it.

    Args:
        log: records of the run.
        step: global step of a validation.
    """
    sentences = [
        {s: record for s, record in of_step.items() if s <= step}
        for name, of_step in sorted(log.sentences.items())
        if step in of_step
    ]
    steps = {s: record for s, record in log.steps.items() if s <= step}
    found = [verdict for rule in _RULES for verdict in rule(sentences, steps, step)]
    has_collapsed = any(verdict.name == "collapsed" for verdict in found)
    return [verdict for verdict in found if not (has_collapsed and verdict.name == "near_chance")]


_Sentences = Sequence[dict[int, Record]]
_Rule = Callable[[_Sentences, dict[int, Record], int], Iterator[Verdict]]


def _uniform(sentences: _Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    now = _numbers(steps, step, "attention_entropy")
    layers = [layer for layer, entropy in enumerate(now) if entropy >= UNIFORM_ENTROPY]
    if not layers:
        return
    since = step
    for earlier in sorted(steps, reverse=True):
        if not all(_at(steps, earlier, layer) >= UNIFORM_ENTROPY for layer in layers):
            break
        since = earlier
    when = "since the start" if since == min(steps) else f"since step {since}"
    yield Verdict(
        "uniform",
        f"Attention is uniform in {_layer_list([layer + 1 for layer in layers])} {when}.",
        f"Rule: the normalised entropy of the attention is at least {UNIFORM_ENTROPY}. Found: "
        + ", ".join(f"{now[layer]:.3f} in layer {layer + 1}" for layer in layers)
        + ".",
    )


def _unchanged(sentences: _Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    drifts, changes = [], []
    for of_step in sentences:
        first = min(of_step)
        drift = of_step[step]["numbers"].get("drift_from_start")
        if first == step or drift is None:
            continue
        drifts.append(drift)
        before, now = _classes(of_step[first]), _classes(of_step[step])
        changes += [abs(now[name] - before[name]) for name in now if name in before]
    if drifts and changes and max(drifts) <= UNCHANGED and max(changes) <= UNCHANGED:
        yield Verdict(
            "unchanged",
            "Nothing has changed since the start: neither the predictions nor the flow.",
            f"Rule: no sentence drifted and no probability changed by more than {UNCHANGED}. Found: at most "
            f"{max(drifts):.1e} and {max(changes):.1e} in {len(drifts)} sentences.",
        )


def _special(sentences: _Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    shares: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for of_step in sentences:
        record = of_step[step]
        flow = _flow_shares(record)
        if flow is None or len(flow) < 3:
            continue
        for index in np.flatnonzero(record["special"]):
            shares[record["words"][index]].append(flow[1:-1, index])  # the readout row always holds one token
    for word, rows in shares.items():
        if len({len(row) for row in rows}) != 1 or len(rows) < len(sentences):
            continue
        mean = np.mean(rows, axis=0)
        layers = np.flatnonzero(mean >= SPECIAL_SHARE)
        if 2 * len(layers) >= len(mean):
            yield Verdict(
                "special_token",
                f"{word} alone carries {mean[layers].min():.0%} or more of the flow in "
                f"{_layer_list((layers + 1).tolist())}.",
                f"Rule: at least {SPECIAL_SHARE:.0%}, averaged over {len(rows)} sentences, in half of the layers below "
                "the last one.",
            )


def _same_reading(sentences: _Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    if step == 0:
        return
    probes = [of_step[step] for of_step in sentences if of_step[step]["name"].startswith("probe")]
    for one, other in combinations(probes, 2):
        flows = _input_shares(one), _input_shares(other)
        if one["words"] == other["words"] or flows[0] is None or flows[1] is None:
            continue
        if flows[0].shape != flows[1].shape or not _classes(one) or _classes(one).keys() != _classes(other).keys():
            continue
        distance = float(np.abs(flows[0] - flows[1]).sum() / 2)
        change = max(abs(_classes(one)[name] - _classes(other)[name]) for name in _classes(one))
        if distance <= SAME_FLOW and change <= SAME_PROBABILITY:
            yield Verdict(
                "same_reading",
                f"The model reads “{_short(one['text'])}” and “{_short(other['text'])}” the same way.",
                f"Rule: flows at most {SAME_FLOW} and probabilities at most {SAME_PROBABILITY} apart. Found: "
                f"{distance:.4f} and {change:.4f}.",
            )


def _flipped(sentences: _Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    changes = []
    for of_step in sentences:
        before = [s for s in of_step if s < step]
        if not before or "prediction" not in of_step[step]:
            continue
        old, now = of_step[max(before)].get("prediction"), of_step[step]["prediction"]
        if old and old["class"] != now["class"] and (old["probability"] or 0) >= CONFIDENT:
            changes.append(
                f"“{_short(of_step[step]['text'])}” from {old['class']} ({old['probability']:.0%}) to {now['class']} "
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


def _collapsed(sentences: _Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    spreads = {}
    for s in sorted({s for of_step in sentences for s in of_step}):
        distinct = {tuple(of_step[s]["words"]): _classes(of_step[s]) for of_step in sentences if s in of_step}
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


def _padding(sentences: _Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    found = []
    for of_step in sentences:
        record = of_step[step]
        words = [word.strip("[]<>|").upper() for word in record["words"]]
        padding = [index for index, word in enumerate(words) if record["special"][index] and word in ("PAD", "_PAD_")]
        if padding:
            found.append((len(padding), len(words)))
    if found:
        pads, tokens = (sum(column) for column in zip(*found, strict=True))
        yield Verdict(
            "padding",
            f"Padding is not masked: {pads} of {tokens} tokens that the model attends to are padding, in {len(found)} "
            "sentences.",
            "Rule: the attention mask that the model gets includes padding tokens. Pass the attention mask of the "
            "tokenizer to the model.",
        )


def _dominating(sentences: _Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    if step == 0:
        return
    leading: dict[str, list[float]] = defaultdict(list)
    containing: dict[str, int] = defaultdict(int)
    classes: dict[str, set[str]] = defaultdict(set)
    for of_step in sentences:
        record = of_step[step]
        shares, special = _input_shares(record), np.array(record["special"], dtype=bool)
        if shares is None or "prediction" not in record or (~special).sum() < LONG_SENTENCE:
            continue
        for word in {word.lower() for word in record["words"]}:
            containing[word] += 1
        index = int(shares.argmax())
        if shares[index] >= LEADING_SHARE and not special[index]:
            word = record["words"][index].lower()
            leading[word].append(float(shares[index]))
            classes[word].add(record["prediction"]["class"])
    for word, found in leading.items():
        if len(found) >= LEADING_SENTENCES and len(found) == containing[word] and len(classes[word]) == 1:
            yield Verdict(
                "one_word",
                f"“{_short(word)}” alone carries the prediction {next(iter(classes[word]))} in all {len(found)} long "
                "sentences that contain it.",
                f"Rule: at least {LEADING_SHARE:.0%} of the flow in every sentence of {LONG_SENTENCE} words or more, "
                f"at least {LEADING_SENTENCES}, with the same prediction. Found: "
                f"{', '.join(f'{share:.0%}' for share in found)}.",
            )


def _near_chance(sentences: _Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:
    progress = steps.get(step, {}).get("progress")
    if progress is None or progress < HALF_OF_TRAINING:
        return
    rows = [list(_classes(of_step[step]).values()) for of_step in sentences]
    if len(rows) < 2 or len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        return
    mean, n_classes = float(np.max(rows, axis=1).mean()), len(rows[0])
    if mean <= 1 / n_classes + NEAR_CHANCE:
        yield Verdict(
            "near_chance",
            f"The predictions are still near chance after {progress:.0%} of the training: {mean:.0%} on average for "
            f"{n_classes} classes. Check the labels.",
            f"Rule: after {HALF_OF_TRAINING:.0%} of the training, the mean probability of the predicted class is at "
            f"most {NEAR_CHANCE} above 1/{n_classes}, in {len(rows)} sentences.",
        )


_RULES: tuple[_Rule, ...] = (
    _collapsed,
    _near_chance,
    _padding,
    _uniform,
    _unchanged,
    _special,
    _dominating,
    _same_reading,
    _flipped,
)


def _numbers(steps: dict[int, Record], step: int, name: str) -> list[float]:
    """Numbers of all layers at a step; NaN where there is none."""
    values = steps.get(step, {}).get("layers", {}).get(name, [])
    return [float("nan") if value is None else float(value) for value in values]


def _at(steps: dict[int, Record], step: int, layer: int) -> float:
    values = _numbers(steps, step, "attention_entropy")
    return values[layer] if layer < len(values) else float("nan")


def _classes(record: Record) -> dict[str, Any]:
    """Probabilities of the classes by name."""
    classes: dict[str, Any] = (record.get("prediction") or {}).get("classes") or {}
    return classes


def _flow_shares(record: Record) -> NDArray[np.float64] | None:
    """Shares (rows, n) of the words in the conductance of every layer; None without conductance or any flow."""
    flow = record["flows"].get("conductance")
    if flow is None:
        return None
    strength = np.abs(unpack(flow["values"]).astype(np.float64))
    whole = strength.sum(axis=1, keepdims=True)
    return strength / whole if whole.all() else None


def _input_shares(record: Record) -> NDArray[np.float64] | None:
    shares = _flow_shares(record)
    return None if shares is None else shares[0]


def _layer_list(layers: Sequence[int]) -> str:
    """The layers in words: "layer 2", "layers 1 to 3" or "layers 1, 3"."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layers {', '.join(map(str, layers))}"


def _short(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
