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
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing")
    found = []
    for frame in page.frames:
        for violation in axe.Axe().run(frame).response["violations"]:
            places = [node["html"][:160] + " " + node["failureSummary"] for node in violation["nodes"][:3]]
            found.append(f"{frame.url}: {violation['id']} ({len(violation['nodes'])}): {places}")
    return found
