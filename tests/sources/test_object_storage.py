"""A collection of pictures in a bucket equals that of a folder, in spite of network failures."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from simsearch import Collection
from simsearch.errors import NoImages, SourceError, UsageError
from simsearch.evaluation.label_file import read_label_file
from simsearch.evaluation.labels import LabelGroups, group_by_folder
from simsearch.ingest.run import IngestReport
from simsearch.models.weights import WeightsOptions
from simsearch.report.drawing.contact_sheet import draw_contact_sheet
from tests.conftest import HISTOGRAM, ROOT, draw_picture
from tests.support import oneshot
from tests.support.command_line import run, run_process
from tests.support.servers import serving
from tests.support.stores import Bucket, Proxy, configure, half, new_bucket, proxy, s3_server
from tests.web.conftest import serving as web_server

pytestmark = pytest.mark.long

OBJECTS = ROOT / "data" / "objects"
KINDS = ("bell", "vase")
N_MANY = 300


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def between(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    """The proxy between simsearch and the server: it counts requests and injects failures."""
    with proxy(server) as made:
        configure(made.address, monkeypatch, tmp_path)
        yield made


@pytest.fixture
def bucket(server: str, between: Proxy, folder: Path) -> Bucket:
    """20 photographs in two folders of a bucket."""
    bucket = new_bucket(server)
    bucket.put_folder(folder, "objects/")
    return bucket


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same photographs on disk."""
    place = tmp_path_factory.mktemp("local") / "objects"
    for kind in KINDS:
        for path in sorted((OBJECTS / kind).iterdir()):
            (place / kind).mkdir(parents=True, exist_ok=True)
            (place / kind / path.name).write_bytes(path.read_bytes())
    return place


def ingest(collection: Path, *sources: Path | str) -> IngestReport:
    return oneshot.ingest(collection, [str(source) for source in sources], HISTOGRAM)


def content(collection: Path, root: str) -> dict[str, list]:
    """The content of a catalog, with paths relative to a root."""
    queries = {
        "images": "SELECT id, digest, width, height, format, size_bytes FROM images ORDER BY id",
        "files": f"SELECT substr(path, {len(root) + 1}), size_bytes, image_id FROM files ORDER BY path",
        "views": "SELECT id, image_id, kind, parameters FROM views ORDER BY id",
        "vectors": "SELECT view_id, vector FROM vectors ORDER BY view_id",
    }
    with contextlib.closing(sqlite3.connect(collection / "catalog.db")) as connection:
        return {table: connection.execute(query).fetchall() for table, query in queries.items()}


def states(collection: Path) -> list:
    with contextlib.closing(sqlite3.connect(collection / "catalog.db")) as connection:
        return connection.execute("SELECT path, etag FROM files ORDER BY path").fetchall()


def found(collection: Path, query: str, k: int = 100) -> list[str]:
    with Collection.open(collection) as opened:
        return [path for hit in opened.search(query, k=k).hits for path in hit.paths]


# The same as of a folder


def test_a_bucket_gives_the_collection_that_a_folder_gives(bucket: Bucket, folder: Path, tmp_path: Path):
    report = ingest(tmp_path / "remote", f"{bucket.address}/objects")
    ingest(tmp_path / "local", folder)
    assert (report.n_files, report.n_embedded, report.skips) == (20, 20, ())
    assert content(tmp_path / "remote", f"{bucket.address}/objects/") == content(tmp_path / "local", f"{folder}/")


def test_a_second_run_embeds_nothing_and_reads_no_object(bucket: Bucket, between: Proxy, collection: Path):
    ingest(collection, f"{bucket.address}/objects")
    assert len(between.of("GET", ".jpg")) == 20
    between.seen.clear()
    report = ingest(collection, f"{bucket.address}/objects/")
    assert (report.n_embedded, report.n_reused, report.stages["read"]) == (0, 20, 0)
    assert [path for path in between.of("GET") if "list-type" not in path] == []
    assert len(between.seen) == 1


