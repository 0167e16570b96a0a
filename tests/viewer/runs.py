"""Records of two small runs with known numbers."""

from __future__ import annotations

import numpy as np

from lightning_attnflow.viewer.record import FlowPart, Prediction, Record, sentence_record, step_record
from lightning_attnflow.viewer.run_log import RunLog

WORDS = ("[CLS]", "not", "a", "<b>bad</b>", "film", "[SEP]")
N_LAYERS, N_HEADS = 3, 2


def heads(run: int, sentence: int, step: int) -> np.ndarray:
    """Attention (L, H, n, n) in steps of 1/255, as it is stored."""
    weights = np.random.default_rng([run, sentence, step, 1]).dirichlet(
        np.ones(len(WORDS)), (N_LAYERS, N_HEADS, len(WORDS))
    )
    return np.rint(255 * weights) / 255


def values(run: int, sentence: int, step: int) -> np.ndarray:
    """Conductance (L + 1, n) with a sum of 1 in every layer."""
    random = np.random.default_rng([run, sentence, step]).normal(size=(N_LAYERS + 1, len(WORDS)))
    return random + (1 - random.sum(axis=1, keepdims=True)) / len(WORDS)


def sentence(run: int, number: int, step: int) -> Record:
    conductance, n = values(run, number, step), len(WORDS)
    attention = np.full((N_LAYERS, n, n), 1 / n)
    share = np.full((N_LAYERS + 1, n), 1 / n)
    wide = np.array([True, False, False, False])[:, None]
    probability = 0.9 if step < 20 else 0.6
    name = "negative" if step < 20 or number else "positive"
    return sentence_record(
        step=step,
        name=f"probe_{number:02d}",
        words=WORDS,
        is_special=[True, *[False] * (n - 2), True],
        text=f"not a <b>bad</b> film {number}",
        label="negative",
        prediction=Prediction(name, probability, {name: probability, "other": 1 - probability}),
        numbers={"drift": 0.1, "drift_from_start": 0.1 * step / 10},
        flows={
            "conductance": FlowPart(
                conductance,
                signed=True,
                unit="log probability",
                edges=attention * conductance[1:, :, None],
                error=[0.001] * (N_LAYERS + 1),
                total=1.0,
                target=name,
            ),
            "attention_flow": FlowPart(
                share,
                lower=np.where(wide, 0.0, share),
                upper=np.where(wide, 1.0, share),
                saturation=[0.0, 0.9, 0.0, 0.0],
            ),
            "rollout": FlowPart(share),
            "attention": FlowPart(share, edges=attention, heads=heads(run, number, step) if number == 0 else None),
        },
    )


def run_log(run: int, steps: tuple[int, ...] = (0, 10, 20)) -> RunLog:
    verdict = {"name": "flipped", "text": "The prediction turned.", "rule": "Rule: it changed.", "level": "note"}
    verdict["sentence"] = "probe_01"
    records = [
        step_record(
            step=step,
            epoch=step // 10,
            scalars={"drift": 0.1 * step, "special_share": 0.25},
            layers={"special_share": [0.1, 0.2, 0.3, 1.0]},
            verdicts=[verdict] if step == 20 else [],
        )
        for step in steps
    ]
    return RunLog(records + [sentence(run, number, step) for step in steps for number in (0, 1)])
