"""The page in a file, without network, in a real browser; its numbers are those of Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import WORDS, heads, run_log, values
from selenium_page import Page, use_every_control
from test_page import HOSTILE, page_log

from lightning_attnflow.viewer import frame_html, write_page


@pytest.fixture
def file_page(browser: Any, tmp_path: Path) -> Page:
    """Two runs in a file opened from disk."""
    path = write_page(tmp_path / "page.html", {"first": run_log(0), "second": run_log(1)})
    browser.get("about:blank")
    browser.get(path.as_uri())
    return Page(browser)


def test_attention_of_one_head_and_one_layer(file_page: Page) -> None:
    attention = heads(1, 0, 20)
    received = attention.sum(axis=2) / len(WORDS)
    file_page.choose("kind", "attention")
    file_page.choose("head", 1)
    file_page.has_numbers(".node", np.concatenate([received[:, 1], np.full((1, len(WORDS)), 1 / len(WORDS))]), 1e-6)
    file_page.shows(".detail", "Edges are the attention of head 2, without the residual stream.")
    file_page.choose("only", 3)
    file_page.has_numbers(".node", np.stack([received[2, 1], np.full(len(WORDS), 1 / len(WORDS))]), 1e-6)
    assert file_page.all(".readout") == []
    file_page.choose("share", 1)
    file_page.until(lambda: len(file_page.all(".edge")) == np.count_nonzero(attention[2, 1]))
    file_page.click('[data-view="layers"]')
    file_page.has_numbers(".cell", attention[2, 1, ::-1], 1e-6)
    file_page.click('[data-name="probe_01"] button')  # without heads
    file_page.shows(".without-heads", "This record holds no single heads.")
    assert file_page.all('[data-control="head"]:disabled')
    file_page.choose("kind", "conductance")
    file_page.has_numbers(".cell", values(1, 1, 20))
    assert file_page.errors() == []


def test_every_control_of_the_file(file_page: Page) -> None:
    use_every_control(file_page)
    assert file_page.errors() == []
    assert file_page.script("return performance.getEntriesByType('resource').length") == 0


def drag(page: Page, control: str, pixels: int) -> None:
    """Drag a slider with the mouse in small moves, each of which draws the page anew."""
    from selenium.webdriver import ActionChains

    mouse = ActionChains(page.browser, duration=20).move_to_element(page.one(f'[data-control="{control}"]'))
    mouse.click_and_hold()
    for _ in range(6):
        mouse.move_by_offset(pixels // 6, 0)
    mouse.release().perform()


def test_sliders_can_be_dragged(file_page: Page) -> None:
    file_page.has_numbers(".node", values(1, 0, 20))
    drag(file_page, "step", -72)
    file_page.shows(".where", "before training")
    file_page.has_numbers(".node", values(1, 0, 0))
    edges = len(file_page.all(".edge"))
    drag(file_page, "share", -60)
    file_page.until(lambda: file_page.one(".share output").text == "30%")
    file_page.until(lambda: 0 < len(file_page.all(".edge")) < edges)
    file_page.until(lambda: file_page.one('[data-control="share"]').get_attribute("value") == "0.3")
    assert file_page.errors() == []


def test_a_new_drawing_keeps_the_focus_and_opened_details(file_page: Page) -> None:
    focused = "return document.activeElement.dataset.view"
    file_page.script("document.querySelector('[data-view=\"run\"]').focus()")
    file_page.one('[data-view="run"]').send_keys(" ")
    file_page.until(lambda: file_page.all(".sentences"))
    assert file_page.script(focused) == "run"
    file_page.click(".verdict summary")
    assert file_page.all(".verdict[open]")
    file_page.click('[data-control="theme"]')
    file_page.until(lambda: file_page.script("return document.documentElement.dataset.theme") is not None)
    assert file_page.all(".verdict[open]")


def test_a_verdict_leads_to_a_sentence_that_shows_it(file_page: Page) -> None:
    file_page.has_numbers(".node", values(1, 0, 20))
    file_page.click('[data-control="show-flipped"]')
    file_page.has_numbers(".node", values(1, 1, 20))
    assert not file_page.all('[data-control="show-flipped"], .verdict[open]')  # it is shown now


def test_the_address_restores_the_state_of_the_file(file_page: Page) -> None:
    file_page.choose("run", "first")
    file_page.choose("step", 1)
    file_page.click('[data-view="layers"]')
    file_page.has_numbers(".cell", values(0, 0, 10))
    address = file_page.script("return location.href")
    file_page.browser.get("about:blank")
    file_page.browser.get(address)
    file_page.has_numbers(".cell", values(0, 0, 10))


def test_hostile_words_are_shown_as_text(browser: Any, tmp_path: Path) -> None:
    browser.get(write_page(tmp_path / "page.html", {"run": page_log(HOSTILE)}).as_uri())
    page = Page(browser)
    words = page.until(lambda: page.script("return [...document.querySelectorAll('.token')].map(t => t.textContent)"))
    assert words == list(HOSTILE)
    assert page.script("return document.documentElement.scrollWidth <= innerWidth")
    assert page.errors() == []


def test_a_text_of_512_words_can_be_moved_and_resized(browser: Any, tmp_path: Path) -> None:
    words = tuple(f"word{index}" for index in range(512))
    browser.get(write_page(tmp_path / "page.html", {"run": page_log(words)}).as_uri())
    page = Page(browser)
    page.shows(".zoom", "words 1 to 32 of 512")
    page.click('[data-control="zoom-in"]')
    page.shows(".zoom", "words 9 to 24 of 512")
    page.click('[data-control="zoom-out"]')
    page.click('[data-control="strip"]')
    page.shows(".zoom", "of 512")
    page.until(lambda: "words 1 to" not in page.one(".zoom").text)
    for _ in range(4):
        page.click('[data-control="zoom-out"]')
    page.shows(".zoom", "words 1 to 512 of 512")
    assert len(page.all(".node")) == 2 * 512
    assert page.errors() == []


def test_the_notebook_display_shows_the_page_in_a_frame(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><body>{frame_html({'run': run_log(0)})}</body>", encoding="utf-8")
    browser.get(path.as_uri())
    page = Page(browser)
    page.enter_frame()
    page.has_numbers(".node", values(0, 0, 20))
    page.click('[data-control="previous"]')
    page.has_numbers(".node", values(0, 0, 10))
    assert page.errors() == []