def test_another_content_of_the_same_size_is_another_etag_and_is_embedded_again(
    bucket: Bucket, collection: Path, folder: Path
):
    one, other = (folder / "bell" / "bell_01.jpg").read_bytes(), (folder / "vase" / "vase_01.jpg").read_bytes()
    longest = max(len(one), len(other))
    bucket.put("objects/bell/new.jpg", one.ljust(longest, b"\0"))
    ingest(collection, bucket.address)
    bucket.put("objects/bell/new.jpg", other.ljust(longest, b"\0"))
    report = ingest(collection, bucket.address)
    assert (report.n_embedded, report.n_reused) == (1, 20)
    query = folder / "vase" / "vase_01.jpg"
    assert f"{bucket.address}/objects/bell/new.jpg" in found(collection, str(query), k=2)


def test_a_deleted_object_leaves_the_answers_and_a_renamed_one_costs_no_embedding(bucket: Bucket, collection: Path):
    ingest(collection, f"{bucket.address}/objects")
    data = bucket.client.get_object(Bucket=bucket.name, Key="objects/bell/bell_02.jpg")["Body"].read()
    bucket.delete("objects/bell/bell_01.jpg", "objects/bell/bell_02.jpg")
    bucket.put("objects/renamed/other name.jpg", data)
    report = ingest(collection, f"{bucket.address}/objects")
    assert (report.n_embedded, report.n_reused, report.n_gone, report.n_files) == (0, 19, 2, 19)
    paths = found(collection, f"{bucket.address}/objects/renamed/other name.jpg")
    assert paths[0] == f"{bucket.address}/objects/renamed/other name.jpg"
    assert f"{bucket.address}/objects/bell/bell_01.jpg" not in paths


def test_indexing_one_prefix_does_not_affect_another(bucket: Bucket, collection: Path, photos: Path):
    ingest(collection, f"{bucket.address}/objects/bell", photos)
    report = ingest(collection, f"{bucket.address}/objects/vase")
    assert (report.n_files, report.n_gone) == (32, 0)


def test_object_with_a_picture_extension_that_is_no_picture_is_skipped(bucket: Bucket, collection: Path):
    bucket.put("objects/broken.jpg", b"\xff\xd8\xff\xe0 and no more")
    bucket.put("objects/notes.txt", b"nothing to see")
    bucket.put("objects/film.mp4", b"\0\0\0\x18ftypmp42" + bytes(100_000))
    report = ingest(collection, f"{bucket.address}/objects")
    assert [skip.path for skip in report.skips] == [f"{bucket.address}/objects/broken.jpg"]
    assert report.n_files == 20


# Trouble


@pytest.mark.parametrize("seed", [1, 2])
def test_a_server_that_fails_half_of_all_requests_is_indexed_whole(
    bucket: Bucket, between: Proxy, folder: Path, tmp_path: Path, seed: int
):
    between.mood = half(seed)
    report = ingest(tmp_path / "remote", f"{bucket.address}/objects")
    assert (report.n_files, report.n_images, report.n_embedded, report.skips) == (20, 20, 20, ())
    assert len(between.of("GET", ".jpg")) > 30, "the proxy made no trouble: the test would show nothing"
    ingest(tmp_path / "local", folder)
    assert content(tmp_path / "remote", f"{bucket.address}/objects/") == content(tmp_path / "local", f"{folder}/")


