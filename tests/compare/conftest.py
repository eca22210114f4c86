"""A real browser for the page that compare writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trainer.compare.comparison import Comparison
from trainer.compare.html import write_html

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window. Skipped where there is none, unless KEEL_REQUIRE_BROWSER=1 asks for a failure instead."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    missing = [] if program else ["a browser: apt-get install -y --no-install-recommends chromium-headless-shell"]
    missing += [] if find_spec("playwright") else ["what drives a browser: pip install -c constraints.txt playwright"]
    if missing:
        reason = f"there is not {' and not '.join(missing)}"
        if os.environ.get("KEEL_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program)
        yield running
        running.close()


class Opened:
    """A page from `file://`, and everything that it asked for or complained of."""

    def __init__(self, browser: Browser, path: Path, **context: Any):
        self.page: Page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}).new_page()
        self.page.set_default_timeout(8_000)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.url = path.as_uri()
        self.page.goto(self.url)
        self.page.wait_for_selector("html[data-ready]", state="attached")

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_text_contents()


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Any]:
    """Writes a comparison's page and opens it; at the end, nothing may have gone out, and nothing gone wrong."""
    found: list[Opened] = []

    def opens(comparison: Comparison, **context: Any) -> Opened:
        path = tmp_path / f"report{len(found)}.html"
        write_html(comparison, path)
        found.append(Opened(browser, path, **context))
        return found[-1]

    yield opens
    for one in found:
        assert one.requests == [one.url]
        assert not one.complaints
        one.page.context.close()
