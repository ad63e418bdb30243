"""The API returns the results of the library, and a problem with advice for an invalid request."""

from __future__ import annotations

import concurrent.futures
import io
from pathlib import Path

import httpx
import pytest
from PIL import Image

from simsearch import Collection, ModelChoice
from simsearch.search.examples import Crop, Example
from simsearch.web.settings import ServerSettings
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.web.conftest import jpeg, serving

SEARCH = "/api/v1/search"


def found(answer: httpx.Response) -> list[tuple[int, float]]:
    assert answer.status_code == 200, answer.text
    return [(hit["image_id"], hit["similarity"]) for hit in answer.json()["hits"]]


def expected(collection: Path, examples: list[Example], **options: object) -> list[tuple[int, float]]:
    with Collection.open(collection) as opened:
        answer = opened.search(examples, **options)  # type: ignore[arg-type]
    return [(hit.image_id, hit.similarity) for hit in answer.hits]


def test_a_search_by_id_is_that_of_the_library(client: httpx.Client, collection: Path):
    answer = client.get(SEARCH, params={"id": 3, "k": 7})
    assert found(answer) == expected(collection, [Example(3)], k=7)
    assert answer.json()["backbone"] == "histogram"


def test_a_search_by_an_uploaded_picture_is_that_of_the_library(client: httpx.Client, collection: Path):
    for seed in range(5):
        answer = client.post(SEARCH, files={"image": jpeg(seed)}, data={"k": "9"})
        assert found(answer) == expected(collection, [Example(jpeg(seed))], k=9)


def test_negative_examples_and_ids_are_combined(client: httpx.Client, collection: Path):
    files = [("image", jpeg(1)), ("unlike_image", jpeg(2))]
    answer = client.post(SEARCH, files=files, data={"id": ["4", "5"], "unlike_id": "6"})
    examples = [Example(jpeg(1)), Example(4), Example(5), Example(jpeg(2), -1.0), Example(6, -1.0)]
    assert found(answer) == expected(collection, examples, k=20)


def test_every_option_reaches_the_search(client: httpx.Client, collection: Path):
    options = {"k": 3, "offset": 1, "min_similarity": 0.1, "exclude_self": True, "where": "class = 'lamp'"}
    wanted = expected(collection, [Example(2)], **options)
    assert len(wanted) == 3
    assert found(client.get(SEARCH, params={"id": 2} | options)) == wanted
    data = {name: str(value) for name, value in options.items()} | {"id": "2"}
    assert found(client.post(SEARCH, data=data)) == wanted


def test_a_crop_applies_to_the_first_picture(client: httpx.Client, collection: Path):
    crop = "0.5,0,0.5,0.5"
    answer = client.post(SEARCH, files={"image": jpeg(3)}, data={"crop": crop})
    assert found(answer) == expected(collection, [Example(jpeg(3), crop=Crop.parse(crop))], k=20)
    assert found(answer) != found(client.post(SEARCH, files={"image": jpeg(3)}))


def test_concurrent_requests_get_their_own_results(client: httpx.Client, collection: Path):
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda seed: client.post(SEARCH, files={"image": jpeg(seed)}), range(36)))
    with Collection.open(collection) as opened:
        for seed, answer in enumerate(answers):
            hits = opened.search(jpeg(seed), k=20).hits
            assert found(answer) == [(hit.image_id, hit.similarity) for hit in hits]


def test_an_image_lists_its_size_and_all_of_its_files(client: httpx.Client):
    document = client.get("/api/v1/images/1").json()
    assert (document["width"], document["height"], document["format"]) == (48, 48, "PNG")
    names = [Path(file["path"]).name for file in document["files"]]
    assert sorted(names) == ["copy.png", "picture_00.png"]
    assert all(file["size_bytes"] > 100 and file["modified_at"] for file in document["files"])


def test_a_byte_that_is_not_utf8_becomes_a_replacement_character(client: httpx.Client):
    hits = client.get(SEARCH, params={"id": 1, "k": 100}).json()["hits"]
    assert any(hit["path"].endswith("/stra\N{REPLACEMENT CHARACTER}nge.png") for hit in hits)