def test_a_server_that_fails_every_request_is_one_clear_line_and_changes_nothing(
    bucket: Bucket, between: Proxy, tmp_path: Path
):
    collection = tmp_path / "ix"
    ingest(collection, f"{bucket.address}/objects")
    before = (collection / "catalog.db").read_bytes()
    between.mood = lambda method, path: "503"
    done = run("index", f"{bucket.address}/objects", "--into", collection, "--backbone", "histogram", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert f"{bucket.address}/objects cannot be read: the store answers 503 (10 times)" in done.stderr
    assert (collection / "catalog.db").read_bytes() == before


def test_object_that_always_fails_is_skipped_and_keeps_its_vectors(
    bucket: Bucket, between: Proxy, collection: Path, folder: Path
):
    ingest(collection, f"{bucket.address}/objects")
    bucket.put("objects/bell/bell_01.jpg", (folder / "vase" / "vase_01.jpg").read_bytes())
    between.mood = lambda method, path: "drop" if "bell_01" in path else "pass"
    report = ingest(collection, f"{bucket.address}/objects")
    address = f"{bucket.address}/objects/bell/bell_01.jpg"
    ((path, reason),) = [(skip.path, skip.reason) for skip in report.skips]
    assert path == address
    assert "the connection failed" in reason
    assert address in found(collection, str(folder / "bell" / "bell_01.jpg"), k=1)
    between.mood = lambda method, path: "pass"
    report = ingest(collection, f"{bucket.address}/objects")
    assert (report.n_embedded, report.n_reused, report.skips) == (0, 20, ())


def test_an_object_that_vanishes_between_listing_and_reading_is_a_skip(
    bucket: Bucket, between: Proxy, collection: Path
):
    between.mood = lambda method, path: "404" if "bell_01" in path and method == "GET" else "pass"
    report = ingest(collection, f"{bucket.address}/objects")
    (skip,) = report.skips
    assert skip.reason == "there is no such object; check the address"
    assert report.n_files == 19


def test_wrong_credentials_are_an_error_and_create_no_collection(bucket: Bucket, between: Proxy, collection: Path):
    between.mood = lambda method, path: "403"
    with pytest.raises(SourceError, match=r"access is denied .*AWS_PROFILE"):
        ingest(collection, f"{bucket.address}/objects")
    assert not collection.exists()


def test_a_missing_bucket_and_a_prefix_without_pictures_make_no_collection(bucket: Bucket, collection: Path):
    with pytest.raises(SourceError, match="there is no bucket"):
        ingest(collection, "s3://not-there-at-all/x")
    bucket.put("texts/a.txt", b"a")
    with pytest.raises(NoImages, match="no images in"):
        ingest(collection, f"{bucket.address}/texts")
    assert not collection.exists()


def test_a_killed_run_goes_on_to_the_same_collection(bucket: Bucket, between: Proxy, tmp_path: Path):
    for seed in range(N_MANY):
        bucket.put(f"many/{seed:03}.png", draw_picture(tmp_path / "one.png", seed).read_bytes())
    source = f"{bucket.address}/many"
    ingest(tmp_path / "whole", source)
    line = [sys.executable, "-m", "simsearch", "index", source, "--into", "ix", "--backbone", "histogram"]
    moments, n_partial = random.Random(0), 0
    for _ in range(4):
        between.seen.clear()
        between.mood = lambda method, path: "wait 0.15"
        process = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        n_read, deadline = moments.randint(150, N_MANY - 20), time.monotonic() + 30
        while len(between.of("GET", ".png")) < n_read and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        with contextlib.suppress(sqlite3.OperationalError):  # killed before the first table
            n_partial += 0 < len(content(tmp_path / "ix", source)["images"]) < N_MANY
        between.mood = lambda method, path: "pass"
    report = ingest(tmp_path / "ix", source)
    assert report.n_files == N_MANY
    assert content(tmp_path / "ix", source) == content(tmp_path / "whole", source)
    assert n_partial, "no kill fell between two batches: the test would show nothing"


def test_an_interrupted_run_ends_soon_although_the_server_is_silent(bucket: Bucket, between: Proxy, tmp_path: Path):
    between.mood = lambda method, path: "503" if ".jpg" in path else "pass"
    line = [sys.executable, "-m", "simsearch", "index", bucket.address, "--backbone", "histogram"]
    process = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while len(between.of("GET", ".jpg")) < 40 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)  # asking again would go on for two minutes
    assert process.returncode == 130
    assert "Traceback" not in errors


# Asking and looking after it


def test_object_can_be_a_query_like_a_file_but_not_offline(bucket: Bucket, collection: Path, folder: Path):
    ingest(collection, f"{bucket.address}/objects")
    address = f"{bucket.address}/objects/vase/vase_03.jpg"
    with Collection.open(collection) as opened:
        by_address, by_file = opened.search(address, k=5), opened.search(str(folder / "vase" / "vase_03.jpg"), k=5)
        assert by_address.hits == by_file.hits
        assert by_address.hits[0].path == address
        offline = WeightsOptions(offline=True)
        for ask in (
            lambda: opened.search(address, weights=offline),
            lambda: list(opened.search_each([bucket.address], weights=offline)),
        ):
            with pytest.raises(UsageError, match=r"is on the network; use a local file, or omit `offline=True`"):
                ask()
        each = list(opened.search_each([f"{bucket.address}/objects/bell"], k=1))
        assert len(each) == 10


