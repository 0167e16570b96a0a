"""Verdicts about the flow: uniform attention, padding, one token that dominates, two probes that are read alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._words import counted
from lightning_attnflow.viewer.record import Record
from lightning_attnflow.viewer.verdict import (
    Sentences,
    Verdict,
    classes_of,
    flow_shares,
    input_shares,
    layer_list,
    layer_numbers,
    short,
)

UNIFORM_ENTROPY = 0.98
"""Normalised entropy of the attention from which a layer counts as uniform."""
SPECIAL_SHARE = 0.95
"""Share of the flow of a layer from which one special token carries the flow."""
SAME_FLOW, SAME_PROBABILITY = 0.02, 0.01
"""Largest differences of two probes that are read the same way."""
LEADING_SHARE, LONG_SENTENCE, LEVEL = 0.6, 10, 0.05
"""Share of the flow, and number of words of a sentence, from which one word dominates it; level of the test that the
word decides the class."""
FEWEST_WORDS = 3
"""Number of ordinary words from which equal flows of two probes are no coincidence."""


def padding(sentences: Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    """The attention includes padding tokens."""
    found = []
    for of_step in sentences:
        record = of_step[step]
        words = [word.strip("[]<>|").upper() for word in record["words"]]
        pads = sum(bool(flag) and word in ("PAD", "_PAD_") for word, flag in zip(words, record["special"], strict=True))
        if pads:
            found.append((pads, len(words), record["name"]))
    if found:
        n_pads, n_tokens = sum(pads for pads, _, _ in found), sum(n for _, n, _ in found)
        yield Verdict(
            "padding",
            f"Padding is not masked: {n_pads} of {counted(n_tokens, 'token')} that the model attends to are padding, "
            f"in {counted(len(found), 'sentence')}. Pass the attention mask of the tokenizer to the model.",
            "Rule: the attention mask that the model gets includes padding tokens.",
            sentence=max(found)[2],
        )


def uniform(sentences: Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    """The attention of layers became uniform; that of an untrained model may be so before the training."""
    now = layer_numbers(steps, step, "attention_entropy")
    layers = [
        layer
        for layer, entropy in enumerate(now)
        if entropy >= UNIFORM_ENTROPY and not _at(steps, 0, layer) >= UNIFORM_ENTROPY
    ]
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
        f"Attention is uniform in {layer_list([layer + 1 for layer in layers])} {when}.",
        f"Rule: the normalised entropy of the attention is at least {UNIFORM_ENTROPY}. Found: "
        + ", ".join(f"{now[layer]:.3f} in layer {layer + 1}" for layer in layers)
        + ".",
    )


def special(sentences: Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    """One special token carries the flow of half of the layers."""
    shares: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for of_step in sentences:
        record = of_step[step]
        flow = flow_shares(record)
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
                f"{layer_list((layers + 1).tolist())}.",
                f"Rule: at least {SPECIAL_SHARE:.0%}, averaged over {counted(len(rows), 'sentence')}, in half of the "
                "layers below the last one.",
            )


def dominating(sentences: Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    """One word carries the prediction in every long sentence that contains it, and decides the class."""
    if step == 0:
        return
    predicted = [of_step[step]["prediction"]["class"] for of_step in sentences if "prediction" in of_step[step]]
    leading: dict[str, list[float]] = defaultdict(list)
    containing: dict[str, int] = defaultdict(int)
    classes: dict[str, set[str]] = defaultdict(set)
    shown: dict[str, str] = {}
    for of_step in sentences:
        record = of_step[step]
        shares, special = input_shares(record), np.array(record["special"], dtype=bool)
        if shares is None or "prediction" not in record or (~special).sum() < LONG_SENTENCE:
            continue
        for word in {word.lower() for word in record["words"]}:
            containing[word] += 1
        index = int(shares.argmax())
        if shares[index] >= LEADING_SHARE and not special[index]:
            word = record["words"][index].lower()
            leading[word].append(float(shares[index]))
            classes[word].add(record["prediction"]["class"])
            shown.setdefault(word, record["name"])
    for word, found in leading.items():
        if len(found) != containing[word] or len(classes[word]) != 1:
            continue
        (name,) = classes[word]
        # probability that as many sentences, drawn at random, are all predicted as this class
        p_value = comb(predicted.count(name), len(found)) / comb(len(predicted), len(found))
        if p_value <= LEVEL:
            yield Verdict(
                "one_word",
                f"“{short(word)}” alone carries the prediction {name} in all "
                f"{len(found)} long sentences that contain it. It may be an artefact of the data.",
                f"Rule: at least {LEADING_SHARE:.0%} of the flow in every sentence of {LONG_SENTENCE} words or more "
                f"that contains the word, all predicted as one class (Fisher's exact test against all "
                f"{counted(len(predicted), 'sentence')} at level {LEVEL}). Found: "
                f"{', '.join(f'{share:.0%}' for share in found)}; p = {p_value:.4f}.",
                sentence=shown[word],
            )


def same_reading(sentences: Sentences, steps: dict[int, Record], step: int) -> Iterator[Verdict]:  # noqa: ARG001
    """Two probes have the same flow and the same prediction."""
    if step == 0:
        return
    probes = [of_step[step] for of_step in sentences if of_step[step]["name"].startswith("probe")]
    for one, other in combinations(probes, 2):
        flows = input_shares(one), input_shares(other)
        if one["words"] == other["words"] or flows[0] is None or flows[1] is None:
            continue
        if min(record["special"].count(0) for record in (one, other)) < FEWEST_WORDS:
            continue
        classes = classes_of(one), classes_of(other)
        if flows[0].shape != flows[1].shape or not classes[0] or classes[0].keys() != classes[1].keys():
            continue
        distance = float(np.abs(flows[0] - flows[1]).sum() / 2)
        change = max(abs(classes[0][name] - classes[1][name]) for name in classes[0])
        if distance <= SAME_FLOW and change <= SAME_PROBABILITY:
            yield Verdict(
                "same_reading",
                f"The model reads “{short(one['text'])}” and “{short(other['text'])}” the same way.",
                f"Rule: flows at most {SAME_FLOW} and probabilities at most {SAME_PROBABILITY} apart. Found: "
                f"{distance:.4f} and {change:.4f}.",
                sentence=one["name"],
            )


def _at(steps: dict[int, Record], step: int, layer: int) -> float:
    values = layer_numbers(steps, step, "attention_entropy")
    return values[layer] if layer < len(values) else float("nan")
