"""What a reader should notice in a run: every rule with its numbers, and nothing on a healthy run."""

from __future__ import annotations

from lightning_attnflow.viewer.flow_rules import dominating, padding, same_reading, special, uniform
from lightning_attnflow.viewer.prediction_rules import collapsed, flipped, near_chance, unchanged
from lightning_attnflow.viewer.run_log import RunLog
from lightning_attnflow.viewer.verdict import Rule, Verdict

_RULES: tuple[Rule, ...] = (
    collapsed,
    near_chance,
    padding,
    uniform,
    unchanged,
    special,
    dominating,
    same_reading,
    flipped,
)


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