def test_a_contact_sheet_shows_objects(bucket: Bucket, collection: Path, tmp_path: Path):
    ingest(collection, f"{bucket.address}/objects")
    done = run("query", f"{bucket.address}/objects/vase/vase_03.jpg", "--in", collection, "--sheet", "remote.png",
                   "-k", 3, cwd=tmp_path)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    with Collection.open(collection) as opened:
        hits = opened.search(f"{bucket.address}/objects/vase/vase_03.jpg", k=3).hits
    bucket.delete(*(hit.path.removeprefix(f"{bucket.address}/") for hit in hits))
    draw_contact_sheet([], hits, "histogram", str(tmp_path / "gone.png"))
    assert (tmp_path / "remote.png").stat().st_size > 3 * (tmp_path / "gone.png").stat().st_size
    offline = run("query", "--id", 1, "--in", collection, "--sheet", "x.png", "--offline", cwd=tmp_path)
    assert (offline.returncode, "is on the network" in offline.stderr) == (2, True)


def test_verify_reports_how_many_files_it_did_not_check(bucket: Bucket, collection: Path, photos: Path):
    ingest(collection, f"{bucket.address}/objects", photos)
    (photos / "a" / "picture_00.png").unlink()
    with Collection.open(collection) as opened:
        told = opened.verify()
    assert told.problems == ()
    assert [note.split(" ")[0] for note in told.notes] == ["20", "1"]
    assert "20 remote files were not checked" in told.notes[0]


@pytest.mark.parametrize("spelled", ["{}/objects/bell", "{}/objects/bell/", "S3{}"])
def test_a_prefix_can_be_taken_out(bucket: Bucket, collection: Path, spelled: str):
    bucket.put("objects/bell2/x.jpg", (OBJECTS / "lamp" / "lamp_01.jpg").read_bytes())
    ingest(collection, f"{bucket.address}/objects")
    if spelled.startswith("S3"):
        assert oneshot.remove(collection, ["S3" + bucket.address[2:] + "/objects/bell/bell_01.jpg"]) == 1
        return
    assert oneshot.remove(collection, [spelled.format(bucket.address)]) == 10
    with pytest.raises(UsageError, match="has no file s3://elsewhere"):
        oneshot.remove(collection, ["s3://elsewhere/objects"])
    with Collection.open(collection) as opened:
        assert opened.info().to_dict()["files"] == 11


def test_filters_know_buckets_and_prefixes(bucket: Bucket, collection: Path):
    ingest(collection, f"{bucket.address}/objects")
    with Collection.open(collection) as opened:
        for condition, n in [
            (f'folder = "{bucket.address}/objects/bell"', 10),
            (f'path glob "{bucket.address}/objects/vase/*"', 10),
            (f'path like "{bucket.address}/objects/vase/vase_0%"', 9),
            (f'path ~ "{bucket.name}/objects/bell"', 10),
            (f'path = "{bucket.address}/objects/vase/vase_01.jpg"', 1),
            ("class = vase", 10),
            ("name = vase_01.jpg", 1),
        ]:
            assert len(opened.search(1, k=None, where=condition).hits) == n, condition


def test_a_page_shows_objects_and_visitors_cannot_make_the_server_read_any(
    bucket: Bucket, between: Proxy, collection: Path
):
    from simsearch.web.settings import ServerSettings

    ingest(collection, f"{bucket.address}/objects")
    bucket.put("secret.jpg", (OBJECTS / "lamp" / "lamp_01.jpg").read_bytes())
    settings = ServerSettings(collection=str(collection), port=0, allow_url=True)
    with web_server(settings) as address, httpx.Client(base_url=address) as client:
        shown = client.get("/api/v1/images/1/thumbnail")
        assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")
        between.seen.clear()
        for asked in (f"{bucket.address}/secret.jpg", f"{between.address}/{bucket.name}/secret.jpg", "gs://b/a.jpg"):
            for field in ("url", "image", "id", "path"):
                answer = client.post("/api/v1/search", data={field: asked})
                assert 400 <= answer.status_code < 500, (field, asked, answer.text)
            assert 400 <= client.get("/api/v1/search", params={"id": asked}).status_code < 500
            assert 400 <= client.get(f"/api/v1/images/{asked}/thumbnail").status_code < 500
        assert between.seen == []


