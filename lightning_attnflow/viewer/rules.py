"""What a reader should notice in a run: every rule with its numbers, and nothing on a healthy run."""

from __future__ import annotations

from dataclasses import replace

from lightning_attnflow.viewer.flow_rules import dominating, padding, same_reading, special, uniform
from lightning_attnflow.viewer.prediction_rules import collapsed, flipped, near_chance, unchanged
from lightning_attnflow.viewer.run_log import RunLog
from lightning_attnflow.viewer.verdict import Rule, Verdict

_RULES: tuple[Rule, ...] = (
    padding,
    collapsed,
    uniform,
    dominating,
    special,
    same_reading,
    unchanged,
    near_chance,
    flipped,
)
"""What is observed directly comes before its consequences."""
_CAUSES = {
    "padding": "that padding is not masked",
    "uniform": "the uniform attention",
    "unchanged": "that nothing has changed",
}
"""Findings that explain a consequence below them."""


def find_verdicts(log: RunLog, step: int) -> list[Verdict]:
    """Return the findings at a step, from the records up to it: causes first, then what may follow from them.

    Args:
        log: records of the run.
        step: global step of a validation.

    Returns:
        The findings, none for a healthy run.

    Example:
        >>> from lightning_attnflow.viewer import sentence_record
        >>> words = {"words": ["fine", "film", "[PAD]"], "is_special": [False, False, True]}
        >>> log = RunLog([sentence_record(step=0, name="probe_00", **words, flows={})])
        >>> for verdict in find_verdicts(log, step=0):
        ...     print(verdict.name, "-", verdict.text.split(", in")[0])
        padding - Padding is not masked: 1 of 3 tokens that the model attends to are padding
    """
    sentences = [
        {s: record for s, record in of_step.items() if s <= step}
        for name, of_step in sorted(log.sentences.items())
        if step in of_step
    ]
    steps = {s: record for s, record in log.steps.items() if s <= step}
    found: list[Verdict] = []
    for verdict in (verdict for rule in _RULES for verdict in rule(sentences, steps, step)):
        above = [one.name for one in found]
        if verdict.name == "near_chance" and "collapsed" in above:
            continue
        named = [_CAUSES[name] for name in above if name in _CAUSES]
        causes = f"A likely cause is {named[0]}, see above." if named and verdict.causes else verdict.causes
        found.append(replace(verdict, text=f"{verdict.text} {causes}".strip()))
    return found
