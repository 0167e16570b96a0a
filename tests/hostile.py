"""Texts that break careless pages and tables, and a result of every kind that contains them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lightning_attnflow import AttentionFlowMonitor, AttentionNetwork
from lightning_attnflow._files import write_text
from lightning_attnflow.attention.players import Players
from lightning_attnflow.attribution import TokenAttribution, tokens_html
from lightning_attnflow.flow import AttentionFlow, attention_flow
from lightning_attnflow.flow.conductance import ConductanceFlow
from lightning_attnflow.valuation import LabelErrors, Ranking, TrainingDynamics
from lightning_attnflow.viewer.record import FlowPart, Prediction, sentence_record, step_record
from lightning_attnflow.viewer.run_log import RunLog

HOSTILE_TEXTS = [
    "</script><script>alert(1)</script>",
    "\"'><img src=http://x.test/a.png onerror=alert(1)>",
    "\u202eevil\u202c \u2066isolated\u2069",  # changes the direction of the text after it
    "zero\u200bwidth\ufeff and\u2028lines\nnew | cell",
    "x" * 5000,
    "[link](http://x.test) ![image](http://x.test/a.png) [ref][1] <b>bold</b> **b** `code` # head ~~cut~~ &lt; \\",
]
HOSTILE = (
    '</script></title><script>document.title="executed"</script><img src=http://x.test/a.png onerror=alert(1)>"\'&'
)


def attribution(text: str = "fine") -> TokenAttribution:
    return TokenAttribution((text, "film"), np.array([0.5, -0.1]), "leave_one_out", ((1,), (2,)), text=f"{text} film")


def label_errors(text: str = "fine") -> LabelErrors:
    return LabelErrors(np.array([0.9, 0.1]), labels=(text, "neg"), suggested=("pos", text), texts=(text, "film"))


def ranking(text: str = "fine") -> Ranking:
    return Ranking.of(np.array([0.5, -0.1]), texts=[text, "film"], labels=[text, "neg"], ids=[text, "b"])


def conductance(text: str = "fine") -> ConductanceFlow:
    return ConductanceFlow(
        values=np.array([[0.5, -0.25], [0.75, -0.5]]),
        total=0.25,
        n_steps=8,
        tolerance=0.01,
        tokens=(text, "film"),
        is_special=np.array([False, False]),
        target=1,
        text=f"{text} film",
        target_name=text,
        edges_or_none=np.full((1, 2, 2), 0.1),
    )


def attention_flow_of(text: str) -> tuple[AttentionNetwork, AttentionFlow, Players]:
    network = AttentionNetwork.from_attentions(np.full((2, 1, 2, 2), 0.5))
    marks = np.array([False, False])
    players = Players(
        names=(text, "film"),
        positions=((0,), (1,)),
        is_special=marks,
        kind="tokens",
        special_tokens="players",
        text=f"{text} film",
    )
    return network, attention_flow(network, groups=players.positions), players


def dynamics(text: str) -> TrainingDynamics:
    given = {"margin": np.array([[1.0, -1.0], [2.0, -2.0]]), "labels": [0, 1], "prediction": [[0, 0], [0, 0]]}
    return TrainingDynamics.of(**given, texts=(text, "film"), classes=(text, "neg"))


def monitored(text: str) -> AttentionFlowMonitor:
    monitor = AttentionFlowMonitor()
    verdict = {"name": "flipped", "text": text, "rule": text, "level": "note"}
    records = [step_record(step=s, epoch=0, scalars={"drift": 0.1}, layers={}, verdicts=[verdict]) for s in (0, 1)]
    flows = {
        "conductance": FlowPart(np.array([[0.5, 0.5], [0.25, 0.75]]), signed=True, unit=text, total=1.0, target=text)
    }
    shown = {"words": (text, "film"), "is_special": [False, False], "text": f"{text} film", "label": text}
    prediction = Prediction(text, 0.5, {text: 0.5, "other": 0.5})
    for step in (0, 1):
        numbers = {"numbers": {}, "flows": flows, "prediction": prediction}
        records.append(sentence_record(step=step, name="probe_00", **shown, **numbers))
    monitor._recorder.log = RunLog(records)
    return monitor


def pages(text: str = "fine") -> dict[str, Callable[[Path], object]]:
    """Functions that write each kind of page."""
    attentions = np.full((2, 1, 2, 2), 0.5)
    flow = attention_flow(AttentionNetwork.from_attentions(attentions)).with_labels((text, "film"))
    return {
        "flow.html": flow.to_html,
        "conductance.html": lambda path: conductance(text).to_html(path, class_names=(text, "neg")),
        "dynamics.html": lambda path: dynamics(text).to_html(path, title=text, note=text),
        "monitor.html": lambda path: monitored(text).to_html(path),
        "attribution.html": attribution(text).to_html,
        "ranking.html": lambda path: ranking(text).to_html(path, title=text, note=text),
        "errors.html": lambda path: label_errors(text).to_html(path, title=text, note=text),
        "tokens.html": lambda path: write_text(path, tokens_html(attribution(text), title=text)),
    }
