"""The calls of fuzz.py: functions of the public API, valid arguments, and hostile values that replace them."""

from __future__ import annotations

import contextlib
import inspect
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz_models import WORDS, classifier, language_model, tokenizer
from hypothesis import strategies as st

import lightning_attnflow as lib
from lightning_attnflow import shapley, valuation
from lightning_attnflow.attribution import TokenAttribution, compare_groupings, conductance_flows, explain_all
from lightning_attnflow.cli import main as command_line
from lightning_attnflow.flow import AttentionFlow
from lightning_attnflow.plots import sentence_flow
from lightning_attnflow.viewer import read_runs

METHODS = ("flow", "rollout", "leave_one_out", "shapley", "kernel_shap", "gradient_flow", "received_attention")

HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [-1, 0, 1, 2, 3, -(10**20), 0.5, -0.5, float("nan"), float("inf"), 1e-320, b"x", "", "x", "\ud800"]
    ),
    st.text(max_size=5),
    st.builds(object),
    st.lists(st.sampled_from([0, 1, "a", None, 0.5, []]), max_size=3),
    st.dictionaries(st.sampled_from(["a", 0]), st.integers(0, 2), max_size=2),
    st.sampled_from(
        [np.zeros((0, 2)), np.array("x"), np.ones(3, dtype=complex), np.array([None, 1]), torch.ones(2, 2)]
    ),
)
TEXTS = st.one_of(
    st.lists(st.sampled_from(WORDS[5:]), min_size=1, max_size=6).map(" ".join),
    st.text(max_size=12),
    st.sampled_from(
        ["", " ", "[CLS] fine [SEP]", "\ud83d", "好 😀 עברית", "a\x00b", "e\u0301", "\u200b", "fine " * 50]
    ),
    st.lists(st.integers(-1, 20), max_size=6),
    st.just([{"role": "user", "content": "fine"}]),
)


MODELS = st.sampled_from([0, 0, 0, 1]).map(lambda kind: (language_model if kind else classifier)())
TOKENIZERS = st.booleans().map(lambda template: tokenizer(template=template))
SEEDS = st.integers(0, 3)
FLOATS = st.floats(-2, 2, width=32)


@st.composite
def games(draw: Any) -> Any:
    """A game of up to five players, which may raise, return NaN or a wrong shape."""
    n = draw(st.integers(1, 5))
    weights = np.array(draw(st.lists(FLOATS, min_size=n, max_size=n)))
    kind = draw(st.sampled_from(["good"] * 6 + ["nan", "shape", "raise", "text"]))

    def payoff(coalitions: Any) -> Any:
        if kind == "raise":
            raise KeyError("user")
        values = (coalitions @ weights) ** 2
        return {"nan": values * np.nan, "shape": values[:-1], "text": ["x"] * len(values)}.get(kind, values)

    return shapley.FunctionGame(payoff, n)


@st.composite
def attentions(draw: Any) -> Any:
    """Attention of up to three layers, some of it no probabilities."""
    layers, heads, length = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 5))
    array = np.random.default_rng(draw(st.integers(0, 10**6))).random((layers, heads, length, length))
    scale = draw(st.sampled_from(["rows"] * 4 + ["none", "nan", "negative", "zero", "tiny"]))
    array = array / array.sum(-1, keepdims=True) if scale in ("rows", "tiny") else array
    factors = {"nan": np.nan, "negative": -1.0, "zero": 0.0, "tiny": 1e-300}
    return list(array * factors.get(scale, 1.0))


