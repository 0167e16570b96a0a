"""Files of fuzz.py: tables, saved results and run logs, intact and damaged, and the calls that read them."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_models import classifier, tokenizer
from fuzz_values import PLAIN_TEXTS, Call, mostly, weighted, whole
from hypothesis import strategies as st

import lightning_attnflow as lib
from lightning_attnflow import shapley, valuation, viewer
from lightning_attnflow.attribution import TokenAttribution
from lightning_attnflow.flow import AttentionFlow, ConductanceFlow
from lightning_attnflow.plots import SentenceFlow, sentence_flow
from lightning_attnflow.viewer.run_log import FILE_NAME

_HELD = tempfile.TemporaryDirectory(prefix="fuzz_")  # removed when the process ends
FOLDER = _HELD.name
CELLS = st.text(alphabet='ab01,;"\n\r\t \ud800é好\x00', max_size=8)
LABELS, ODD_LABELS = st.sampled_from(["a", "b"]), st.sampled_from(["a", "", "nan", "1", "1.0", " "])
JSON_LABELS = st.sampled_from(['"a"', '"b"', "1", "1.0"])
ODD_JSON_LABELS = st.sampled_from(['"a"', "null", "NaN", "[]", "1e999", '"1.0"', "true", "2"])


def written(content: str | bytes, name: str) -> Path:
    """Write a file into a directory of its own."""
    path = Path(tempfile.mkdtemp(prefix="input_", dir=FOLDER)) / name
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return path


def _csv(rows: list[tuple[str, str]], delimiter: str) -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows([("text", "label"), *rows])
    return file.getvalue()


def _jsonl(rows: list[tuple[str, str]]) -> str:
    return "".join(f'{{"text": {json.dumps(text)}, "label": {label}}}\n' for text, label in rows)


def _rows(labels: Any, odd_labels: Any) -> Any:
    return weighted(
        (4, st.lists(st.tuples(PLAIN_TEXTS, labels), min_size=9, max_size=12)),
        (1, st.lists(st.tuples(st.one_of(PLAIN_TEXTS, CELLS), odd_labels), min_size=2, max_size=6)),
    )


_RAW_ROWS = st.lists(st.tuples(CELLS, CELLS), max_size=4)  # not quoted
_GOOD_CSV = st.builds(
    written,
    st.builds(_csv, _rows(LABELS, ODD_LABELS), st.sampled_from(",;\t")),
    mostly(["input.csv", "input.CSV"], "x"),
)
_GOOD_JSONL = st.builds(written, _rows(JSON_LABELS, ODD_JSON_LABELS).map(_jsonl), st.just("input.jsonl"))
_RAW = st.one_of(
    _RAW_ROWS.map(lambda rows: "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)),
    st.text(max_size=30),
    st.binary(max_size=60),
)
TABLES = weighted(
    (4, _GOOD_CSV), (2, _GOOD_JSONL), (1, st.builds(written, _RAW, st.sampled_from(["input.csv", "input.jsonl"])))
)


@st.composite
def damaged(draw: Any, contents: Any) -> bytes:
    """Bytes of which, in a third of the cases, some are changed or missing."""
    content = bytearray(draw(contents))
    if draw(st.sampled_from([True, True, False])):
        return bytes(content)
    for _ in range(draw(whole(0, 3))):
        content[draw(whole(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(mostly([len(content)], len(content) // 2, 0))])


@cache
def results() -> tuple[Any, ...]:
    """One result of each class that can be saved."""
    text, words = "a fine film , not bad", tokenizer()
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(8, 2)), ["a", "b"] * 4
    utility = valuation.FrozenEncoderUtility(features, labels, features, labels)
    run = valuation.DataShapley(
        utility, stop=shapley.MaxPermutations(6), truncation=shapley.Truncation(tolerance=0.1)
    ).fit()
    margin = rng.normal(size=(3, 8)).astype(np.float32)
    dynamics = valuation.TrainingDynamics.of(
        margin=margin, confidence=margin, prediction=margin > 0, labels=[0, 1] * 4, classes=("a", "b")
    )
    return (
        lib.explain(classifier(), words, text, method="leave_one_out"),
        lib.conductance_flow(classifier(), words, text, max_steps=4, tolerance=100.0),
        sentence_flow(classifier(), words, text),
        lib.attention_flow(lib.AttentionNetwork.from_attentions([np.full((1, 3, 3), 1 / 3)] * 2), seed=0).with_labels(
            ["a", "b", "c"]
        ),
        run.result,
        shapley.exact_shapley(utility),
        run.ranking(texts=[f"text {k}" for k in range(8)], labels=labels),
        valuation.find_label_errors(features, labels),
        dynamics,
        valuation.RemovalCurve.of(utility, run.result.values, fractions=(0, 0.5), n_permutations=2),
    )


KINDS = (TokenAttribution, ConductanceFlow, SentenceFlow, AttentionFlow, valuation.DataShapleyResult)
KINDS += (shapley.ShapleyResult, valuation.Ranking, valuation.LabelErrors, valuation.TrainingDynamics)
KINDS += (valuation.RemovalCurve,)


@cache
def saved(index: int) -> bytes:
    """The file of a result."""
    return results()[index].save(written(b"", "result.npz")).read_bytes()


@st.composite
def saved_results(draw: Any) -> dict[str, Any]:
    """A file of a result, the class that reads it, and the result if it is of that class."""
    index = draw(whole(0, len(KINDS) - 1))
    path = written(draw(damaged(st.just(saved(index)))), "input.npz")
    kind = draw(mostly([KINDS[index]], *KINDS))
    return {"path": path, "kind": kind, "original": results()[index]}


def _loaded(path: Any, kind: Any, original: Any) -> Any:
    """Load a result and save it again; a damaged file must be refused or contain the same."""
    result = kind.load(path)
    found, expected = (np.load(one.save(written(b"", "result.npz")), allow_pickle=False) for one in (result, original))
    with found, expected:
        if type(result) is type(original) and not all(
            np.array_equal(found[name], expected[name], equal_nan=expected[name].dtype.kind == "f")
            for name in expected.files
        ):
            raise AssertionError(f"other content of {kind.__name__}")
    return repr(result)


@st.composite
def run_logs(draw: Any) -> bytes:
    """A run log of several steps, in which, in a third of the cases, entries are missing or have another value."""
    words, steps = draw(st.lists(st.sampled_from(["fine", "film", "<b>"]), min_size=1, max_size=4)), range(2)
    n, rng = len(words), np.random.default_rng(draw(st.integers(0, 10**6)))
    flow = viewer.FlowPart(rng.normal(size=(3, n)), signed=True, edges=rng.normal(size=(2, n, n)))
    attention = viewer.FlowPart(rng.random((3, n)), lower=np.zeros((3, n)), upper=np.ones((3, n)), total=1.0)
    log = viewer.RunLog(
        viewer.sentence_record(
            step=step,
            name="probe_00",
            words=words,
            is_special=[False] * n,
            flows={"conductance": flow, "attention_flow": attention},
            text=" ".join(words),
            prediction=viewer.Prediction("a", 0.75, {"a": 0.75, "b": 0.25}),
            label=draw(st.sampled_from([None, "b"])),
            numbers={"drift": 0.5},
        )
        for step in steps
    )
    for step in steps:
        verdicts = [one.to_json() for one in viewer.find_verdicts(log, step)]
        log.add(viewer.step_record(step=step, scalars={"drift": 0.1}, layers={"entropy": [0.1]}, verdicts=verdicts))
    records = log.records()
    if draw(st.sampled_from([True, False, False])):
        for _ in range(draw(whole(1, 2))):
            _damage(draw, draw(st.sampled_from(records)))
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def _damage(draw: Any, record: Any) -> None:
    """Remove or replace an entry of a record, at any depth."""
    while True:
        places = list(record) if isinstance(record, dict) else list(range(len(record)))
        if not places:
            return
        place = draw(st.sampled_from(places))
        deeper = isinstance(record[place], dict | list) and draw(st.booleans())
        if deeper:
            record = record[place]
        elif draw(st.booleans()):
            del record[place]
            return
        else:
            record[place] = draw(st.sampled_from([None, True, -1, 0.5, 10**20, "x", "", [], {}, [None], {"a": [1]}]))
            return


RUNS = st.builds(written, damaged(run_logs()), mostly([FILE_NAME], "x.jsonl"))


def _page_of_runs(path: Any) -> Any:
    runs = viewer.read_runs(path.parent)
    for run in runs.values():
        run.latest_verdicts(), run.index(), run.documents()
        for step in run.steps:
            viewer.find_verdicts(run, step)
        run.limit_edges(0)
    return viewer.write_page(path.parent / "page.html", runs), viewer.frame_html(runs)


CALLS: dict[str, Call] = {
    "read_sentences": Call(valuation.read_sentences, {"path": TABLES}),
    "load": Call(_loaded, {"data": saved_results()}, ("path",)),
    "read_runs": Call(_page_of_runs, {"path": RUNS}, ()),
    "RunLog.read": Call(viewer.RunLog.read, {"path": RUNS}),
}
