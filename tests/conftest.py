"""A headless browser. Continuous integration always has one; elsewhere the tests that need it are skipped without."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

INSTALL = "apt-get install chromium chromium-driver && pip install selenium"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium of 1400 x 900 pixels, without network access except to this machine."""
    binary, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver_path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"the browser tests need chromium and chromedriver: {INSTALL}")
        pytest.skip(f"chromium or chromedriver is not installed: {INSTALL}")
    webdriver = pytest.importorskip("selenium.webdriver", reason=INSTALL)
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    offline = "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.add_argument(f"--host-resolver-rules={offline}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    size = {"width": 1400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.implicitly_wait(10)
    yield driver
    driver.quit()
