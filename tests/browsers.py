"""A headless Chromium for tests of pages; where there is none, the tests that want it are skipped with the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def open_browser() -> Iterator[Chrome]:
    """One browser, closed at the end; to be used by a fixture of a module."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install -e '.[dev]'")
    binary = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium with its driver here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1440,1000"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


class Visit:
    """A page in a browser, in short words.

    Args:
        browser: which.
        path: of the page.
    """

    def __init__(self, browser: Chrome, path: Path) -> None:
        self.browser, self.path = browser, path
        self.devtools("Emulation.clearDeviceMetricsOverride")
        self.media()
        self.js("try { localStorage.clear() } catch { }")  # pages from files share what they remember
        self._drain()
        self.devtools("Performance.enable", timeDomain="threadTicks")
        before = self._task_seconds()
        browser.get(path.as_uri())
        self._start = before if self._task_seconds() >= before else 0.0  # a new process counts from 0

    def devtools(self, command: str, **arguments: Any) -> Any:
        """Send a command of the Chrome DevTools Protocol."""
        return self.browser.execute_cdp_cmd(command, arguments)

    def media(self, scheme: str = "light", kind: str = "screen") -> None:
        """Show the page as a reader of this scheme sees it, or as paper."""
        wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.devtools("Emulation.setEmulatedMedia", media=kind, features=features)

    def width(self, pixels: int) -> None:
        """Show it on a screen so wide."""
        size = {"width": pixels, "height": 844, "deviceScaleFactor": 1, "mobile": pixels < 500}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)

    def js(self, code: str, *arguments: Any) -> Any:
        """Run a function's body."""
        return self.browser.execute_script(code, *arguments)

    def texts(self, selector: str) -> list[str]:
        """The visible texts of elements."""
        return list(self.js("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", selector))

    def click(self, selector: str) -> None:
        """Click on the first such element."""
        self.browser.find_element("css selector", selector).click()

    def keys(self, *keys: str) -> None:
        """Press keys wherever the focus is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def choose(self, selector: str, text: str) -> None:
        """Choose what reads so in a list."""
        from selenium.webdriver.support.select import Select

        Select(self.browser.find_element("css selector", selector)).select_by_visible_text(text)

    def wait(self, condition: str) -> None:
        """Wait until an expression is true, five seconds at most."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.browser, 5, poll_frequency=0.02).until(lambda _: self.js(f"return {condition}"))

    def complaints(self) -> list[str]:
        """What the console has said since the page was opened."""
        return [entry["message"] for entry in self.browser.get_log("browser")]  # type: ignore[no-untyped-call]

    def requests(self) -> list[str]:
        """The addresses that were fetched since the page was opened, without those that its policy has stopped."""
        logged = self.browser.get_log("performance")  # type: ignore[no-untyped-call]
        events = [json.loads(entry["message"])["message"] for entry in logged]
        stopped = {
            event["params"]["requestId"]
            for event in events
            if event["method"] == "Network.loadingFailed" and event["params"].get("blockedReason") == "csp"
        }
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent" and event["params"]["requestId"] not in stopped
        ]

    def busy(self) -> float:
        """Seconds of a processor that the page has taken since it was opened."""
        return self._task_seconds() - self._start

    def _task_seconds(self) -> float:
        found = {one["name"]: one["value"] for one in self.devtools("Performance.getMetrics")["metrics"]}
        return float(found["TaskDuration"])

    def _drain(self) -> None:
        self.complaints()
        self.requests()
