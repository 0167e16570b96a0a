"""The page in a real browser: from a file without network, and in TensorBoard; its numbers are those of Python."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import WORDS, heads, run_log, sentence, values
from test_page import HOSTILE, page_log

from lightning_attnflow.viewer import frame_html, write_page
from lightning_attnflow.viewer.record import step_record
from lightning_attnflow.viewer.summary import record_summary

HARMLESS = ("Three.js", "WebGL", "Lit is in dev mode")  # of TensorBoard itself


class Page:
    """The page in the browser, by the names of its controls."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def all(self, selector: str) -> list[Any]:
        self.browser.implicitly_wait(0)
        found = self.browser.find_elements("css selector", selector)
        self.browser.implicitly_wait(10)
        return found

    def one(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def enter_frame(self) -> None:
        """Go into the frame of the plugin inside TensorBoard."""
        frames = self.until(lambda: self.all("iframe"), 30)
        self.browser.switch_to.frame(frames[0])

    def text(self, selector: str) -> str:
        return self.until(lambda: self.one(selector).text)

    def click(self, selector: str) -> None:
        self.until(lambda: self.one(selector).click() or True)

    def choose(self, control: str, value: object) -> None:
        self.script(
            "const box = document.querySelector(arguments[0]); box.value = arguments[1];"
            "box.dispatchEvent(new Event(box.type === 'range' ? 'input' : 'change', {bubbles: true}))",
            f'[data-control="{control}"]',
            str(value),
        )

    def key(self, name: str) -> None:
        self.script("window.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0], bubbles: true}))", name)

    def script(self, code: str, *arguments: object) -> Any:
        return self.browser.execute_script(code, *arguments)

    def numbers(self, selector: str) -> np.ndarray:
        code = "return [...document.querySelectorAll(arguments[0])].map(node => Number(node.dataset.value))"
        return np.array(self.script(code, selector), dtype=np.float32)

    def until(self, condition: Callable[[], Any], seconds: float = 20) -> Any:
        """Wait until the condition returns something true, ignoring nodes that were redrawn meanwhile."""
        from selenium.common.exceptions import WebDriverException

        end = time.monotonic() + seconds
        while True:
            try:
                if result := condition():
                    return result
            except WebDriverException:
                pass
            if time.monotonic() > end:
                raise AssertionError("the page did not reach the expected state")
            time.sleep(0.05)

    def shows(self, selector: str, text: str) -> None:
        self.until(lambda: text in self.one(selector).text)

    def has_numbers(self, selector: str, expected: np.ndarray, tolerance: float = 0.0) -> None:
        wanted = np.asarray(expected, dtype=np.float32).ravel()

        def is_shown() -> bool:
            numbers = self.numbers(selector)
            return numbers.shape == wanted.shape and np.allclose(numbers, wanted, rtol=0, atol=tolerance)

        self.until(is_shown)

    def errors(self) -> list[str]:
        messages = self.browser.get_log("browser")
        return [m["message"] for m in messages if not any(words in m["message"] for words in HARMLESS)]


@pytest.fixture
def file_page(browser: Any, tmp_path: Path) -> Page:
    """Two runs in a file opened from disk."""
    path = write_page(tmp_path / "page.html", {"first": run_log(0), "second": run_log(1)})
    browser.get("about:blank")
    browser.get(path.as_uri())
    return Page(browser)


@pytest.fixture(scope="module")
def log_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    for number, name in enumerate(("first", "second")):
        _write(folder / name, run_log(number).records())
    return folder


def _write(folder: Path, records: list[dict]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    for record in records:
        writer.add_event(Event(step=record["step"], wall_time=time.time(), summary=record_summary(record)))
    writer.close()


@pytest.fixture(scope="module")
def tensorboard(log_directory: Path) -> Iterator[str]:
    """The address of a TensorBoard on the log directory."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(log_directory), "--host", "localhost"]
    process = subprocess.Popen(
        [*command, "--port", "0", "--reload_interval", "1"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if address := re.search(r"at (http://\S+)", line):
            break
    else:
        raise AssertionError("".join(lines))
    yield address[1]
    process.terminate()
    process.wait(20)
    process.stderr.close()


@pytest.fixture
def plugin_page(browser: Any, tensorboard: str) -> Page:
    """The tab of the plugin, inside its frame."""
    browser.get("about:blank")
    browser.get(f"{tensorboard}#attention_flow")
    page = Page(browser)
    page.enter_frame()
    page.until(lambda: page.all('[data-role="words"]'), 30)
    return page


def _use_every_control(page: Page) -> None:
    """Start from the last step of the second run, the state after opening."""
    page.shows('[data-role="prediction"]', "positive")  # the sentence with a flip comes first
    page.has_numbers(".token", values(1, 0, 20)[0])
    page.has_numbers(".node", values(1, 0, 20))
    assert [token.text for token in page.all(".token")] == list(WORDS)
    assert page.all("b > *, .token b") == []

    page.click('[data-control="previous"]')
    page.has_numbers(".node", values(1, 0, 10))
    page.click('[data-control="next"]')
    page.choose("step", 0)
    page.has_numbers(".node", values(1, 0, 0))
    page.shows(".where", "before training")
    page.choose("run", "first")
    page.has_numbers(".node", values(0, 0, 20))
    page.shows(".verdicts", "The prediction turned.")
    page.shows('[data-role="description"]', "From step 0 to 20 the prediction turned from negative to positive")

    edges = page.until(lambda: len(page.all(".edge")))
    page.choose("share", 0.4)
    page.until(lambda: 0 < len(page.all(".edge")) < edges)
    assert re.search(r"carry 4\d% of the flow", page.text(".detail"))
    page.script("document.querySelectorAll('.node')[8].dispatchEvent(new MouseEvent('mouseenter'))")
    page.shows(".detail-value", f"{abs(values(0, 0, 20)[1, 2]):.4f}")
    assert page.all(".traced .node.chosen")
    assert page.all(".edge.on")
    page.script("document.querySelectorAll('.node')[8].dispatchEvent(new MouseEvent('mouseleave'))")
    page.until(lambda: not page.all(".traced"))
    page.script("document.querySelectorAll('.node')[8].dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    page.until(lambda: page.all(".traced .node.chosen"))
    page.key("Escape")
    page.until(lambda: not page.all(".traced"))

    page.choose("layer", 2)
    page.has_numbers(".token", values(0, 0, 20)[2])
    page.click('[data-view="layers"]')
    page.has_numbers(".cell", values(0, 0, 20))
    page.choose("kind", "attention_flow")
    page.shows(".canvas", "range covers nearly everything")
    page.shows(".canvas", "saturated: not importance")
    page.choose("kind", "conductance")

    page.click('[data-view="training"]')
    page.has_numbers(".cell", np.stack([values(0, 0, step)[0] for step in (0, 10, 20)]))
    assert [bar.get_attribute("data-class") for bar in page.all(".class-bar")] == ["negative", "negative", "positive"]
    page.script("document.querySelector('.cell[data-step=\"10\"]').dispatchEvent(new MouseEvent('click'))")
    page.shows(".where", "step 10")

    page.click('[data-view="run"]')
    page.until(lambda: page.all('[data-scalar="drift"]') and page.all('[data-layers="special_share"]'))
    assert "1.00" in page.text('[data-scalar="drift"] b')
    assert len(page.all(".sentences tbody tr")) == 2
    assert [cell.text for cell in page.all(".sentences td:nth-child(4)")] == ["negative", "negative"]
    assert [cell.text for cell in page.all(".sentences td.wrong")] == ["negative"]  # of the flipped sentence
    page.click(".sentences tbody tr:nth-child(2)")
    page.has_numbers(".node", values(0, 1, 10))

    page.key("ArrowUp")
    page.has_numbers(".node", values(0, 0, 10))
    page.key("ArrowRight")
    page.has_numbers(".node", values(0, 0, 20))
    page.key("2")
    page.has_numbers(".cell", values(0, 0, 20))
    page.choose("order", "order")
    page.click('[data-name="probe_01"] button')
    page.has_numbers(".cell", values(0, 1, 20))

    page.choose("other-run", "second")
    page.has_numbers(".pair section:last-child .cell", values(1, 1, 20))
    page.choose("other-step", 0)
    page.has_numbers(".pair section:last-child .cell", values(1, 1, 0))
    page.choose("other-run", "")
    page.until(lambda: not page.all(".pair"))

    ground = "return getComputedStyle(document.body).backgroundColor"
    before = page.script(ground)
    page.click('[data-control="theme"]')
    page.until(lambda: page.script(ground) != before)
    page.click('[data-control="help"]')
    page.shows(".help", "How to read this")
    page.key("Escape")
    page.until(lambda: not page.all(".help"))
    for name in ("rollout", "attention"):
        page.choose("kind", name)
        page.click('[data-view="network"]')
        page.until(lambda: page.all(".edge"))


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
    _use_every_control(file_page)
    assert file_page.errors() == []
    assert file_page.script("return performance.getEntriesByType('resource').length") == 0


def test_every_control_of_the_plugin(plugin_page: Page) -> None:
    _use_every_control(plugin_page)
    assert plugin_page.errors() == []


def test_the_address_restores_the_state_of_the_file(file_page: Page) -> None:
    file_page.choose("run", "first")
    file_page.choose("step", 1)
    file_page.click('[data-view="layers"]')
    file_page.has_numbers(".cell", values(0, 0, 10))
    address = file_page.script("return location.href")
    file_page.browser.get("about:blank")
    file_page.browser.get(address)
    file_page.has_numbers(".cell", values(0, 0, 10))


def test_the_address_restores_the_state_of_the_plugin(plugin_page: Page) -> None:
    plugin_page.choose("run", "first")
    plugin_page.click('[data-view="layers"]')
    plugin_page.has_numbers(".cell", values(0, 0, 20))
    address = plugin_page.script("return window.parent.location.href")
    browser = plugin_page.browser
    browser.switch_to.default_content()
    browser.get("about:blank")
    browser.get(address)
    plugin_page.enter_frame()
    plugin_page.has_numbers(".cell", values(0, 0, 20))


def test_new_steps_appear_while_the_plugin_is_open(plugin_page: Page, log_directory: Path) -> None:
    plugin_page.choose("run", "second")
    plugin_page.has_numbers(".node", values(1, 0, 20))
    _write(log_directory / "second", [step_record(step=30, epoch=3), sentence(1, 0, 30), sentence(1, 1, 30)])
    plugin_page.until(lambda: "step 30" in plugin_page.one(".where").text, 40)
    plugin_page.has_numbers(".node", values(1, 0, 30))
    assert plugin_page.errors() == []


def test_records_of_another_version_are_refused_in_words(plugin_page: Page, log_directory: Path) -> None:
    _write(log_directory / "newer", [{**step_record(step=0), "version": 99}])
    plugin_page.until(lambda: plugin_page.all('option[value="newer"]'), 40)
    plugin_page.choose("run", "newer")
    plugin_page.shows(".error", "version 99; expected version 1 to 2. Update lightning-attnflow.")
    plugin_page.click('[data-run="first"]')
    plugin_page.has_numbers(".node", values(0, 0, 20))
    assert all("status of 422" in message for message in plugin_page.errors())


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


def test_the_plugin_is_an_entry_point_of_the_package() -> None:
    found = [point.value for point in entry_points(group="tensorboard_plugins")]
    assert "lightning_attnflow.viewer.plugin:AttentionFlowPlugin" in found


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
