"""Make the pictures of the page in the README from a run of the main recipe, and one of a run that fails.

    apt-get install chromium chromium-driver && pip install selenium pillow
    python recipes/finetune_sentiment.py
    python recipes/finetune_sentiment.py --validations_per_epoch 5
    python recipes/debug_a_run.py
    python recipes/pictures.py

Writes `viewer_network.png` and `conductance_flow.png` of a sentence explained with the model of the first run,
`viewer_training.gif` of the second, which is validated more often, and `viewer_verdict.png` of the one that fails.
"""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune_sentiment import EXPLAINED
from jsonargparse import auto_cli
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lightning_attnflow import conductance_flow
from lightning_attnflow.viewer import read_runs, write_page

INSTALL = "apt-get install chromium chromium-driver && pip install selenium pillow"
SIZE, TALLER = (1400, 700), (1400, 790)
SECONDS_PER_FRAME = 0.9


@contextmanager
def browser(size: tuple[int, int] = SIZE) -> Iterator[Any]:
    """A headless Chromium."""
    binary, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        binary = None
    if binary is None or driver_path is None:
        raise SystemExit(f"error: pictures need a browser: {INSTALL}")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        yield driver
    finally:
        driver.quit()


def show(driver: Any, page: Path, state: str, script: str = "") -> bytes:
    """Open the page in a state, run a script in it, and return the picture as PNG."""
    driver.get("about:blank")
    driver.get(f"{page.resolve().as_uri()}#theme=light&{state}")
    driver.implicitly_wait(10)
    driver.find_element("css selector", ".view > *")
    if script:
        driver.execute_script(script)
    time.sleep(0.5)  # fonts and the highlighting of a node
    return driver.get_screenshot_as_png()


def screenshot(page: Path, state: str, path: Path) -> Path:
    """Write a picture of the page in a state."""
    with browser() as driver:
        path.write_bytes(show(driver, page, state))
    return path


def main(
    checkpoint: Path = Path("runs/finetune_sentiment/version_0/checkpoint"),
    log_dir: Path = Path("runs/finetune_sentiment"),
    broken: Path = Path("runs/debug/learning_rate"),
    out: Path = Path(__file__).parent / "pictures",
    word: str = "never",
) -> None:
    """Make the pictures.

    Args:
        checkpoint: model that explains the sentence.
        log_dir: directory of the main recipe's logs; the last run in it is shown.
        broken: log directory of the run that fails.
        out: directory of the pictures.
        word: word whose flow is selected in the picture of the network.
    """
    from PIL import Image

    runs = read_runs(log_dir)
    name, log = list(runs.items())[-1]
    page = write_page(log_dir / "page.html", {"finetune_sentiment": log})
    verdict_page = write_page(broken.parent / "verdict.html", {broken.name: read_runs(broken)[broken.name]})
    probe = log.sentence("probe_00")
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(checkpoint),
        AutoTokenizer.from_pretrained(checkpoint),
    )
    flow = conductance_flow(model, tokenizer, EXPLAINED)
    flow.plot().figure.savefig(out / "conductance_flow.png")
    explained, index = flow.to_html(log_dir / "explained.html"), flow.tokens.index(word)
    hover = (
        f'document.querySelector(\'.node[data-row="0"][data-index="{index}"]\')'
        ".dispatchEvent(new MouseEvent('mouseenter'))"
    )
    with browser() as driver:
        (out / "viewer_network.png").write_bytes(show(driver, explained, "view=network", hover))
        frames = [
            Image.open(io.BytesIO(show(driver, page, f"name=probe_00&view=training&step={step['step']}")))
            for step in probe["steps"]
        ]
    with browser(TALLER) as driver:
        opened = "document.querySelector('.verdict').open = true; window.dispatchEvent(new Event('resize'))"
        (out / "viewer_verdict.png").write_bytes(show(driver, verdict_page, "view=training", opened))
    # one palette and no dither, so that only what changes between frames takes space
    colours = frames[-1].convert("RGB").quantize(255, method=Image.Quantize.MAXCOVERAGE)
    same = [frame.convert("RGB").quantize(palette=colours, dither=Image.Dither.NONE) for frame in frames]
    milliseconds = int(1000 * SECONDS_PER_FRAME)
    same[0].save(
        out / "viewer_training.gif",
        save_all=True,
        append_images=same[1:],
        duration=milliseconds,
        loop=0,
        optimize=True,
    )
    print(f"pictures of {checkpoint}, {log_dir / name} and {broken} in {out}")


if __name__ == "__main__":
    auto_cli(main)
