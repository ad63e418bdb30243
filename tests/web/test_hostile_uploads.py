"""Pictures that are made to keep a server busy: others are still answered, and a signal still ends it."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import httpx
import pytest
from PIL import Image

from simsearch.web.settings import ServerSettings
from tests.support.pictures import encode
from tests.web.conftest import jpeg, serving
from tests.web.test_serving import start

pytestmark = pytest.mark.long

SEARCH = "/api/v1/search"


@pytest.fixture(scope="module")
def slow_picture() -> bytes:
    """A JPEG 2000 that takes more than half a second."""
    return encode(Image.new("L", (4200, 4200)), "JPEG2000")


class _Uploads:
    """Eight uploads of a slow picture at once, each with another content, and their statuses."""

    def __init__(self, address: str, picture: bytes) -> None:
        self.statuses: list[int] = []
        self._address = address
        self._threads = [threading.Thread(target=self._upload, args=(picture + bytes([n]),)) for n in range(8)]
        for thread in self._threads:
            thread.start()

    def _upload(self, data: bytes) -> None:
        try:
            answer = httpx.post(f"{self._address}{SEARCH}", files={"image": data}, timeout=400)
        except httpx.HTTPError:
            self.statuses.append(0)  # the server has ended
        else:
            self.statuses.append(answer.status_code)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(400)


def test_searches_by_id_and_by_usual_pictures_are_answered_during_an_attack(collection: Path, slow_picture: bytes):
    with serving(ServerSettings(collection=str(collection), port=0, answer_timeout_s=300.0)) as address:
        attack = _Uploads(address, slow_picture)
        for number in range(4):
            assert httpx.get(f"{address}{SEARCH}", params={"id": 1}, timeout=60).status_code == 200
            answer = httpx.post(f"{address}{SEARCH}", files={"image": jpeg(500 + number)}, timeout=60)
            assert answer.status_code == 200
        attack.join()
    assert len(attack.statuses) == 8
    assert set(attack.statuses) <= {200, 503}
    assert attack.statuses.count(200) >= 1


def test_a_signal_ends_the_server_during_an_attack(collection: Path, slow_picture: bytes):
    process, address = start("--in", str(collection), "--port", "0")
    attack = _Uploads(address.rstrip("/"), slow_picture)
    while b"simsearch_searches_waiting 0.0" in httpx.get(f"{address}metrics", timeout=60).content:
        if attack.statuses:
            break
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    attack.join()
    process.communicate()
