"""The page of label errors, training dynamics and rankings in a real browser: sorting, searching, decisions, export."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_attnflow.valuation import LabelErrors, Ranking, TrainingDynamics

TEXTS = ("a fine film", 'a "dull", long film', "a lovely <b>story</b>", "a boring story")
KEEP_EXPORT = """
window.exported = null;
URL.createObjectURL = blob => { blob.text().then(text => { window.exported = text; }); return "#"; };
"""

CHOSEN = "return [...document.querySelectorAll('tbody select')].map(select => select.selectedOptions[0].text)"


def label_errors() -> LabelErrors:
    return LabelErrors(
        np.array([2.0, -1.5, -0.25, 10.0]),
        labels=("pos", "pos", "neg", "neg"),
        suggested=("pos", "neg", "pos", "neg"),
        share=0.5,
        share_interval=(0.3, 0.6),
        texts=TEXTS,
        rows=(2, 3, 4, 5),
    )


def opened(browser: Any, path: Path) -> Any:
    browser.get(path.as_uri())
    browser.execute_script(KEEP_EXPORT)
    return browser


def set_width(browser: Any, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def column(browser: Any, name: str) -> list[str]:
    """Cells of a column, from the first row to the last."""
    heads = [head.text.split()[0] for head in browser.find_elements("css selector", "thead th")]
    cells = browser.find_elements("css selector", f"tbody td:nth-child({heads.index(name) + 1})")
    return [cell.text for cell in cells]


def sort_by(browser: Any, name: str) -> None:
    (button,) = (found for found in browser.find_elements("css selector", "thead button") if found.text == name)
    button.click()


def decide(browser: Any, row: int, decision: str) -> None:
    (option,) = (
        option
        for option in browser.find_elements("css selector", f'select[aria-label="decision for row {row}"] option')
        if option.text == decision
    )
    option.click()


def exported(browser: Any) -> list[dict[str, str]]:
    browser.find_element("id", "export").click()
    text = browser.execute_async_script(
        "const done = arguments[0];"
        "const wait = () => window.exported === null ? setTimeout(wait, 5) : done(window.exported);"
        "wait();"
    )
    return list(csv.DictReader(io.StringIO(text)))


def test_the_most_suspicious_row_is_first_and_headers_sort(browser: Any, tmp_path: Path) -> None:
    page = opened(browser, label_errors().to_html(tmp_path / "errors.html"))
    assert column(page, "row") == ["3", "4", "2", "5"]
    assert column(page, "text")[:2] == [TEXTS[1], TEXTS[2]]  # escaped, not interpreted
    sort_by(page, "score")
    sort_by(page, "score")
    assert column(page, "score") == ["10.00", "2.00", "-0.25", "-1.50"]
    sort_by(page, "label")
    assert column(page, "label") == ["neg", "neg", "pos", "pos"]
    assert not [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]


def test_searching_and_filtering_shows_the_matching_rows(browser: Any, tmp_path: Path) -> None:
    page = opened(browser, label_errors().to_html(tmp_path / "errors.html"))
    page.find_element("id", "differs").click()
    assert column(page, "row") == ["3", "4"]
    page.find_element("id", "query").send_keys("LOVELY")
    assert column(page, "row") == ["4"]
    assert page.find_element("id", "shown").text == "1 of 4 rows match"


def test_decisions_are_kept_and_exported(browser: Any, tmp_path: Path) -> None:
    page = opened(browser, label_errors().to_html(tmp_path / "errors.html"))
    assert not page.find_element("id", "export").is_enabled()
    decide(page, 3, "relabel")
    decide(page, 4, "drop")
    decide(page, 2, "drop")
    decide(page, 2, "keep")
    assert page.find_element("id", "ticked").text == "1 to relabel, 1 to drop"
    sort_by(page, "row")  # draws the rows again
    assert page.execute_script(CHOSEN) == ["keep", "relabel", "drop", "keep"]
    assert exported(page) == [
        {"decision": "relabel", "new_label": "neg", "row": "3", "label": "pos", "suggested": "neg", "text": TEXTS[1]},
        {"decision": "drop", "new_label": "", "row": "4", "label": "neg", "suggested": "pos", "text": TEXTS[2]},
    ]


@pytest.mark.parametrize("kind", ["dynamics", "ranking"])
def test_other_results_have_the_same_page(browser: Any, tmp_path: Path, kind: str) -> None:
    if kind == "dynamics":
        margin = np.array([[1.0, -1.0, 2.0, 0.5]] * 2)
        prediction = [[0, 0, 0, 1]] * 2
        result: Any = TrainingDynamics.of(
            margin=margin, prediction=prediction, labels=[0, 1, 0, 1], texts=TEXTS, classes=("neg", "pos")
        )
        expected = ["2", "4", "1", "3"]
    else:
        values = np.array([0.3, -0.2, 0.1, -0.1])
        result = Ranking.of(
            values, (values - 0.05, values + 0.05), texts=TEXTS, labels=list("abab"), rows=range(1, 5), errors=None
        )
        expected = ["2", "4", "3", "1"]
    page = opened(browser, result.to_html(tmp_path / "page.html"))
    shown = [str(TEXTS.index(text) + 1) for text in column(page, "text")]
    assert shown == expected
    first = int(column(page, "row")[0])
    decide(page, first, "drop")
    assert [(row["decision"], row["text"]) for row in exported(page)] == [("drop", TEXTS[1])]


def test_a_row_can_get_another_label_than_the_suggested_one(browser: Any, tmp_path: Path) -> None:
    errors = LabelErrors(
        np.array([-1.0, 2.0]), labels=("a", "b"), suggested=("c", "b"), texts=("first text", "second text"), rows=(7, 3)
    )
    page = opened(browser, errors.to_html(tmp_path / "errors.html"))
    options = "return [...document.querySelectorAll('tbody select')].map(one => [...one.options].map(o => o.text))"
    assert page.execute_script(options) == [
        ["keep", "relabel", "relabel b", "drop"],
        ["keep", "relabel a", "relabel c", "drop"],  # not the label that it has
    ]
    decide(page, 7, "relabel b")
    decide(page, 3, "relabel a")
    assert [(row["row"], row["decision"], row["new_label"]) for row in exported(page)] == [
        ("7", "relabel", "b"),
        ("3", "relabel", "a"),
    ]


def test_a_narrow_window_shows_the_columns_after_the_text_on_demand(browser: Any, tmp_path: Path) -> None:
    components = np.random.default_rng(0).normal(size=(4, 4))
    errors = replace(
        label_errors(), component_values=components, component_names=("p_correct", "margin", "aum", "self_influence")
    )
    shown = "return [...document.querySelectorAll('thead th')].filter(th => th.offsetWidth).map(th => th.textContent)"
    names = ["decision", "rank", "row", "label", "suggested", "score", "p_correct", "text"]
    details = ["margin", "aum", "self_influence"]
    try:
        page = opened(browser, errors.to_html(tmp_path / "errors.html"))
        assert page.execute_script(shown) == names + details
        assert not page.find_element("id", "all").is_displayed()
        set_width(browser, 800)
        assert page.execute_script(shown) == names
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        page.find_element("id", "all").click()
        assert page.execute_script(shown) == names + details
        assert column(page, "aum") == [f"{value:.3f}" for value in components[2][errors.order]]
        page = opened(page, label_errors().to_html(tmp_path / "few.html"))
        assert not page.find_element("id", "all").is_displayed()  # no columns after the text
    finally:
        set_width(browser, 1400)


def test_a_malformed_fragment_is_searched_as_it_is(browser: Any, tmp_path: Path) -> None:
    path = label_errors().to_html(tmp_path / "errors.html")
    browser.get(f"{path.as_uri()}#100%")
    assert browser.find_element("id", "query").get_attribute("value") == "100%"
    assert browser.find_element("id", "shown").text == "0 of 4 rows match"


def test_decisions_that_were_not_exported_keep_the_page_open(browser: Any, tmp_path: Path) -> None:
    page = opened(browser, label_errors().to_html(tmp_path / "errors.html"))
    leave = "const event = new Event('beforeunload', {cancelable: true}); return !dispatchEvent(event)"
    assert not page.execute_script(leave)
    decide(page, 3, "drop")
    assert page.execute_script(leave)
    exported(page)
    assert not page.execute_script(leave)
