"""The page in TensorBoard, in a real browser; its numbers are those of Python."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from runs import run_log, sentence, values
from selenium_page import Page, use_every_control

from lightning_attnflow.viewer.record import step_record
from lightning_attnflow.viewer.summary import record_summary


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


def test_every_control_of_the_plugin(plugin_page: Page) -> None:
    use_every_control(plugin_page)
    assert plugin_page.errors() == []


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


def test_the_plugin_is_an_entry_point_of_the_package() -> None:
    found = [point.value for point in entry_points(group="tensorboard_plugins")]
    assert "lightning_attnflow.viewer.plugin:AttentionFlowPlugin" in found