@pytest.mark.parametrize("side", [160, 640])
def test_a_thumbnail_shows_the_whole_picture_and_is_cached_by_its_etag(client: httpx.Client, side: int):
    address = f"/api/v1/images/4/thumbnail?side={side}"
    answer = client.get(address)
    assert answer.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(answer.content)).size == (48, 51)
    assert "immutable" in answer.headers["cache-control"]
    again = client.get(address, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get("/api/v1/images/5/thumbnail", headers={"If-None-Match": answer.headers["etag"]})
    assert other.status_code == 200


def test_a_file_is_served_unchanged_and_as_a_download(client: httpx.Client, collection: Path):
    answer = client.get("/api/v1/images/2/file")
    assert answer.content == (collection.parent / "photos" / "lamp" / "picture_01.png").read_bytes()
    assert answer.headers["content-disposition"].startswith("attachment")


def test_stats_health_and_readiness(client: httpx.Client):
    stats = client.get("/api/v1/stats").json()
    assert (stats["images"], stats["files"]) == (16, 17)
    assert [model["backbone"] for model in stats["models"]] == ["histogram"]
    assert client.get("/api/v1/health").json() == {"status": "ok"}
    assert client.get("/api/v1/ready").json() == {"status": "ready"}


def test_metrics_count_requests_by_route_and_stages_of_searches(client: httpx.Client):
    client.get(SEARCH, params={"id": 3})
    client.get("/api/v1/images/999999")
    lines = client.get("/metrics").text.splitlines()
    counted = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[:1] != "#"}
    assert counted['simsearch_requests_total{collection="ix",method="GET",route="/api/v1/search",status="200"}'] >= 1
    assert (
        counted['simsearch_requests_total{collection="ix",method="GET",route="/api/v1/images/{image_id}",status="404"}']
        >= 1
    )
    assert counted['simsearch_search_stage_seconds_count{collection="ix",stage="search"}'] >= 1


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({}, 400),
        ({"crop": "0,0,1,1", "text": "lamp"}, 400),
        ({"text": "lamp", "k": 1}, 400),  # the histogram answers no texts
        ({"text": ""}, 422),
        ({"id": 0}, 422),
        ({"id": 2**63}, 422),
        ({"id": "one"}, 422),
        ({"id": 1, "k": 0}, 422),
        ({"id": 1, "k": 100_000}, 422),
        ({"id": 1, "min_similarity": 2}, 422),
        ({"id": 1, "min_similarity": "nan"}, 422),
        ({"id": 999_999}, 404),
        ({"id": 1, "backbone": "vgg16"}, 404),
        ({"id": 1, "crop": "0,0,0,0"}, 400),
        ({"id": 1, "crop": "a,b"}, 400),
        ({"id": 1, "where": "width >"}, 400),
        ({"id": 1, "rerank": "dba10"}, 422),
        ({"id": 1, "unlike_id": 1}, 400),
    ],
)
def test_an_invalid_request_gets_a_status_a_problem_and_advice(
    client: httpx.Client, parameters: dict[str, object], status: int
):
    answer = client.get(SEARCH, params=parameters)  # type: ignore[arg-type]
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert set(document) == {"type", "title", "status", "detail", "problem", "advice"}
    assert document["status"] == status
    assert document["detail"] == document["problem"] != ""
    assert document["advice"]


def test_a_crop_in_pixels_is_searched_with_although_the_page_cannot_draw_it(client: httpx.Client):
    page = client.get("/", params={"like": 1, "crop": "4,4,20,20"})
    assert page.status_code == 200
    assert 'class="cut"' in page.text
    assert 'aria-hidden="true" hidden>' in page.text


def test_the_page_of_an_image_without_a_vector_shows_no_neighbors(tmp_path: Path, photos: Path):
    oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
    new = draw_picture(photos / "new.png", 77)
    oneshot.ingest(tmp_path / "ix", [new.parent], ModelChoice(backbone="builtin"))
    settings = ServerSettings(collection=str(tmp_path / "ix"), port=0, backbone="histogram")
    with serving(settings) as address, httpx.Client(base_url=address) as client:
        assert "Nearest neighbors" in client.get("/images/1").text
        page = client.get("/images/13")
        assert page.status_code == 200
        assert "new.png" in page.text
        assert "Nearest neighbors" not in page.text


def test_a_request_without_a_picture_is_refused(client: httpx.Client):
    answer = client.post(SEARCH, data={"k": "3"})
    assert answer.status_code == 400
    assert "no query" in answer.json()["problem"]


def test_images_indexed_while_serving_are_found_at_once(tmp_path: Path, photos: Path):
    oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
    with (
        serving(ServerSettings(collection=str(tmp_path / "ix"), port=0)) as address,
        httpx.Client(base_url=address) as client,
    ):
        assert len(found(client.get(SEARCH, params={"id": 1, "k": 50}))) == 12
        new = draw_picture(photos / "new.png", 77)
        (photos / "a" / "picture_03.png").unlink()
        oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
        answer = client.post(SEARCH, files={"image": new.read_bytes()}, data={"k": "50"})
        assert len(found(answer)) == 12
        assert answer.json()["hits"][0]["path"] == f"{photos.name}/new.png"
        assert answer.json()["hits"][0]["similarity"] == 1.0
        assert client.get("/api/v1/images/4/thumbnail").status_code == 404  # it was removed


def test_an_overwritten_file_is_not_served_as_the_image(tmp_path: Path, photos: Path):
    oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
    (photos / "a" / "picture_00.png").write_bytes(b"secret of another program")
    with serving(ServerSettings(collection=str(tmp_path / "ix"), port=0)) as address:
        for what in ("file", "thumbnail"):
            answer = httpx.get(f"{address}/api/v1/images/1/{what}")
            assert answer.status_code == 410
            assert b"secret" not in answer.content
            assert "changed since it was indexed" in answer.json()["problem"]
