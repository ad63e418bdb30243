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