def test_the_folders_of_a_bucket_are_classes(bucket: Bucket, collection: Path, tmp_path: Path):
    ingest(collection, f"{bucket.address}/objects")
    files = [f"{bucket.address}/objects/{kind}/{kind}_01.jpg" for kind in KINDS]
    for source in (f"{bucket.address}/objects", f"S3{bucket.address[2:]}/objects/", "list.txt"):
        assert group_by_folder(files, source).labels == dict(zip(files, KINDS, strict=True))
    assert group_by_folder(files[:1], f"{bucket.address}/objects").labels == {files[0]: "bell"}
    (tmp_path / "labels.csv").write_text(f"path,label\nbell/bell_01.jpg,round\n{files[1]},tall\n")
    found = read_label_file(str(tmp_path / "labels.csv"), files, f"{bucket.address}/objects")
    assert isinstance(found, LabelGroups)
    assert found.labels == {files[0]: "round", files[1]: "tall"}
    (tmp_path / "notes.csv").write_text(f"path,room\n{files[0]},attic\n")
    assert oneshot.annotate(collection, tmp_path / "notes.csv").n_images == 1


def test_a_benchmark_runs_on_a_bucket(bucket: Bucket, tmp_path: Path):
    done = run("benchmark", f"{bucket.address}/objects", "--backbone", "histogram", "--into", "ix", "--out", "out",
                   "--json", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["dataset"]["images"] == 20
    assert {row["backbone"] for row in document["rows"]} == {"histogram"}


def test_exported_collection_of_objects_is_imported_with_their_states(bucket: Bucket, collection: Path, tmp_path: Path):
    ingest(collection, f"{bucket.address}/objects")
    with Collection.open(collection) as opened:
        assert opened.export(tmp_path / "rows.parquet").n_rows == 20
    done = oneshot.import_embeddings(tmp_path / "other", tmp_path / "rows.parquet", "mine")
    assert (done.n_added, done.skips) == (20, ())
    root = f"{bucket.address}/objects/"
    assert content(tmp_path / "other", root)["files"] == content(collection, root)["files"]
    assert states(tmp_path / "other") == states(collection)


def test_duplicates_and_maps_look_at_objects(bucket: Bucket, collection: Path, folder: Path, tmp_path: Path):
    bucket.put("objects/copies/bell.jpg", (folder / "bell" / "bell_01.jpg").read_bytes())
    ingest(collection, f"{bucket.address}/objects")
    done = run("duplicates", "--in", collection, "--json", cwd=tmp_path)
    assert (done.returncode, done.stdout.count("copies/bell.jpg") > 0) == (0, True), done.stderr
    done = run("map", "--in", collection, "--out", "map.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{bucket.address}/objects/" in (tmp_path / "map.html").read_text()


# Lists on the web


def test_a_list_on_the_web_is_indexed_and_kept_up_to_date(collection: Path, folder: Path):
    pictures = {f"/{path.name}": path.read_bytes() for path in sorted((folder / "bell").iterdir())}
    listed = {"/lists/bells.txt": "".join(f"..{name}\n" for name in pictures).encode()}
    asked: list[str] = []
    with serving(pictures | listed, asked) as web:
        report = ingest(collection, f"{web}/lists/bells.txt")
        assert (report.n_files, report.n_embedded, report.skips) == (10, 10, ())
        asked.clear()
        report = ingest(collection, f"{web}/lists/bells.txt")
        assert (report.n_embedded, report.n_reused) == (0, 10)
        assert [one for one in asked if one.startswith("GET")] == ["GET /lists/bells.txt"]


def test_where_a_server_knows_no_head_pictures_are_read_again_and_not_embedded(collection: Path, folder: Path):
    pictures = {f"/{path.name}": path.read_bytes() for path in sorted((folder / "bell").iterdir())}
    with serving(pictures, knows_head=False) as web:
        sources = [f"{web}{name}" for name in pictures]
        assert ingest(collection, *sources).n_embedded == 10
        report = ingest(collection, *sources)
    assert (report.n_embedded, report.n_reused) == (0, 10)
    assert report.stages["read"] > 0


# The command


def test_the_command_names_the_collection_after_the_prefix(bucket: Bucket, tmp_path: Path):
    done = run_process("index", f"{bucket.address}/objects/bell/", "--backbone", "histogram", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{os.path.join('indexes', 'bell')}: 10 images in 10 files")