@st.composite
def tables(draw: Any) -> dict[str, Any]:
    """Features and labels of a training and a validation set."""
    n, m, d = draw(st.integers(1, 8)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    scale = draw(st.sampled_from([1.0, 1.0, 1e300, 1e-300, np.nan, np.inf]))
    labels = draw(st.sampled_from([[0, 1], [0, 1], [0, 1], [1, 2], ["a", "b"], [0.5, 1.5], [0], [0, 99]]))
    return {
        "features": rng.normal(size=(n, d)) * scale,
        "labels": [labels[i % len(labels)] for i in range(n)],
        "validation_features": rng.normal(size=(m, d)),
        "validation_labels": [labels[i % len(labels)] for i in range(m)],
    }


LABELLED = st.lists(st.tuples(TEXTS.filter(lambda text: isinstance(text, str)), st.sampled_from("ab")), max_size=8)
CELLS = st.text(alphabet='ab01,;"\n\r\t \ud800é好\x00', max_size=8)
JSON_LABELS = ("1", "1.0", '"a"', "null", "NaN", "[]", "1e999", '"1.0"', "true")
CONTENTS = st.one_of(
    st.lists(st.tuples(CELLS, CELLS), max_size=4).map(
        lambda rows: "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)
    ),
    st.lists(
        st.tuples(CELLS.map(repr), st.sampled_from(["1", "1.0", '"a"', "null", "NaN", "[]", "1e999"])), max_size=4
    ).map(lambda rows: "".join(f'{{"text": {text}, "label": {label}}}\n' for text, label in rows)),
    st.text(max_size=30),
    st.binary(max_size=60),
)


def written(content: str | bytes, suffix: str) -> Path:
    """Write a file in a directory of its own."""
    path = Path(tempfile.mkdtemp(prefix="fuzz_input_")) / f"input{suffix}"
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return path


def files(*suffixes: str) -> Any:
    return st.builds(written, CONTENTS, st.sampled_from(suffixes))


@st.composite
def damaged_results(draw: Any) -> Path:
    """A saved result in which some bytes are changed or missing."""
    result = TokenAttribution(("fine", "film"), np.array([0.5, -0.1]), "leave_one_out", ((1,), (2,)), text="fine film")
    with tempfile.TemporaryDirectory() as folder:
        content = bytearray(result.save(Path(folder) / "a.npz").read_bytes())
    for _ in range(draw(st.integers(0, 3))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return written(bytes(content[: draw(st.sampled_from([len(content), len(content), len(content) // 2]))]), ".npz")


def optional(**arguments: Any) -> Any:
    return st.fixed_dictionaries({}, optional=arguments)


def _labelled(pairs: Any) -> Any:
    return valuation.LabelledTexts.of([text for text, _ in pairs], [label for _, label in pairs])


def _ranked(train: Any, validation: Any, **options: Any) -> Any:
    encoder = {"encoder": classifier(), "tokenizer": tokenizer()}
    return valuation.rank_texts(_labelled(train), _labelled(validation), **encoder, permutations=2, **options)


def _network_flow(attentions: Any, network: Any, flow: Any) -> Any:
    return lib.attention_flow(lib.AttentionNetwork.from_attentions(attentions, **network), **flow)


def _data_shapley(data: Any, utility: Any, options: Any) -> Any:
    game = valuation.FrozenEncoderUtility(**data, **utility)
    return valuation.DataShapley(game, **{"stop": shapley.MaxPermutations(3), **options}).fit()


def _saved(path: Path, kind: Any) -> Any:
    return kind.load(path)


def _page(text: Any, method: str) -> Any:
    result = lib.explain(classifier(), tokenizer(), text, method=method)
    with tempfile.TemporaryDirectory() as folder:
        kind = type(result)
        loaded = kind.load(result.save(Path(folder) / "a.npz"))
        loaded.to_html(Path(folder) / "a.html")
    return loaded.plot(), str(loaded), loaded.to_pandas()


def _command(arguments: Any) -> int:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            return command_line(arguments)
        except SystemExit as stop:  # of the parser
            return int(stop.code or 0)


_NETWORK = optional(
    heads=st.sampled_from(["mean", "max", 0, 1, 7]),
    residual=st.sampled_from([0.5, 0, 1, 0.99, -1]),
    readout=st.sampled_from(["first", "last", "mean", 0, 9]),
)
_FLOW = optional(
    method=st.sampled_from(["shapley", "pairwise", "single", "rollout"]),
    layers=st.lists(st.integers(-1, 4), max_size=2),
    tolerance=st.sampled_from([0.1, 0.01, 0]),
    game=st.sampled_from(["source", "through"]),
    groups=st.sampled_from([None, [[0]], [[0], [1, 2]]]),
    seed=SEEDS,
)
_PLAYERS = st.sampled_from(["tokens", "words", [(0, 4)], [(0, 1), (1, 9)], "sentences"])
_TEXT = {"model": MODELS, "tokenizer": TOKENIZERS, "text": TEXTS}
_SAMPLED = {"game": games(), "seed": SEEDS, "budget": st.integers(-1, 40)}
SAVED = (TokenAttribution, TokenAttribution, AttentionFlow, valuation.TrainingDynamics, valuation.Ranking)
PATHS = (None, "straight", "coalitions", "x")
_DYNAMICS = {"index": st.sampled_from([None, "index"]), "task": st.sampled_from(["auto", "one_class", "x"])}
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "exact_shapley": (shapley.exact_shapley, {"game": games()}),
    "leave_one_out": (shapley.leave_one_out, {"game": games()}),
    "shapley": (shapley.shapley, _SAMPLED),
    "kernel_shap": (shapley.kernel_shap, _SAMPLED),
    "banzhaf": (shapley.banzhaf, _SAMPLED),
    "stratified_shapley": (shapley.stratified_shapley, _SAMPLED),
    "permutation_shapley": (
        shapley.permutation_shapley,
        {"game": games(), "stop": st.builds(shapley.MaxPermutations, st.integers(1, 9)), "seed": SEEDS},
    ),
    "attention_flow": (_network_flow, {"attentions": attentions(), "network": _NETWORK, "flow": _FLOW}),
    "AttentionNetwork": (
        lib.AttentionNetwork.from_attentions,
        {"attentions": attentions(), "readout": st.just("first")},
    ),
    "explain": (
        lib.explain,
        _TEXT | {"method": st.sampled_from(METHODS), "players": _PLAYERS, "seed": SEEDS, "truncate": st.booleans()},
    ),
    "explain_options": (
        lib.explain,
        _TEXT
        | {
            "method": st.just("leave_one_out"),
            "target": st.sampled_from([None, 0, 1, 5, "film", (0, 1)]),
            "payoff": st.sampled_from(["log_probability", "logit_margin", "correctness", "negative_entropy"]),
            "masking": st.sampled_from([None, "mask", "zero_embedding", "drop", 5, " the"]),
            "special_tokens": st.sampled_from([None, "present", "players"]),
            "batch_size": st.integers(0, 4),
        },
    ),
    "conductance_flow": (
        lib.conductance_flow,
        _TEXT
        | {"max_steps": st.integers(1, 8), "tolerance": st.just(100.0), "path": st.sampled_from([None, "straight"])},
    ),
    "conductance_flows": (
        conductance_flows,
        {"model": MODELS, "tokenizer": TOKENIZERS, "texts": st.lists(TEXTS, max_size=2)}
        | {"max_steps": st.integers(1, 8), "tolerance": st.just(100.0)},
    ),
    "explain_all": (explain_all, _TEXT | {"methods": st.lists(st.sampled_from(METHODS), max_size=2)}),
    "compare_groupings": (
        compare_groupings,
        _TEXT | {"method": st.sampled_from(["flow", "leave_one_out", "rollout"]), "players": _PLAYERS},
    ),
    "sentence_flow": (sentence_flow, _TEXT | {"players": _PLAYERS, "residual": st.sampled_from([0.5, 0.0, 1.0])}),
    "results": (_page, {"text": TEXTS, "method": st.sampled_from(METHODS)}),
    "capture_attention": (
        lib.capture_attention,
        {
            "model": MODELS,
            "inputs": st.fixed_dictionaries(
                {"input_ids": st.lists(st.integers(0, 17), min_size=1, max_size=5).map(lambda ids: torch.tensor([ids]))}
            ),
        },
    ),
    "DataShapley": (
        _data_shapley,
        {
            "data": tables(),
            "utility": optional(
                metric=st.sampled_from(["accuracy", "log_loss", "auc", "f1", "x"]),
                l2=st.sampled_from([1.0, 0, -1, 1e300]),
            ),
            "options": optional(seed=SEEDS, groups=st.sampled_from([None, [[0]], [[0, 1], [2]]]), truncation=st.none()),
        },
    ),
    "LabelledTexts": (valuation.LabelledTexts.of, {"texts": st.lists(TEXTS, max_size=3), "labels": st.lists(SEEDS)}),
    "split_sentences": (
        lambda pairs, **sizes: valuation.split_sentences(_labelled(pairs), **sizes),
        {"pairs": LABELLED, "train_size": st.integers(-1, 6), "validation_size": st.integers(0, 4), "seed": SEEDS},
    ),
    "encode_texts": (
        valuation.encode_texts,
        {"model": MODELS, "tokenizer": TOKENIZERS, "texts": st.lists(TEXTS, max_size=3), "truncate": st.booleans()},
    ),
    "rank_texts": (_ranked, {"train": LABELLED, "validation": LABELLED, "truncate": st.booleans()}),
    "read_sentences": (valuation.read_sentences, {"path": files(".csv", ".jsonl", ".CSV", "")}),
    "load": (
        _saved,
        {
            "path": st.one_of(files(".npz"), damaged_results(), damaged_results()),
            "kind": st.sampled_from(
                [TokenAttribution, TokenAttribution, AttentionFlow, valuation.TrainingDynamics, valuation.Ranking]
            ),
        },
    ),
    "read_runs": (lambda path: read_runs(path.parent), {"path": files(".attnflow", ".jsonl", ".v2", ".json")}),
    "AttentionFlowMonitor": (
        lib.AttentionFlowMonitor,
        {
            "tokenizer": TOKENIZERS,
            "probes": st.lists(TEXTS, min_size=1, max_size=2),
            "max_sentences": st.integers(-1, 3),
        },
    ),
    "TrainingDynamicsMonitor": (lib.TrainingDynamicsMonitor, _DYNAMICS),
    "command line": (
        _command,
        {
            "arguments": st.one_of(
                st.lists(st.sampled_from(["explain", "rank", "flow", "view", "--model", "/none", "x", "--seed", "-1"])),
                files(".csv", ".jsonl").map(lambda path: ["rank", str(path), "--out", str(path.parent / "out")]),
                files(".csv").map(lambda path: ["label-errors", str(path), "--out", str(path.parent / "out")]),
            )
        },
    ),
}
OPTIONS = {  # further arguments that may become hostile
    "attention_flow": {"network": ("mask", "heads", "residual", "readout"), "flow": ("method", "solver", "groups")},
    "DataShapley": {"utility": ("metric", "epochs", "lr", "batch_size", "chunk_size"), "options": ("stop", "audit")},
}
ARGUMENTS = {  # of functions of the package: values of the arguments that have none above, by name
    **dict.fromkeys(("labels", "outputs", "inputs", "stop", "cache_dir", "solver"), st.none()),
    **dict.fromkeys(("edges", "truncate", "antithetic", "words"), st.booleans()),
    **dict.fromkeys(("batch_size", "every_n_validations", "every_n_epochs", "n_suspicious"), st.integers(-1, 3)),
    **dict.fromkeys(("text_column", "label_column"), st.sampled_from(["text", "label", "x", "text"])),
    "baseline": st.sampled_from([None, "mask", "zero_embedding", 5, " the", [5, 6]]),
    "classes": st.sampled_from([None, ("a", "b")]),
    "flow": st.sampled_from(["both", "conductance", "attention"]),
    "groups": st.sampled_from([None, [[0]], [[0], [1, 2]]]),
    "heads": st.sampled_from(["mean", "max", 0, 7]),
    "layers": st.lists(st.integers(-1, 4), max_size=2),
    "mask": st.sampled_from([None, [True], [True, False, True]]),
    "max_length": st.sampled_from([1, 4, 128, 10**6]),
    "max_overhead": st.sampled_from([None, 0.1, 0, 1]),
    "method": st.sampled_from(["shapley", "pairwise", "single", "rollout"]),
    "model": st.sampled_from([None, "net", "net.x"]),
    "name": st.sampled_from(["", "a", "a/b"]),
    "on_error": st.sampled_from(["warn", "raise"]),
    "path": st.sampled_from([None, "straight", "coalitions"]),
    "payoff": st.sampled_from(["probability", "logit_margin", "correctness"]),
    "players": _PLAYERS,
    "pooling": st.sampled_from(["mean", "first", "last"]),
    "readout": st.sampled_from(["auto", "first", "last", "mean", 0, 9]),
    "residual": st.sampled_from([0.5, 0, 1, -1]),
    "rows": st.lists(st.integers(-1, 4), max_size=3),
    "scalars": st.sampled_from(["run", "layers"]),
    "seed": SEEDS,
    "special_tokens": st.sampled_from([None, "present", "players"]),
    "target": st.sampled_from([None, 0, 1, 5, "film", (0, 1)]),
    "targets": st.lists(st.sampled_from([None, 0, 1, "film"]), max_size=2),
    "texts": st.none(),
    "tokenizer": st.sampled_from([None, ""]),
    "truncation": st.none(),
}


def other_arguments(name: str) -> list[str]:
    """Return the arguments of a function of the package that have no values in ``CALLS``; of a method, its options."""
    function, strategies = CALLS[name]
    if not function.__module__.startswith("lightning_attnflow"):
        return []  # written above, with all its arguments
    parameters = inspect.signature(function).parameters.values()
    names = [one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    table = ("features", "labels", "validation_features", "validation_labels") if "data" in strategies else ()
    return [one for one in names if one not in (*strategies, *table)]
