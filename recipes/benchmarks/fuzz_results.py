"""The calls of fuzz.py that show results: figures, tables and pages."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_calls import METHODS
from fuzz_files import FOLDER
from fuzz_models import classifier, tokenizer
from fuzz_values import FLOATS, SEEDS, TEXTS, Call, arrays, mostly, networks, whole
from hypothesis import strategies as st

import lightning_attnflow as lib
from lightning_attnflow import attribution, plots, viewer

SHOWN = ("fine", "a fine film , not bad !", "好 <b> film", "the plot . the plot . the plot .")


@cache
def flow_of(text: str, kind: str) -> Any:
    """A result for a text: ``sentence``, ``conductance``, ``attention`` or ``tokens``."""
    model, words = classifier(), tokenizer()
    if kind == "sentence":
        return plots.sentence_flow(model, words, text)
    if kind == "conductance":
        return lib.conductance_flow(model, words, text, max_steps=4, tolerance=100.0)
    if kind == "attention":
        return lib.attention_flow(attribution.Sentence(model, words, text).network())
    return lib.explain(model, words, text, method="leave_one_out")


def flows(*kinds: str) -> Any:
    """Results of some kinds."""
    return st.builds(flow_of, st.sampled_from(SHOWN), st.sampled_from(kinds))


def _shown(text: Any, method: str) -> Any:
    result = lib.explain(classifier(), tokenizer(), text, method=method)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        loaded = type(result).load(result.save(Path(folder) / "a.npz"))
        loaded.to_html(Path(folder) / "a.html")
    return loaded.plot(), str(loaded), loaded.to_pandas(), loaded._repr_html_(), loaded.top(2)


def _drawn(figure: Any) -> Any:
    (getattr(figure, "figure", None) or figure).canvas.draw()
    return figure


def _heat_map(**arguments: Any) -> Any:
    return _drawn(plots.flow_heatmap(**arguments))


def _chart(flow: Any, labels: Any, marks: Any, **arguments: Any) -> Any:
    return _drawn(plots.interval_chart(flow, labels, marks, **arguments))


@st.composite
def charts(draw: Any) -> dict[str, Any]:
    """A flow with names of its positions and other flows as marks."""
    flow = lib.attention_flow(draw(networks()))
    n = flow.values.shape[1] + draw(mostly([0], 1))
    return {
        "flow": flow,
        "labels": [draw(st.text(max_size=3)) for _ in range(n)],
        "marks": {draw(st.text(max_size=3)): draw(arrays(n)) for _ in range(draw(whole(0, 3)))},
    }


def _conductance_results(flow: Any, title: Any, max_tokens: Any, class_names: Any, layer: Any) -> Any:
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        flow.to_html(Path(folder) / "a.html", class_names=class_names)
    _drawn(flow.plot(title=title, max_tokens=max_tokens).figure)
    return flow.to_pandas(), flow._repr_html_(), flow.layer(layer), viewer.conductance_log(flow, class_names)


def _attention_results(flow: Any, labels: Any) -> Any:
    labelled = flow.with_labels(labels[: flow.values.shape[1]] if isinstance(labels, list) else labels)
    _drawn(labelled.plot().figure)
    return labelled.to_pandas(), labelled._repr_html_(), viewer.attention_log(labelled)


@st.composite
def parts(draw: Any) -> Any:
    """Part of a record, mostly of three words."""
    n = draw(mostly([3], 2, 0))
    values = np.random.default_rng(draw(st.integers(0, 10**6))).normal(size=(3, n)) * draw(mostly([1.0], np.nan))
    edges = draw(mostly([None, np.zeros((2, n, n))], np.ones((1, 2, 2)), np.full((2, n, n), np.nan)))
    more = draw(
        mostly([{}, {"lower": values - 1, "upper": values + 1}, {"total": 1.0}, {"error": [0.1] * 3}], {"layers": [0]})
    )
    return viewer.FlowPart(values, signed=draw(st.booleans()), edges=edges, **more)


def _page(records: Any, title: Any, height: Any) -> Any:
    log = viewer.RunLog(records)
    found = [viewer.find_verdicts(log, step) for step in log.steps]
    return viewer.page_html({"run": log}, title=title), viewer.frame_html({"run": log}, height=height), found


_RECORD = {
    "step": mostly([0, 5], -1),
    "name": mostly(["probe_00"], ""),
    "words": mostly([["a", "fine", "<film>"]], ["a"], []),
    "is_special": st.just([True, False, False]),
    "flows": st.dictionaries(st.sampled_from(["conductance", "attention_flow", "rollout"]), parts(), min_size=1),
    "text": st.text(max_size=5),
    "prediction": st.sampled_from(
        [None, viewer.Prediction("a", 0.5, {"a": 0.5}), viewer.Prediction("b", float("nan"))]
    ),
    "label": st.sampled_from([None, "a"]),
    "numbers": st.dictionaries(st.sampled_from(["drift", "x"]), FLOATS, max_size=2),
}
_STEP = {
    "step": mostly([0, 5], -1),
    "epoch": st.sampled_from([None, 0]),
    "scalars": st.dictionaries(st.sampled_from(["drift", "x"]), FLOATS, max_size=2),
    "layers": st.dictionaries(st.sampled_from(["entropy", "x"]), st.lists(FLOATS, max_size=3), max_size=2),
    "progress": st.sampled_from([None, 0.5]),
}


@st.composite
def records(draw: Any) -> Any:
    """Records of one or two steps."""
    made = []
    for step in range(draw(whole(1, 2))):
        flow = viewer.FlowPart(np.random.default_rng(draw(SEEDS)).normal(size=(3, 2)), signed=True)
        options = {
            "step": step,
            "name": "probe",
            "words": ["a", "b"],
            "is_special": [False, False],
            "flows": {"conductance": flow},
        }
        made += [viewer.sentence_record(**options), viewer.step_record(step=step)]
    return made


CALLS: dict[str, Call] = {
    "results": Call(_shown, {"text": TEXTS, "method": st.sampled_from(METHODS)}, ()),
    "ConductanceFlow": Call(
        _conductance_results,
        {"flow": flows("conductance"), "title": st.text(max_size=5), "max_tokens": mostly([1, 60], 0)}
        | {"class_names": mostly([None, ["a", "b"]], [], ["a"]), "layer": mostly([0, 1], -1, 9)},
        ("title", "max_tokens", "class_names", "layer"),
    ),
    "AttentionFlow": Call(
        _attention_results,
        {"flow": flows("attention"), "labels": mostly([list("abcdefghijklmnopqrstuvwxyz")], ["a"])},
        ("labels",),
    ),
    "flow_heatmap": Call(
        _heat_map,
        {
            "sentence": flows("sentence"),
            "title": st.one_of(st.none(), st.text(max_size=5)),
            "max_words": mostly([1, 60], 0),
        },
        ("sentence", "title", "max_words"),
    ),
    "interval_chart": Call(
        _chart,
        {"data": charts(), "layer": mostly([0, 1], -1, 9), "title": st.one_of(st.none(), st.text(max_size=5))}
        | {"subtitle": st.text(max_size=5)},
        ("flow", "labels", "marks", "layer", "title", "subtitle"),
    ),
    "flow_table": Call(
        plots.flow_table,
        {"flow": flows("sentence", "conductance"), "layers": mostly([None, [0], [0, 1]], [9], [-1], [])},
    ),
    "top_words_table": Call(plots.top_words_table, {"sentence": flows("sentence"), "n_words": mostly([1, 4], 0, -1)}),
    "attribution_table": Call(plots.attribution_table, {"attribution": flows("tokens")}),
    "tokens_html": Call(
        plots.tokens_html,
        {
            "attributions": st.one_of(flows("tokens"), st.lists(flows("tokens"), max_size=3)),
            "title": st.text(max_size=5),
            "shared_scale": st.booleans(),
        },
    ),
    "colour_tokens": Call(
        attribution.colour_tokens,
        {"tokens": st.lists(st.text(max_size=4), min_size=3, max_size=3), "values": arrays(3)},
    ),
    "attribution_log": Call(viewer.attribution_log, {"attribution": flows("tokens")}),
    "sentence_record": Call(viewer.sentence_record, _RECORD),
    "step_record": Call(viewer.step_record, _STEP),
    "pages": Call(
        _page,
        {"records": records(), "title": st.text(max_size=5), "height": mostly([640], 0)},
        ("title", "height"),
    ),
}
