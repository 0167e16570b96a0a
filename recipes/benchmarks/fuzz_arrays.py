"""More calls of fuzz.py: functions of games, arrays and tables, which are passed to them directly."""

from __future__ import annotations

from typing import Any

import numpy as np
from fuzz_calls import FLOATS, MODELS, SEEDS, TEXTS, TOKENIZERS, attentions, games, tables
from hypothesis import strategies as st

import lightning_attnflow as lib
from lightning_attnflow import attribution, shapley, valuation
from lightning_attnflow.errors import AttnFlowError


def arrays(*, ndim: int = 1) -> Any:
    """Lists of numbers or of rows, some of them not finite."""
    numbers = st.one_of(FLOATS, FLOATS, st.sampled_from([float("nan"), float("inf"), 1e300]))
    rows = st.lists(numbers, max_size=5)
    return rows.map(np.array) if ndim == 1 else st.lists(rows, max_size=4)


@st.composite
def networks(draw: Any) -> Any:
    """A network of valid attention."""
    while True:
        try:
            return lib.AttentionNetwork.from_attentions(draw(attentions()))
        except AttnFlowError:
            continue


SHARES = st.sampled_from([0.95, 0.5, 0.0, 1.0, -1.0])
LIMITS = st.sampled_from([1, 5, 0, -1, 0.5, 10**30])
MORE_CALLS = {
    "quadrature_shapley": (shapley.quadrature_shapley, {"game": games(), "budget": st.integers(-1, 40), "seed": SEEDS}),
    "audit_axioms": (shapley.audit_axioms, {"game": games(), "values": arrays(), "seed": SEEDS}),
    "is_modular": (shapley.is_modular, {"game": games(), "n_samples": st.integers(-1, 50), "seed": SEEDS}),
    "GroupedGame": (
        shapley.GroupedGame,
        {"game": games(), "groups": st.sampled_from([[[0]], [[0], [1, 2]], [[0, 0]]])},
    ),
    "IntervalBelow": (shapley.IntervalBelow, {"limit": LIMITS, "confidence": SHARES}),
    "MaxEvaluations": (shapley.MaxEvaluations, {"limit": LIMITS}),
    "MaxPermutations": (shapley.MaxPermutations, {"limit": LIMITS}),
    "MaxSeconds": (shapley.MaxSeconds, {"limit": LIMITS}),
    "SignDecided": (shapley.SignDecided, {"tolerance": LIMITS, "confidence": SHARES}),
    "StandardErrorBelow": (shapley.StandardErrorBelow, {"limit": LIMITS}),
    "TopDecided": (shapley.TopDecided, {"k": LIMITS, "confidence": SHARES}),
    "Truncation": (shapley.Truncation, {"tolerance": LIMITS, "patience": LIMITS}),
    "bootstrap_interval": (
        attribution.bootstrap_interval,
        {"samples": arrays(), "confidence": SHARES, "n_resamples": st.integers(-1, 20), "seed": SEEDS},
    ),
    "faithfulness": (
        attribution.faithfulness,
        {"log_probability": games(), "values": arrays(), "fractions": st.lists(SHARES, max_size=3)},
    ),
    "last_layer_with_flow": (
        attribution.last_layer_with_flow,
        {"values": st.one_of(arrays(), st.just(np.eye(3))), "tolerance": SHARES},
    ),
    "attention_rollout": (lib.attention_rollout, {"network": networks(), "layers": st.lists(st.integers(-1, 4))}),
    "check_axioms": (
        attribution.check_axioms,
        {"model": MODELS, "tokenizer": TOKENIZERS, "text": TEXTS}
        | {"method": st.sampled_from(["rollout", "received_attention", "leave_one_out", "x"])},
    ),
    "TokenGame": (attribution.TokenGame, {"model": MODELS, "tokenizer": TOKENIZERS, "text": TEXTS}),
    "colour_tokens": (
        attribution.colour_tokens,
        {"tokens": st.lists(st.text(max_size=4), max_size=4), "values": arrays()},
    ),
    "default_layer": (attribution.default_layer, {"n_layers": st.integers(-1, 30)}),
    "knn_shapley": (valuation.knn_shapley, {"data": tables(), "k": SEEDS}),
    "knn_game": (valuation.knn_game, {"data": tables(), "k": SEEDS}),
    "find_label_errors": (lib.find_label_errors, {"data": tables(), "seed": SEEDS}),
    "FrozenEncoderUtility": (
        valuation.FrozenEncoderUtility,
        {"data": tables(), "metric": st.sampled_from(["accuracy", "log_loss", "auc", "f1", "x"])},
    ),
}
MORE_ARGUMENTS = {
    **dict.fromkeys(("ids", "sample_weight", "lr", "epochs", "scale"), st.none()),
    "caption": st.text(max_size=5),
    "chunk_size": st.integers(-1, 3),
    "class_weight": st.sampled_from([None, "balanced", {0: 1.0}]),
    "is_special": st.sampled_from([None, [True], [True, False]]),
    "l2": st.sampled_from([1.0, 0, -1, 1e300]),
    "layer": st.integers(-1, 4),
    "masking": st.sampled_from([None, "mask", "zero_embedding", "drop", 5, " the"]),
    "n_samples": st.integers(-1, 20),
    "prefixes": st.sampled_from(["updated", "exact"]),
    "task": st.sampled_from(["classification", "multilabel", "regression"]),
    "tolerance": st.sampled_from([1e-9, 0, -1, 1]),
}
