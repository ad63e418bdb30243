"""Chromium for tests of pages, and the rules of accessibility (axe-core) in it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = ("--no-sandbox", "--disable-dev-shm-usage")


@contextlib.contextmanager
def open_browser(*flags: str) -> Iterator[Any]:
    """Start Chromium. Skips the test where there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine to load the page in: `make browser` installs it")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=[*_FLAGS, *flags])
        yield browser
        browser.close()


def list_violations(page: Any) -> list[str]:
    """The rules of axe-core that a page and its frames break, each with the first elements that break it."""
    base = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is missing")
    found = []
    for frame in page.frames:
        if not frame.evaluate("'axe' in window"):
            frame.evaluate(base.AXE_FILE_PATH.read_text())
        # each frame is asked by itself: a frame that already has axe-core would be checked twice
        for violation in frame.evaluate("axe.run({ resultTypes: ['violations'], iframes: false })")["violations"]:
            places = [node["html"][:160] + " " + node["failureSummary"] for node in violation["nodes"][:3]]
            found.append(f"{frame.url}: {violation['id']} ({len(violation['nodes'])}): {places}")
    return found
