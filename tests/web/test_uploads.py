"""Adding pictures over HTTP: stored under their digests and indexed; nothing is left of what is refused."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import xxhash
from PIL import Image

from simsearch import Collection
from simsearch.errors import UsageError
from simsearch.files import OUTPUT_MARK
from simsearch.web.settings import ServerSettings, choose_roots
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.support.disks import fill, small_disk
from tests.web.conftest import TOKEN, WRITE_TOKEN, jpeg, serving
from tests.web.test_hostile import bomb

IMAGES = "/api/v1/images"
WRITE = {"Authorization": f"Bearer {WRITE_TOKEN}"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection `ix` of three pictures in `photos`, and an empty folder `uploads`."""
    home = tmp_path_factory.mktemp("uploading")
    for seed in range(3):
        draw_picture(home / "photos" / f"picture_{seed}.png", seed)
    oneshot.ingest(home / "ix", [home / "photos"], HISTOGRAM)
    (home / "uploads").mkdir()
    return home


@pytest.fixture(scope="module")
def settings(home: Path) -> ServerSettings:
    return ServerSettings(
        collection=str(home / "ix"), port=0, token=TOKEN, write_token=WRITE_TOKEN, allow_upload=str(home / "uploads")
    )


@pytest.fixture(scope="module")
def writer(settings: ServerSettings) -> Iterator[httpx.Client]:
    """A client with the write token."""
    with serving(settings) as address, httpx.Client(base_url=address, headers=WRITE, timeout=60) as made:
        yield made


def name(data: bytes, extension: str = ".jpg") -> str:
    return xxhash.xxh3_128_hexdigest(data) + extension


def list_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def wait_for_job(client: httpx.Client, answer: httpx.Response) -> str:
    end = time.monotonic() + 60
    while (state := client.get(answer.headers["location"]).json()["state"]) in ("waiting", "running"):
        assert time.monotonic() < end
        time.sleep(0.1)
    return str(state)


def encode(format: str, seed: int) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(jpeg(seed))).save(file, format)
    return file.getvalue()


def add(client: httpx.Client, *pictures: bytes, **fields: Any) -> httpx.Response:
    return client.post(IMAGES, files=[("image", picture) for picture in pictures], data={"wait": "25"} | fields)


def count_images(home: Path) -> int:
    with Collection.open(home / "ix") as opened:
        return opened.info().n_images


def test_an_added_picture_is_stored_under_its_content_and_found(writer: httpx.Client, home: Path):
    pictures = {".jpg": jpeg(50), ".png": encode("PNG", 51), ".webp": encode("WEBP", 52), ".gif": encode("GIF", 53)}
    before = count_images(home)
    answer = add(writer, *pictures.values())
    assert answer.status_code == 201, answer.text
    assert answer.json()["job"]["state"] == "done"
    for (extension, data), image in zip(pictures.items(), answer.json()["images"], strict=True):
        assert (image["name"], image["problem"]) == (name(data, extension), None)
        assert (home / "uploads" / image["name"]).read_bytes() == data
        hits = writer.post("/api/v1/search", files={"image": data}, data={"k": "1"}).json()["hits"]
        assert (hits[0]["image_id"], hits[0]["similarity"]) == (image["image_id"], pytest.approx(1, abs=1e-5))
        assert writer.get(f"{IMAGES}/{image['image_id']}/file").content == data
    assert count_images(home) == before + 4
    with Collection.open(home / "ix") as opened:
        assert opened.verify().problems == ()


def test_a_picture_that_is_there_is_not_stored_again(writer: httpx.Client, home: Path):
    first = add(writer, jpeg(60), jpeg(60))
    assert first.status_code == 201
    ids = [image["image_id"] for image in first.json()["images"]]
    assert ids[0] == ids[1] is not None
    before = list_names(home / "uploads")
    again = writer.post(IMAGES, content=jpeg(60), headers={"Content-Type": "image/jpeg"})
    assert (again.status_code, again.json()["job"]) == (200, None)
    assert again.json()["images"][0]["image_id"] == ids[0]
    of_source = add(writer, (home / "photos" / "picture_1.png").read_bytes())
    assert (of_source.status_code, of_source.json()["images"][0]["image_id"]) == (200, 2)
    assert list_names(home / "uploads") == before


@pytest.mark.parametrize(
    "data",
    [b"no picture", b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", jpeg(70)[:-400], bomb(10_000),
     b"%PDF-1.4", b"P6 9 9 255\n", b"\xff\xd8\xff" + bytes(100)],
    ids=["text", "empty", "SVG", "truncated", "bomb", "PDF", "PPM without pixels", "damaged"],
)  # fmt: skip
def test_what_is_no_picture_is_refused_with_all_of_its_request(writer: httpx.Client, home: Path, data: bytes):
    before = list_names(home / "uploads")
    answer = add(writer, jpeg(71), data)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert str(home) not in answer.text
    assert list_names(home / "uploads") == before


