"""The page of thousands of rows in a real browser: search, filters, sorting, scrolling, keyboard, export."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from test_ranking_page import exported, opened, sort_by

from lightning_attnflow.valuation import LabelErrors, Ranking

N = 8671
DRAWN = "return document.querySelectorAll('tbody tr').length"


def large_ranking() -> Ranking:
    rng = np.random.default_rng(0)
    words = ["film", "story", "dull", "lovely", "boring", "fine", "acting", "plot", "long", "moving", "flat", "short"]
    texts = [f"{' '.join(rng.choice(words, 12))} number{index}" for index in range(N)]
    labels, suggested = rng.choice(["negative", "positive"], (2, N))
    values = rng.normal(size=N)
    errors = LabelErrors(rng.normal(size=N), labels=tuple(labels.tolist()), suggested=tuple(suggested.tolist()))
    rows = (rng.permutation(N) + 2).tolist()
    return Ranking.of(values, (values - 1, values + 1), texts=texts, labels=labels, rows=rows, errors=errors)


@pytest.fixture(scope="module")
def ranked() -> Ranking:
    return large_ranking()


@pytest.fixture
def page(browser: Any, ranked: Ranking, tmp_path: Path) -> Any:
    return opened(browser, ranked.to_html(tmp_path / "ranking.html"))


def shown_rows(page: Any) -> list[int]:
    heads = [head.text.split()[0] for head in page.find_elements("css selector", "thead th")]
    code = (
        "return [...document.querySelectorAll(`tbody td:nth-child(${arguments[0]})`)].map(td => Number(td.textContent))"
    )
    return page.execute_script(code, heads.index("row") + 1)


def test_typing_finds_every_matching_row_and_draws_few(page: Any, ranked: Ranking) -> None:
    assert page.execute_script(DRAWN) < 500
    page.find_element("id", "query").send_keys("LOVELY boring")
    found = [row for row in ranked.suspicious if "lovely boring" in row.text]
    assert page.find_element("id", "shown").text == f"{len(found)} of {N} rows match"
    shown = shown_rows(page)
    assert shown == [row.row for row in found][: len(shown)]
    assert 0 < len(shown) < 500


def test_filters_combine(page: Any, ranked: Ranking) -> None:
    page.find_element("id", "differs").click()
    Select(page.find_element("id", "sign")).select_by_visible_text("harmful")
    page.find_element("id", "query").send_keys("number77")
    found = [row for row in ranked.suspicious if "number77" in row.text and row.sign == "harmful"]
    found = [row for row in found if row.suggested != row.label]
    assert 0 < len(found) < 50
    assert shown_rows(page) == [row.row for row in found]


def test_headers_sort_all_rows(page: Any, ranked: Ranking) -> None:
    for name, descending in (("value", False), ("value", True), ("row", False)):
        sort_by(page, name)
        expected = [row.row for row in sorted(ranked, key=lambda row: getattr(row, name), reverse=descending)]
        shown = shown_rows(page)
        assert shown == expected[: len(shown)]


def test_scrolling_down_appends_the_next_rows(page: Any, ranked: Ranking) -> None:
    expected = [row.row for row in ranked.suspicious]
    for _ in range(3):
        before = page.execute_script(DRAWN)
        page.execute_script("scrollTo(0, document.body.scrollHeight)")
        WebDriverWait(page, 20).until(lambda page, before=before: page.execute_script(DRAWN) > before)
    shown = shown_rows(page)
    assert shown == expected[: len(shown)]
    while page.find_element("id", "more").is_displayed():
        page.execute_script("document.getElementById('more').click()")
    assert shown_rows(page) == expected


def test_decisions_by_keyboard_are_exported_with_the_rows_of_the_file(page: Any, ranked: Ranking) -> None:
    first = ranked.suspicious[:3]
    page.execute_script("document.querySelector('tbody select').focus()")
    ActionChains(page).send_keys("d", Keys.TAB, Keys.TAB, "r").perform()
    page.find_element("id", "query").send_keys("number4321")  # decisions survive a search
    page.execute_script("document.querySelector('tbody select').focus()")
    ActionChains(page).send_keys("d").perform()
    (searched,) = (row for row in ranked if row.text.endswith("number4321"))
    other = {"negative": "positive", "positive": "negative"}
    expected = {
        (first[0].row, "drop", "", first[0].text),
        (first[2].row, "relabel", other[str(first[2].label)], first[2].text),
        (searched.row, "drop", "", searched.text),
    }
    decisions = exported(page)
    assert {(int(row["row"]), row["decision"], row["new_label"], row["text"]) for row in decisions} == expected


def test_the_downloaded_file_is_the_export(page: Any, ranked: Ranking, tmp_path: Path) -> None:
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.refresh()  # without the function that keeps the export
    page.execute_script("document.querySelector('tbody select').focus()")
    ActionChains(page).send_keys("d").perform()
    page.find_element("id", "export").click()
    path = tmp_path / "decisions.csv"
    WebDriverWait(page, 20).until(lambda _: path.exists())
    (row,) = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
    worst = ranked.suspicious[0]
    assert (row["decision"], row["row"], row["label"], row["text"]) == (
        "drop",
        str(worst.row),
        worst.label,
        worst.text,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_800_pixels_in_both_colour_schemes(page: Any, scheme: str) -> None:
    emulate = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    size = {"width": 800, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", emulate)
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        light = page.execute_script(
            "const box = document.createElement('div'); box.style.background = 'Canvas'; document.body.append(box);"
            "return getComputedStyle(box).backgroundColor"
        )
        assert (light == "rgb(255, 255, 255)") == (scheme == "light")
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size | {"width": 1400})
