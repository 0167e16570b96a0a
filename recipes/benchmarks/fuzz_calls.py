"""The calls of fuzz.py that take a model, a text or attention, and the values of optional arguments of all calls."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from fuzz_models import classifier, tokenizer
from fuzz_values import (
    MODELS,
    PLAIN_TEXTS,
    SEEDS,
    TEXTS,
    TOKENIZERS,
    Call,
    attentions,
    mostly,
    networks,
    optional,
    whole,
)
from hypothesis import strategies as st

import lightning_attnflow as lib
from lightning_attnflow import attribution
from lightning_attnflow.attribution import explain_all
from lightning_attnflow.flow import FlowGame
from lightning_attnflow.plots import sentence_flow

METHODS = ("flow", "rollout", "leave_one_out", "shapley", "kernel_shap", "gradient_flow", "received_attention")
PLAYERS = mostly(["tokens", "words"], [(0, 4)], [(0, 1), (1, 9)], "sentences")
_TEXT = {"model": MODELS, "tokenizer": TOKENIZERS, "text": TEXTS}
_NETWORK = {
    "heads": mostly(["mean", "max", 0], 1, 7),
    "residual": mostly([0.5, 0, 0.99], 1, -1),
    "readout": mostly(["first", "last", "mean", 0], 9),
}
_FLOW = {
    "method": st.sampled_from(["shapley", "pairwise", "single", "rollout"]),
    "layers": mostly([None, [0], [1, 0]], [4], [-1], []),
    "tolerance": mostly([0.1, 0.01], 0),
    "game": st.sampled_from(["source", "through"]),
    "seed": SEEDS,
}


def _flow_of(attentions: Any, drawn: dict[str, Any], **more: Any) -> Any:
    of_network = {name: value for name, value in {**drawn, **more}.items() if name in ("mask", *_NETWORK)}
    network = lib.AttentionNetwork.from_attentions(attentions, **of_network)
    return lib.attention_flow(
        network, **{name: value for name, value in {**drawn, **more}.items() if name not in of_network}
    )


def _sentence(network: dict[str, Any], game: dict[str, Any], **arguments: Any) -> Any:
    sentence = attribution.Sentence(**arguments)
    fixed = attribution.fix_ends(sentence.encoded)
    sentence.network(**network)
    return fixed, sentence.game(**game), sentence.of_encoded(fixed).groups("present")


def _own_method(text: Any, scale: Any) -> Any:
    @attribution.register_method("fuzz_own")
    def own(sentence: Any, *, scale: float = 1.0) -> Any:
        return sentence.by_position([scale] * len(sentence.encoded), "fuzz_own", "present")

    try:
        return lib.explain(classifier(), tokenizer(), text, method="fuzz_own", scale=scale)
    finally:
        del attribution.METHODS["fuzz_own"]


def _agreement(text: Any, methods: Any, players: Any, absolute: Any) -> Any:
    one, two = (lib.explain(classifier(), tokenizer(), text, method=name, players=players) for name in methods)
    return attribution.agreement(one, two, absolute=absolute)


def _inputs(ids: list[int]) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([ids])}


CALLS: dict[str, Call] = {
    "attention_flow": Call(
        _flow_of,
        {"attentions": attentions(), "drawn": optional(**_NETWORK, **_FLOW)},
        ("mask", "heads", "residual", "readout", "method", "solver", "groups", "layers", "tolerance"),
    ),
    "AttentionNetwork": Call(
        lib.AttentionNetwork.from_attentions, {"attentions": attentions(), "readout": st.just("first")}
    ),
    "attention_rollout": Call(
        lib.attention_rollout, {"network": networks(), "layers": mostly([None, [0], [1, 0]], [4], [-1], [])}
    ),
    "FlowGame": Call(FlowGame, {"network": networks(), "layer": mostly([0, 1], -1, 9)}),
    "explain": Call(
        lib.explain,
        _TEXT | {"method": st.sampled_from(METHODS), "players": PLAYERS, "seed": SEEDS, "truncate": st.booleans()},
    ),
    "explain with options": Call(
        lib.explain,
        _TEXT
        | {
            "method": st.just("leave_one_out"),
            "target": mostly([None, 0, 1], 5, "film", (0, 1)),
            "payoff": mostly(["log_probability", "logit_margin", "correctness", "negative_entropy"], "x"),
            "masking": mostly([None, "mask", "zero_embedding", 5], "drop", " the"),
            "special_tokens": mostly([None, "present", "players"], "x"),
            "batch_size": mostly([1, 2, 4], 0),
        },
    ),
    "Sentence": Call(
        _sentence,
        {"network": optional(**_NETWORK), "game": optional(masking=mostly(["mask", 5], "drop"))} | _TEXT,
        ("model", "tokenizer", "text", "players", "special_tokens", "truncate", "seed"),
    ),
    "register_method": Call(_own_method, {"text": TEXTS, "scale": st.just(2.0)}, ("text",)),
    "agreement": Call(
        _agreement,
        {"text": TEXTS, "methods": st.tuples(st.sampled_from(METHODS), st.sampled_from(METHODS))}
        | {"players": st.sampled_from(["tokens", "words"]), "absolute": st.booleans()},
        ("text", "players", "absolute"),
    ),
    "conductance_flow": Call(
        lib.conductance_flow,
        _TEXT | {"max_steps": whole(2, 8), "tolerance": st.just(100.0), "path": st.sampled_from([None, "straight"])},
    ),
    "conductance_flows": Call(
        attribution.conductance_flows,
        {"model": MODELS, "tokenizer": TOKENIZERS, "texts": mostly([["fine film"], ["not bad", "a fine film"]], [], 5)}
        | {"max_steps": whole(2, 8), "tolerance": st.just(100.0)},
    ),
    "explain_all": Call(explain_all, _TEXT | {"methods": st.lists(st.sampled_from(METHODS), min_size=1, max_size=2)}),
    "compare_groupings": Call(
        attribution.compare_groupings,
        _TEXT | {"method": mostly(["flow", "leave_one_out"], "rollout"), "players": PLAYERS},
    ),
    "check_axioms": Call(
        attribution.check_axioms, _TEXT | {"method": mostly(["rollout", "received_attention", "leave_one_out"], "x")}
    ),
    "TokenGame": Call(attribution.TokenGame, _TEXT),
    "sentence_flow": Call(sentence_flow, _TEXT | {"players": PLAYERS, "residual": mostly([0.5, 0.0], 1.0)}),
    "capture_attention": Call(
        lib.capture_attention,
        {
            "model": MODELS,
            "inputs": st.lists(whole(0, 17), min_size=1, max_size=5).map(_inputs),
        },
    ),
    "AttentionFlowMonitor": Call(
        lib.AttentionFlowMonitor,
        {
            "tokenizer": TOKENIZERS,
            "probes": st.lists(PLAIN_TEXTS, min_size=1, max_size=2),
            "max_sentences": mostly([1, 3], 0, -1),
        },
    ),
    "TrainingDynamicsMonitor": Call(
        lib.TrainingDynamicsMonitor,
        {"index": st.sampled_from([None, "index"]), "task": mostly(["auto", "classification"], "one_class", "x")},
    ),
}
ARGUMENTS = {  # of functions of the package: values of the arguments that have none above, by name
    **dict.fromkeys(("labels", "outputs", "inputs", "stop", "cache_dir", "truncation"), st.none()),
    **dict.fromkeys(("ids", "texts", "rows", "sample_weight", "lr", "epochs", "scale", "trainer"), st.none()),
    **dict.fromkeys(("collate_fn", "predict", "ax", "bounds"), st.none()),
    **dict.fromkeys(("edges", "truncate", "antithetic", "words", "check", "audit", "shared_scale"), st.booleans()),
    **dict.fromkeys(("batch_size", "every_n_validations", "every_n_epochs", "n_suspicious"), mostly([1, 2, 3], 0, -1)),
    **dict.fromkeys(("n_samples", "n_resamples", "chunk_size", "training_seeds"), mostly([1, 2, 20], 0, -1)),
    **dict.fromkeys(("text_column", "label_column"), mostly(["text", "label"], "x")),
    **dict.fromkeys(("title", "caption", "subtitle", "note"), st.text(max_size=5)),
    "baseline": mostly([None, "mask", 5, [5, 6]], "zero_embedding", " the"),
    "class_weight": mostly([None, "balanced"], {0: 1.0}),
    "classes": mostly([None], ("a", "b")),
    "error": st.none(),
    "fields": st.none(),
    "flow": st.sampled_from(["both", "conductance", "attention"]),
    "game": st.sampled_from(["source", "through"]),
    "groups": mostly([None], [[0]], [[0], [1, 2]]),
    "heads": mostly(["mean", "max", 0], 7),
    "is_special": mostly([None], [True], [True, False]),
    "l2": mostly([1.0, 0.1], 0, -1, 1e300),
    "layer": mostly([0, 1], -1, 4),
    "layers": mostly([None, [0], [1, 0]], [-1], []),
    "mask": mostly([None], [True], [True, False, True]),
    "masking": mostly([None, "mask", "zero_embedding", 5], "drop", " the"),
    "max_edges": mostly([80_000, 2], 0, -1),
    "max_length": mostly([16, 32], 1, 128, 10**6),
    "max_overhead": mostly([None, 0.1], 0, 1),
    "method": mostly(["shapley", "pairwise", "single"], "rollout"),
    "metric": mostly(["accuracy", "log_loss"], "auc", "f1", "x"),
    "model": mostly([None, "net"], "net.x"),
    "name": mostly(["", "a"], "a/b"),
    "on_error": st.sampled_from(["warn", "raise"]),
    "path": st.sampled_from([None, "straight", "coalitions"]),
    "payoff": st.sampled_from(["probability", "logit_margin", "correctness"]),
    "players": PLAYERS,
    "pooling": mostly(["mean", "first"], "last"),
    "prefixes": st.sampled_from(["updated", "exact"]),
    "probes": st.lists(PLAIN_TEXTS, max_size=2),
    "readout": mostly(["auto", "first", "last", "mean", 0], 9),
    "residual": mostly([0.5, 0], 1, -1),
    "scalars": st.sampled_from(["run", "layers"]),
    "seed": SEEDS,
    "solver": mostly(["native", "scipy"], "x"),
    "special_tokens": mostly([None, "present", "players"], "x"),
    "target": mostly([None, 0, 1], 5, "film", (0, 1)),
    "targets": mostly([None], [0], [None, 1], ["film"]),
    "task": mostly(["classification"], "multilabel", "regression"),
    "tokenizer": mostly([None], ""),
    "verdicts": mostly([[]], [{"name": "x"}], ["x"]),
    "tolerance": mostly([1e-9, 1e-3], 0, -1, 1),
}


def other_arguments(call: Call) -> list[str]:
    """Return the arguments of a function of the package that have no values in ``Call.arguments``."""
    if not call.function.__module__.startswith("lightning_attnflow"):
        return []  # written here, with all its arguments
    parameters = inspect.signature(call.function).parameters.values()
    names = [one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    return [one for one in names if one not in (*call.arguments, *call.data)]
