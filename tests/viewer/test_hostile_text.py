"""Pages, tables and notebooks show all text as text; pages load nothing from the network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import HOSTILE, HOSTILE_TEXTS, attention_flow_of, attribution, conductance, label_errors, pages, ranking
from selenium_page import Page

import lightning_attnflow
from lightning_attnflow.attribution import colour_tokens
from lightning_attnflow.callbacks.recorder import write_verdicts
from lightning_attnflow.plots.sentence_flow import SentenceFlow
from lightning_attnflow.plots.tables import conductance_table, top_words_table
from lightning_attnflow.viewer.verdict import Verdict

PACKAGE = Path(lightning_attnflow.__file__).parent
MARKUP = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"


class _Elements(HTMLParser):
    """Names of the elements of a page, and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


PAGES = [
    *("flow.html", "attribution.html", "ranking.html", "errors.html", "tokens.html"),
    *("conductance.html", "dynamics.html", "monitor.html"),
]


@pytest.mark.parametrize("name", PAGES)
def test_pages_escape_all_text_and_load_nothing(name: str, tmp_path: Path) -> None:
    found = []
    for text in ("harmless", HOSTILE, *HOSTILE_TEXTS):
        pages(text)[name](tmp_path / name)
        elements = _Elements()
        elements.feed((tmp_path / name).read_text(encoding="utf-8"))
        found.append(elements)
    for hostile in found[1:]:
        assert hostile.names == found[0].names
        assert [name for name, _ in hostile.attributes] == [name for name, _ in found[0].attributes]
    for attribute, value in (pair for elements in found for pair in elements.attributes):
        assert attribute not in {"src", "href", "action"} or not re.match(r"\s*(https?:)?//", value)
    styles = "".join(re.findall(r"<style>.*?</style>", (tmp_path / name).read_text(encoding="utf-8"), re.DOTALL))
    assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", styles)


@pytest.mark.parametrize("name", PAGES)
def test_a_browser_shows_hostile_text_as_text(name: str, browser: Any, tmp_path: Path) -> None:
    pages(HOSTILE)[name](tmp_path / name)
    browser.get((tmp_path / name).as_uri())
    page = Page(browser)
    page.until(lambda: HOSTILE in page.script("return document.body.innerText"))
    assert page.all("img, body > script[src]") == []
    assert browser.title != "executed"
    assert page.errors() == []  # among them an address that could not be loaded


@pytest.mark.parametrize("text", [HOSTILE, *HOSTILE_TEXTS], ids=range(1 + len(HOSTILE_TEXTS)))
def test_text_in_markdown_is_shown_as_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    markdown = pytest.importorskip("markdown")  # which TensorBoard uses
    flow = conductance(text)
    sentence = SentenceFlow.from_flow(*attention_flow_of(text), edges=False)
    verdict = Verdict("collapsed", f"all {text}", f"Rule: {text}")
    writer = _Writer()
    monkeypatch.setattr("lightning_attnflow.callbacks.recorder._tensorboard_writer", lambda _: True)
    write_verdicts([verdict], 1, [writer], "attnflow")
    tables = {
        "errors": label_errors(text).markdown(),
        "conductance": conductance_table(flow),
        "attention": top_words_table(sentence),
        "verdict": writer.text,
    }
    for name, table in tables.items():
        elements = _Elements()
        elements.feed(markdown.markdown(table, extensions=["markdown.extensions.tables"]))
        allowed = {"table", "thead", "tbody", "tr", "th", "td", "p", "strong", "em"}
        assert set(elements.names) <= allowed, name
        assert all(attribute == "style" for attribute, _ in elements.attributes)
        assert not set("\u202e\u2066\u200b\u2028") & set(table)
        n_rows = sum(line.startswith("|") for line in table.splitlines())
        assert elements.names.count("tr") == max(0, n_rows - 1), name  # no text begins a row


class _Writer:
    """Records what is written to the text tab of TensorBoard."""

    def __init__(self) -> None:
        self.text = ""
        self.experiment = self

    def add_text(self, _tag: str, text: str, _step: int) -> None:
        self.text = text


def test_text_in_notebooks_is_escaped() -> None:
    assert "<img src" not in colour_tokens([HOSTILE], np.ones(1), caption=HOSTILE)
    for shown in (attribution(HOSTILE), label_errors(HOSTILE), ranking(HOSTILE)):
        names = _Elements()
        names.feed(shown._repr_html_())
        assert not {"img", "script"} & set(names.names)


def test_the_scripts_of_pages_insert_no_markup_and_fetch_from_their_own_server_only() -> None:
    scripts = [*PACKAGE.rglob("*.js"), *PACKAGE.rglob("*.html")]
    assert len(scripts) > 5
    for path in scripts:
        text = path.read_text(encoding="utf-8")
        assert not re.search(MARKUP, text), path
        addresses = set(re.findall(r"https?://[^\"'`\s]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, path
