"""Records: arrays and edges survive, sizes are bounded, other versions are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lightning_attnflow.errors import InputError
from lightning_attnflow.viewer import (
    Verdict,
    attention_log,
    attribution_log,
    conductance_log,
    find_verdicts,
    frame_html,
    page_html,
    read_runs,
)
from lightning_attnflow.viewer.packing import (
    MAX_HEAD_BYTES,
    heads_fit,
    pack,
    pack_edges,
    pack_heads,
    unpack,
    unpack_edges,
    unpack_heads,
)
from lightning_attnflow.viewer.record import FlowPart, Prediction, from_bytes, sentence_record, step_record, to_bytes
from lightning_attnflow.viewer.run_log import FILE_NAME, RunLog


def attention(n_layers: int, n: int, seed: int = 0) -> np.ndarray:
    """Rows of softmax attention over n words."""
    scores = 3 * np.random.default_rng(seed).normal(size=(n_layers, n, n))
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    return weights / weights.sum(axis=2, keepdims=True)


def record(step: int = 0, n: int = 3, n_layers: int = 2, **changes: object) -> dict:
    values = np.random.default_rng(step).normal(size=(n_layers + 1, n))
    edges = attention(n_layers, n) * values[1:, :, None]
    share = np.full((n_layers + 1, n), 1 / n)
    options = {
        "step": step,
        "name": "probe_00",
        "words": [f"word{index}" for index in range(n)],
        "is_special": [True] + [False] * (n - 1),
        "text": "a text",
        "prediction": Prediction("positive", 0.75),
        "flows": {
            "conductance": FlowPart(
                values, signed=True, unit="log probability", edges=edges, error=[0.0] * (n_layers + 1), total=1.5
            ),
            "attention_flow": FlowPart(share, lower=share, upper=share),
            "rollout": FlowPart(share),
            "attention": FlowPart(share, edges=attention(n_layers, n)),
        },
    }
    return sentence_record(**options | changes)


@pytest.mark.parametrize("dtype", ["f4", "f2", "u2", "u1"])
def test_arrays_survive(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3)
    restored = unpack(json.loads(json.dumps(pack(array, dtype))))
    assert restored.shape == (2, 3)
    assert (restored == array).all()


def test_dense_edges_survive_to_float16() -> None:
    edges = np.random.default_rng(0).normal(size=(3, 5, 5))
    np.testing.assert_array_equal(unpack_edges(pack_edges(edges), 5), edges.astype(np.float16))


def test_sparse_edges_keep_the_stated_share_of_every_layer() -> None:
    edges = attention(4, 60) ** 2
    packed = pack_edges(edges)
    restored = unpack_edges(packed, 60)
    kept = restored != 0
    np.testing.assert_array_equal(restored[kept], edges[kept].astype(np.float16))
    np.testing.assert_allclose((edges * kept).sum(axis=(1, 2)) / edges.sum(axis=(1, 2)), packed["coverage"], atol=1e-3)
    assert min(packed["coverage"]) >= 0.995
    assert kept.mean() < 1 / 3


def test_at_most_the_given_number_of_edges_is_kept() -> None:
    packed = pack_edges(attention(4, 60), max_edges=400)
    assert packed["n"] == [100] * 4
    assert max(packed["coverage"]) < 0.995


def test_edges_of_a_layer_without_flow() -> None:
    edges = np.stack([np.zeros((40, 40)), np.eye(40)])
    packed = pack_edges(edges)
    assert packed["coverage"][0] == 1.0
    np.testing.assert_array_equal(unpack_edges(packed, 40), edges)


@pytest.mark.parametrize(("n", "limit"), [(20, 100_000), (512, 1_000_000)])
def test_size_of_a_record_of_12_layers(n: int, limit: int) -> None:
    assert len(to_bytes(record(n=n, n_layers=12))) < limit


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0, 3.0])
def test_size_of_a_record_of_20_words_with_12_layers_of_12_heads(sharpness: float) -> None:
    heads = heads_of(12, 12, 20, sharpness)
    one = record(n=20, n_layers=12)
    one["flows"]["attention"] |= FlowPart(np.zeros((13, 20)), edges=heads.mean(axis=1), heads=heads).to_json()
    assert ("heads" in one["flows"]["attention"]) == (sharpness >= 1)
    assert len(to_bytes(one)) < 100_000


def heads_of(n_layers: int, n_heads: int, n: int, sharpness: float = 1.0) -> np.ndarray:
    """Attention (L, H, n, n) with rows that sum to 1."""
    weights = np.exp(sharpness * np.random.default_rng(1).normal(size=(n_layers, n_heads, n, n)))
    return weights / weights.sum(axis=3, keepdims=True)


def test_heads_survive_to_8_bits() -> None:
    heads = heads_of(3, 4, 9)
    packed = json.loads(json.dumps(pack_heads(heads)))["heads"]
    restored = unpack_heads(packed)
    assert np.abs(restored - heads).max() <= 0.5 / 255 + 1e-9
    assert packed["coverage"] >= 0.95


def test_heads_keep_the_stated_share_within_the_limit() -> None:
    heads = heads_of(12, 12, 24, sharpness=2.0)
    packed = pack_heads(heads)["heads"]
    restored = unpack_heads(packed)
    assert restored.astype(bool).sum() + heads.size // 8 <= MAX_HEAD_BYTES
    assert (restored.sum(axis=(2, 3)) / heads.sum(axis=(2, 3))).min() == pytest.approx(packed["coverage"], abs=1e-4)
    assert 0.8 <= packed["coverage"] < 0.99


@pytest.mark.parametrize(("n", "sharpness"), [(60, 1.0), (32, 0.1)])
def test_heads_that_do_not_fit_are_left_out_with_the_reason(n: int, sharpness: float) -> None:
    reason = f"The attention of 12 x 12 heads between {n} words is too large for the record."
    assert pack_heads(heads_of(12, 12, n, sharpness)) == {"without_heads": reason}
    assert heads_fit(12, 12, n) == (n == 32)


def test_records_of_version_1_are_still_read() -> None:
    old = record() | {"version": 1}
    assert from_bytes(to_bytes(old)) == json.loads(to_bytes(old))


def test_numbers_that_are_not_finite_become_null() -> None:
    line = to_bytes(step_record(step=1, scalars={"drift": float("nan")}, layers={"error": [float("inf"), 0.5]}))
    assert from_bytes(line)["scalars"] == {"drift": None}
    assert from_bytes(line)["layers"] == {"error": [None, 0.5]}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "no JSON"),
        (b"[1]", "other JSON"),
        (b'{"format": "attnflow", "version": 3}', "version 3; expected version 1 to 2. Update"),
        (b'{"format": "attnflow", "version": 0}', "version 0; expected version 1 to 2. Log the run again"),
        (b'{"format": "attnflow"}', "version None; expected version 1 to 2. Log the run again"),
    ],
)
def test_other_data_and_versions_are_refused(line: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        from_bytes(line)


def test_a_flow_needs_one_column_per_word() -> None:
    with pytest.raises(InputError, match=r"flows\['x'\]: got shape \(2, 4\); expected \(rows, 3\)"):
        record(flows={"x": FlowPart(np.zeros((2, 4)))})


def test_any_text_survives() -> None:
    text = "</script><b>\"'&\u202e\u200b😀漢\ud800"
    assert from_bytes(to_bytes(record(text=text)))["text"] == text.replace("\ud800", "?")


def test_a_run_is_written_and_read(tmp_path) -> None:
    run = RunLog([record(10), record(0), step_record(step=10, scalars={"drift": 0.5}), step_record(step=0)])
    run.write(tmp_path / FILE_NAME)
    restored = RunLog.read(tmp_path)
    assert restored.documents() == run.documents()
    assert [step["step"] for step in restored.index()["steps"]] == [0, 10]
    assert restored.index()["sentences"][0]["predictions"][1]["class"] == "positive"
    assert restored.sentence("probe_00")["steps"][0]["flows"]["conductance"]["has_edges"]
    assert "edges" not in restored.sentence("probe_00")["steps"][0]["flows"]["conductance"]
    assert set(restored.edges("probe_00", 10)) == {"conductance", "attention"}


def test_a_line_that_is_still_being_written_is_ignored(tmp_path) -> None:
    path = RunLog([record(0)]).write(tmp_path / FILE_NAME)
    with path.open("ab") as file:
        file.write(to_bytes(record(1))[:100])
    assert len(RunLog.read(path).sentences["probe_00"]) == 1


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match=FILE_NAME):
        RunLog.read(tmp_path / FILE_NAME)


def entries(record: object, path: tuple = ()) -> list[tuple]:
    """Paths of all entries of a JSON value."""
    pairs = record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    return [path] * bool(path) + [found for key, value in pairs for found in entries(value, (*path, key))]


def damaged(record: dict, path: tuple, value: object) -> dict:
    """A copy of a record with another value of an entry; without the entry if the value is ``...``."""
    changed = json.loads(json.dumps(record))
    *parents, key = path
    inner = changed
    for parent in parents:
        inner = inner[parent]
    if value is ...:
        del inner[key]
    else:
        inner[key] = value
    return changed


HEADS = heads_of(2, 2, 3)
COMPLETE = {
    "step": step_record(
        step=1, epoch=0, scalars={"a": 1.0}, layers={"b": [0.5]}, progress=0.5,
        verdicts=[Verdict("n", "t", "r").to_json()],
    ),
    "sentence": record(
        flows={"a": FlowPart(np.ones((3, 3)), edges=HEADS[:, 0], heads=HEADS, error=[0.0] * 3, total=1.0)}
    ),
    "sparse": sentence_record(
        step=0, name="s", words=["a"] * 40, is_special=[False] * 40, label="b",
        flows={"a": FlowPart(np.ones((2, 40)), lower=np.ones((2, 40)), upper=np.ones((2, 40)), edges=np.eye(40)[None])},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPLETE)
@pytest.mark.parametrize("value", [..., None, True, -1, 0.5, 10**30, "x", [], {}, [None], {"a": [1]}, float("nan")])
def test_a_damaged_record_is_refused_or_shown(name: str, value: object) -> None:
    """No damage leads to another error than InputError, in the page or in the verdicts."""
    n_refused = 0
    for path in entries(COMPLETE[name]):
        line = json.dumps(damaged(COMPLETE[name], path, value)).encode()
        try:
            run = RunLog([from_bytes(line, "run.jsonl, line 1")])
        except InputError:
            n_refused += 1
        else:
            assert page_html({"run": run}).startswith("<!doctype html>")
            assert isinstance(find_verdicts(run, 0), list)
    assert n_refused > len(entries(COMPLETE[name])) // 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": "abc"}, "words: got str"),
        ({"words": ["a", "b", 3]}, "words: got int"),
        ({"is_special": [True]}, r"got 1 flags 'special'; expected 3, one per word"),
        ({"flows": []}, "flows: got list"),
        ({"flows": {"a": np.ones((2, 3))}}, r"flows\['a'\]: got ndarray; expected a FlowPart"),
        ({"flows": {"a": FlowPart(np.ones((3, 3)), edges=np.ones((2, 2, 2)))}}, "got 'edges' of other sizes"),
        ({"prediction": "good"}, "prediction: got str; expected a Prediction"),
        ({"numbers": {"drift": "x"}}, "numbers: got 'x'; expected a number"),
        ({"max_edges": 0}, "max_edges: got 0"),
    ],
)
def test_invalid_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        record(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": "x"}, "step: got 'x'"),
        ({"step": -1}, "step: got -1"),
        ({"step": 0, "scalars": [1]}, "scalars: got list"),
        ({"step": 0, "layers": {"a": 5}}, r"layers\['a'\]: got int"),
        ({"step": 0, "verdicts": [{"name": "x"}]}, "got 'verdicts': "),
        ({"step": 0, "progress": "x"}, "got 'progress': 'x'"),
    ],
)
def test_invalid_steps_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        step_record(**options)


def test_unknown_probabilities_are_no_error() -> None:
    """A model whose logits became NaN has predictions without probabilities."""
    known, unknown = {"a": 0.9, "b": 0.1}, {"a": float("nan"), "b": float("nan")}
    run = RunLog(
        record(
            step, name=f"probe_{index:02}", text=str(index), prediction=Prediction("ab"[step], classes["a"], classes)
        )
        for index in range(2)
        for step, classes in enumerate((known, unknown))
    )
    run.add(step_record(step=0))
    run.add(step_record(step=1, progress=0.9))
    assert [verdict.name for verdict in find_verdicts(run, 1)] == ["flipped"]
    assert "to b (an unknown probability)" in find_verdicts(run, 1)[0].text


@pytest.mark.parametrize("path", [None, 3, ["a"], b"a"])
def test_logs_that_are_no_paths_are_refused(path: object) -> None:
    with pytest.raises(InputError, match="path: got"):
        RunLog.read(path)
    with pytest.raises(InputError, match="directory: got"):
        read_runs(path)


def test_pages_of_something_else_are_refused() -> None:
    for make in (page_html, frame_html):
        with pytest.raises(InputError, match=r"runs: got list; expected a Mapping. read_runs\(\)"):
            make([])
        with pytest.raises(InputError, match=r"runs\['a'\]: got dict; expected a RunLog"):
            make({"a": {}})
    with pytest.raises(InputError, match="title: got int"):
        page_html({}, title=3)
    with pytest.raises(InputError, match="height: got 0"):
        frame_html({}, height=0)
    for log in (attention_log, attribution_log, conductance_log):
        with pytest.raises(InputError, match="got str; expected a"):
            log("x")
