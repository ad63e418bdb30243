"""Servers on loopback, over a small collection with one file name that is not UTF-8 and one that is a script."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from simsearch.web.safe_fetch import Fetcher
from simsearch.web.server import bind_socket, make_server, start_engines
from simsearch.web.settings import ServerSettings, choose_roots
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot

SCRIPT_NAME = "<img src=x onerror=alert(1)>&quot;'\"<script>alert(2)</script>.png".replace("/", "\N{DIVISION SLASH}")
TOKEN = "correct-horse-battery-staple"
WRITE_TOKEN = "staple-battery-horse-correct"


@contextlib.contextmanager
def serving(settings: ServerSettings, fetcher: Fetcher | None = None, *others: Path) -> Iterator[str]:
    """Run a server in a thread, as `simsearch serve` does, and give its URL; `others` are further collections."""
    is_ready = threading.Event()
    engines = start_engines(choose_roots(settings, [settings.collection, *map(str, others)]))
    bound = bind_socket(settings)
    server = make_server(engines, is_ready.set, fetcher)
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    try:
        assert is_ready.wait(30)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        bound.close()
        assert not thread.is_alive()


def jpeg(seed: int, size: tuple[int, int] = (96, 72)) -> bytes:
    """A JPEG that is not in the collection."""
    coarse = np.random.default_rng(1000 + seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen images; one has a copy, one a script as its name, one a name that is not UTF-8."""
    home = tmp_path_factory.mktemp("served")
    for seed in range(14):
        draw_picture(home / "photos" / ("lamp" if seed < 7 else "vase") / f"picture_{seed:02}.png", seed)
    draw_picture(home / "photos" / "odd" / SCRIPT_NAME, 100)
    strange = draw_picture(home / "photos" / "odd" / "strange.png", 101)
    os.rename(strange, os.fsencode(strange.parent) + b"/stra\xffnge.png")
    shutil.copy(home / "photos" / "lamp" / "picture_00.png", home / "photos" / "vase" / "copy.png")
    oneshot.ingest(home / "ix", [home / "photos"], HISTOGRAM)
    shutil.copytree(home / "ix", home / "unserved")
    return home / "ix"


@pytest.fixture
def own_collection(collection: Path, tmp_path: Path) -> Path:
    """A copy of the collection for one test, which may change it.

    It is not copied from what is served: closing a file in this process drops SQLite's locks on it.
    """
    return Path(shutil.copytree(collection.with_name("unserved"), tmp_path / "ix"))


@pytest.fixture(scope="session")
def address(collection: Path) -> Iterator[str]:
    """A server without a token."""
    with serving(
        ServerSettings(collection=str(collection), port=0, body_timeout_s=2.0, max_body_bytes=2_000_000)
    ) as found:
        yield found


@pytest.fixture(scope="session")
def guarded(collection: Path) -> Iterator[str]:
    """A server that requires a token."""
    with serving(ServerSettings(collection=str(collection), port=0, token=TOKEN, write_token=WRITE_TOKEN)) as found:
        yield found


OTHER_NAME = "vases & 100 % more {é}"
"""A name that has to be encoded in addresses and on pages."""


@pytest.fixture(scope="session")
def other_collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five other images."""
    home = tmp_path_factory.mktemp("other")
    for seed in range(5):
        draw_picture(home / "more" / f"other_{seed}.png", 200 + seed)
    oneshot.ingest(home / OTHER_NAME, [home / "more"], HISTOGRAM)
    return home / OTHER_NAME


@pytest.fixture(scope="session")
def several(collection: Path, other_collection: Path) -> Iterator[str]:
    """The address of the first of two collections in one server without a token."""
    settings = ServerSettings(collection=str(collection), port=0, body_timeout_s=2.0, max_body_bytes=2_000_000)
    with serving(settings, None, other_collection) as found:
        yield f"{found}/c/ix"


@pytest.fixture(scope="session")
def several_guarded(collection: Path, other_collection: Path) -> Iterator[str]:
    """The address of the first of two collections in one server that requires a token."""
    settings = ServerSettings(collection=str(collection), port=0, token=TOKEN, write_token=WRITE_TOKEN)
    with serving(settings, None, other_collection) as found:
        yield f"{found}/c/ix"


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as made:
        yield made