@pytest.mark.parametrize("sent", ["../../evil.jpg", "/etc/passwd", "a\0b.jpg", ".htaccess", "x.php", "<script>.jpg"])
def test_the_name_that_a_visitor_gives_is_not_used(writer: httpx.Client, home: Path, sent: str):
    answer = writer.post(IMAGES, files={"image": (sent, (home / "photos" / "picture_0.png").read_bytes())})
    assert answer.status_code == 200
    assert answer.json()["images"][0]["name"] == name((home / "photos" / "picture_0.png").read_bytes(), ".png")


def test_a_picture_that_indexing_leaves_out_is_removed_with_the_reason(writer: httpx.Client, home: Path):
    file = io.BytesIO()
    Image.open(io.BytesIO(jpeg(72))).save(file, "JPEG", comment=OUTPUT_MARK)
    answer = add(writer, file.getvalue())
    image = answer.json()["images"][0]
    assert image["image_id"] is None
    assert "simsearch" in image["problem"]
    assert image["name"] not in list_names(home / "uploads")


def test_a_request_that_does_not_wait_gets_a_job_and_uploads_at_once_share_runs(writer: httpx.Client, home: Path):
    answers: list[httpx.Response] = []
    threads = [
        threading.Thread(target=lambda seed=seed: answers.append(add(writer, jpeg(seed), wait="0")))
        for seed in range(80, 88)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {202}
    assert {wait_for_job(writer, answer) for answer in answers} == {"done"}
    assert len({answer.json()["job"]["job_id"] for answer in answers}) < len(answers)
    for seed in range(80, 88):
        found = writer.get(IMAGES, params={"where": f"name = '{name(jpeg(seed))}'"}).json()
        assert found["total"] == 1


def test_only_the_write_token_may_add_and_only_where_it_is_allowed(
    writer: httpx.Client, guarded: str, address: str, home: Path
):
    picture = {"files": {"image": jpeg(90)}}
    place = str(writer.base_url.join(IMAGES))
    assert httpx.post(place, **picture).status_code == 401
    assert httpx.post(place, headers={"Authorization": f"Bearer {TOKEN}"}, **picture).status_code == 403
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert httpx.post(place, headers=WRITE | headers, **picture).status_code == 403
    for server, headers in ((guarded, WRITE), (address, {})):
        answer = httpx.post(f"{server}{IMAGES}", headers=headers, **picture)
        assert (answer.status_code, answer.json()["detail"]) == (400, "this server stores no pictures")
    assert name(jpeg(90)) not in list_names(home / "uploads")


@pytest.mark.parametrize("fields", [{"wait": "-1"}, {"wait": "1000"}, {"wait": "x"}, {"where": "id = 1"}])
def test_wrong_parameters_are_refused(writer: httpx.Client, fields: dict[str, str]):
    assert add(writer, jpeg(90), **fields).status_code == 422
    assert writer.post(IMAGES).status_code == 400


def test_uploads_take_no_more_than_the_limit_and_leave_free_space(home: Path, tmp_path: Path):
    one, other = jpeg(91), jpeg(92)
    for limits in ({"max_upload_bytes": len(one) + 10}, {"min_free_bytes": 10**18}):
        folder = tmp_path / next(iter(limits))
        folder.mkdir()
        (folder / name(other)).write_bytes(other)
        settings = ServerSettings(collection=str(home / "ix"), port=0, allow_upload=str(folder), **limits)
        with serving(settings) as address:
            answer = httpx.post(f"{address}{IMAGES}", files={"image": one}, timeout=60)
        assert answer.status_code == 507
        assert answer.headers["content-type"] == "application/problem+json"
        assert list_names(folder) == {name(other)}


def test_a_full_disk_leaves_nothing_behind(home: Path, tmp_path: Path):
    with small_disk(tmp_path / "disk", 256) as disk:
        large = encode("BMP", 93)  # 20 kB
        fill(disk, 28)
        settings = ServerSettings(collection=str(home / "ix"), port=0, allow_upload=str(disk), min_free_bytes=0)
        with serving(settings) as address:
            answer = httpx.post(
                f"{address}{IMAGES}", files=[("image", large), ("image", encode("BMP", 94))], timeout=60
            )
        assert answer.status_code == 507, answer.text
        assert list_names(disk) == {"filling"}


def test_what_a_stopped_server_has_stored_is_indexed_with_the_next_upload(settings: ServerSettings, home: Path):
    with serving(settings) as address:
        answer = httpx.post(f"{address}{IMAGES}", files={"image": jpeg(95)}, data={"wait": "0"}, headers=WRITE)
        assert answer.status_code == 202
    with serving(settings) as address, httpx.Client(base_url=address, headers=WRITE, timeout=60) as client:
        assert add(client, jpeg(96)).status_code == 201
        assert add(client, jpeg(95)).status_code == 200


def test_a_folder_that_cannot_take_uploads_is_refused_at_the_start(home: Path, tmp_path: Path):
    for folder, said in (
        (tmp_path / "none", "there is no folder"), (home / "ix", "is in the folder of the collection"),
        (Path("/"), "whole disk"),
    ):  # fmt: skip
        settings = ServerSettings(collection=str(home / "ix"), port=0, allow_upload=str(folder))
        with pytest.raises(UsageError, match=said), serving(settings):
            pass
    with pytest.raises(UsageError, match="several collections"):
        choose_roots(ServerSettings(collection="a", allow_upload=str(tmp_path)), ["a", "b"])
