"""The page in a browser, by the names of its controls."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from runs import WORDS, values

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


def use_every_control(page: Page) -> None:
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
    page.click('[data-view="run"]')
    page.shows(".lines", "Solid: first. Dashed: second.")
    assert page.all('[data-scalar="drift"] .series.other')
    page.click('[data-view="layers"]')
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
