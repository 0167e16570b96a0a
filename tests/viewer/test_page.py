"""The HTML pages of results, without a browser: self-contained, escaped, and complete."""

from __future__ import annotations

import html
import json
import re

import numpy as np
import pytest

from lightning_attnflow import AttentionNetwork, attention_flow
from lightning_attnflow.attribution import TokenAttribution
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow.conductance import ConductanceFlow
from lightning_attnflow.viewer import page, page_html
from lightning_attnflow.viewer.packing import unpack

HOSTILE = (
    "</script>",
    "<b>",
    "\"quoted\" & 'x'",
    "\u202eabc",
    "😀",
    "漢字",
    "a\u200bb",
    "x" * 5000,
    "{{x}}",
    "\\u003c",
)


def conductance(words: tuple[str, ...] = ("good", "film")) -> ConductanceFlow:
    n = len(words)
    edges = np.full((1, n, n), 0.25 / n)
    return ConductanceFlow(
        values=np.stack([edges[0].sum(axis=0), edges[0].sum(axis=1)]),
        total=0.25 * n,
        n_steps=8,
        tolerance=0.01,
        tokens=words,
        is_special=np.zeros(n, dtype=bool),
        target=1,
        edges_or_none=edges,
        v_empty=-1.0,
        text=" ".join(words),
    )


def embedded(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="attnflow-data">(.*?)</script>', text)[1])


def test_values_of_a_conductance_flow(tmp_path) -> None:
    flow = conductance()
    text = flow.to_html(tmp_path / "x.html", class_names=["negative", "positive"]).read_text(encoding="utf-8")
    step = embedded(text)["result"]["sentences"]["sentence"]["steps"][0]
    np.testing.assert_array_equal(unpack(step["flows"]["conductance"]["values"]), flow.values.astype(np.float32))
    assert step["prediction"]["class"] == "positive"
    assert step["prediction"]["probability"] == pytest.approx(np.exp(-0.5))


def test_class_names_must_include_the_explained_class(tmp_path) -> None:
    with pytest.raises(InputError, match="got 1 name; expected a name of class 1"):
        conductance().to_html(tmp_path / "x.html", class_names=["negative"])


def test_values_and_ranges_of_an_attention_flow(tmp_path) -> None:
    flow = attention_flow(AttentionNetwork(np.array([[[0.7, 0.3], [0.4, 0.6]]] * 2), np.array([1.0, 0.0])))
    text = flow.with_labels(["good", "film"]).to_html(tmp_path / "x.html").read_text(encoding="utf-8")
    step = embedded(text)["result"]["sentences"]["sentence"]["steps"][0]
    for name in ("values", "lower", "upper"):
        np.testing.assert_allclose(unpack(step["flows"]["attention_flow"][name]), getattr(flow, name), rtol=1e-6)
    assert step["words"] == ["good", "film"]


def test_interval_of_an_explanation(tmp_path) -> None:
    values = np.array([0.5, -0.1])
    attribution = TokenAttribution(
        ("fine", "film"), values, "shapley", ((1,), (2,)), low=values - 0.1, high=values + 0.1, interval="95% interval"
    )
    text = attribution.to_html(tmp_path / "x.html").read_text(encoding="utf-8")
    flow = embedded(text)["result"]["sentences"]["sentence"]["steps"][0]["flows"]["shapley"]
    assert flow["signed"]
    assert flow["range_name"] == "95% interval"
    np.testing.assert_allclose(unpack(flow["upper"])[0], [0.6, 0.0], atol=1e-7)


def test_texts_are_data_and_never_markup() -> None:
    text = page_html({"</script><i>": page_log(HOSTILE)}, title="<u>&")
    assert "<title>&lt;u&gt;&amp;</title>" in text
    assert text.count("</script>") == 2
    assert "<b>" not in text
    assert "<i>" not in text
    assert embedded(text)["</script><i>"]["sentences"]["sentence"]["steps"][0]["words"] == list(HOSTILE)


def page_log(words: tuple[str, ...]):
    from lightning_attnflow.viewer import conductance_log

    return conductance_log(conductance(words))


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = page_html({"run": page_log(("good",))})
    assert not re.search(
        r'(src|href)="|@import|url\((?!#)|^import |\bhttps?://(?!www\.w3\.org/2000/svg)', text, re.MULTILINE
    )


def test_notebook_display_is_one_frame_with_the_page() -> None:
    frame = conductance(HOSTILE)._repr_html_()
    page_text = html.unescape(re.fullmatch(r'<iframe srcdoc="([^"]*)" [^<>]*></iframe>', frame)[1])
    assert embedded(page_text)["result"]["sentences"]["sentence"]["steps"][0]["words"] == list(HOSTILE)


def test_all_modules_are_part_of_the_page_in_the_order_of_their_imports() -> None:
    from importlib.resources import files

    folder = files("lightning_attnflow.viewer") / "static"
    names = {path.name for path in folder.iterdir() if path.name.endswith(".js")}
    assert names == {*page.MODULES, "index.js"}
    for place, name in enumerate(page.MODULES):
        text = (folder / name).read_text(encoding="utf-8")
        assert set(re.findall(r'from "\./([\w.]+)"', text)) <= set(page.MODULES[:place])
        assert len(re.findall(r"^import ", text, re.MULTILINE)) == len(page._IMPORT.findall(text))
