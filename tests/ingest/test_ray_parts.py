"""The parts of distributed ingest, tested without a cluster."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import typer.main
import xxhash

from simsearch import Collection
from simsearch.cli.app import app
from simsearch.errors import ClusterError, ImageError, NotAPicture, UnreadableFile
from simsearch.images.metadata import ExifMetadata
from simsearch.images.perceptual_hash import PictureHashes
from simsearch.images.statistics import PictureStatistics
from simsearch.ingest.embed import NewViews
from simsearch.ingest.prepare import PreparedFile
from simsearch.ingest.ray_cluster.blocks import choose_block_size, split_into_blocks
from simsearch.ingest.ray_cluster.cluster import check_address
from simsearch.ingest.ray_cluster.known_contents import KnownContents
from simsearch.ingest.ray_cluster.shards import ShardContent, ShardFolder, decode_shard, encode_shard
from simsearch.sources.scan import FoundFile
from simsearch.store.catalog import ImageProperties
from tests.conftest import HISTOGRAM
from tests.support import oneshot


def digest(number: int) -> str:
    return xxhash.xxh3_128_hexdigest(str(number).encode())


def file(name: str) -> FoundFile:
    return FoundFile(f"/photos/{name}", 10, 20)


@pytest.mark.parametrize(
    ("words", "address", "sources"),
    [
        (["photos"], None, ["photos"]),
        (["--ray", "photos"], "", ["photos"]),
        (["photos", "--ray"], "", ["photos"]),
        (["photos", "--ray", "--json"], "", ["photos"]),
        (["--ray", "--json", "photos"], "", ["photos"]),
        (["--ray=head:6379", "photos"], "head:6379", ["photos"]),
        (["--ray", "head-1.example:6379", "photos"], "head-1.example:6379", ["photos"]),
        (["photos", "more", "--ray", "auto"], "auto", ["photos", "more"]),
        (["--ray", "local", "photos"], "local", ["photos"]),
        (["--ray", "./auto"], "", ["./auto"]),
        (["--ray", "ray://10.0.0.1:10001", "photos"], "ray://10.0.0.1:10001", ["photos"]),
        (["--ray", "s3://bucket/photos"], "", ["s3://bucket/photos"]),
        (["photos", "--", "--ray"], None, ["photos", "--ray"]),
    ],
)
def test_ray_takes_an_address_and_never_a_source(words: list[str], address: str | None, sources: list[str]):
    command = typer.main.get_command(app).commands["index"]
    parameters = command.make_context("index", words).params
    assert (parameters["ray"], list(parameters["sources"])) == (address, sources)


def test_blocks_hold_all_files_in_order():
    files = [file(f"{number}.png") for number in range(1000)]
    for size in (1, 7, 256, 5000):
        blocks = list(split_into_blocks(files, size))
        assert [block.number for block in blocks] == list(range(-(-1000 // size)))
        assert [one for block in blocks for one in block.files] == files


@pytest.mark.parametrize(
    ("n_files", "n_views", "n_workers", "size"),
    [(1_000_000, 1, 16, 256), (1000, 1, 2, 125), (100, 1, 2, 32), (1_000_000, 11, 16, 23), (10_000, 1001, 4, 1)],
)
def test_a_block_is_so_large_that_every_worker_gets_some(n_files: int, n_views: int, n_workers: int, size: int):
    assert choose_block_size(n_files, n_views, n_workers) == size


def test_known_contents_list_the_missing_views():
    held = {digest(number): set(range(number % 4)) for number in range(3000) if number % 4}
    held["00" * 16] = held["ff" * 10 + "00" * 6] = {0}  # zeros at the end are part of a digest
    known = KnownContents.from_views(
        (content, number) for content, numbers in held.items() for number in sorted(numbers)
    )
    assert len(known) == len(held)
    for content in [*held, digest(-1), "ff" * 16, "ff" * 9 + "00" * 7]:
        expected = [number for number in range(4) if number not in held.get(content, ())]
        assert known.find_missing(content, range(4)) == expected
    assert KnownContents().find_missing(digest(0), range(2)) == [0, 1]


def test_a_shard_decodes_to_what_was_encoded(tmp_path: Path):
    random = np.random.default_rng(0)
    odd = "/photos/\udcff\udcfe b.png"  # a name that is no UTF-8
    metadata = ExifMetadata("2024-05-01T10:11:12", "Canon EOS 5D")
    facts = ImageProperties(
        640, 480, "JPEG", metadata, PictureHashes(-(2**63), 2**63 - 1), PictureStatistics(0.1, 0.0, 5)
    )
    files = [
        PreparedFile(FoundFile(odd, 2**40, -5), digest(1), facts),
        PreparedFile(FoundFile("s3://bucket/k", 3, 4, etag='"abc"'), digest(2), ImageProperties(1, 1, "PNG")),
        PreparedFile(file("copy.png"), digest(1), facts),
        PreparedFile(file("known.png"), digest(3)),
        PreparedFile(file("broken.jpg"), failure=ImageError("/photos/broken.jpg", "it is truncated", "fetch it again")),
        PreparedFile(file("text.jpg"), failure=NotAPicture("/photos/text.jpg", "it is text", "rename it")),
        PreparedFile(file("locked.jpg"), failure=UnreadableFile("/photos/locked.jpg", "denied", "check its rights")),
    ]
    new = {
        digest(1): NewViews([0, 3], random.standard_normal((2, 5), np.float32)),
        digest(2): NewViews([1], np.array([[np.nan, 0, -0.0, 1e-45, 1]], np.float32)),
    }
    shard = tmp_path / "shard.parquet"
    shard.write_bytes(encode_shard(ShardContent(files, new)))
    back = decode_shard(shard)
    for before, after in zip(files, back.files, strict=True):
        assert (after.file, after.digest, after.properties) == (before.file, before.digest, before.properties)
        assert (type(after.failure), str(after.failure)) == (type(before.failure), str(before.failure))
    assert {content: list(views.numbers) for content, views in back.new_views.items()} == {
        digest(1): [0, 3],
        digest(2): [1],
    }
    for content, views in new.items():
        assert back.new_views[content].vectors.tobytes() == views.vectors.tobytes()


def test_an_incomplete_or_foreign_shard_is_rejected(tmp_path: Path):
    whole = encode_shard(ShardContent([PreparedFile(file("a.png"), digest(1))], {}))
    for content in (b"", whole[: len(whole) // 2], b"PAR1 and no more"):
        (tmp_path / "shard").write_bytes(content)
        with pytest.raises(ValueError, match="is not a complete shard"):
            decode_shard(tmp_path / "shard")


def test_shards_of_another_run_are_not_read_deleted_or_overwritten(tmp_path: Path):
    one, other = ShardFolder(tmp_path, "one"), ShardFolder(tmp_path, "other")
    first, second = one.write_shard(3, b"x"), one.write_shard(3, b"y")
    kept = other.write_shard(3, b"z")
    assert (list(one.list_shards()), first.read_bytes(), second.read_bytes()) == ([second, first], b"x", b"y")
    one.clear()
    assert (list(one.list_shards()), kept.read_bytes()) == ([], b"z")
    other.clear()
    assert list(tmp_path.iterdir()) == []


def test_shards_of_a_killed_run_count_as_the_collections_own(photos: Path, collection: Path):
    kept = ShardFolder(collection, "builtin-0123456789abcdef").write_shard(0, bytes(10_000))
    oneshot.ingest(collection, [photos], HISTOGRAM)  # a place that holds nothing else is free
    with Collection.open(collection) as opened:
        size_bytes = opened.info().to_dict()["size_bytes"]
        assert size_bytes == sum(file.stat().st_size for file in collection.rglob("*") if file.is_file())
        assert opened.verify().problems == ()
    assert oneshot.prune(collection).to_dict()["freed_bytes"] >= 10_000
    assert not kept.parent.parent.exists()


def test_an_address_without_a_server_fails_at_once_with_one_line():
    started = time.monotonic()
    with pytest.raises(ClusterError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 .*refused"):
        check_address("127.0.0.1:1")
    assert time.monotonic() - started < 5


def test_a_server_that_sends_nothing_is_not_a_cluster():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(ClusterError, match="timed out"):
            check_address(f"127.0.0.1:{silent.getsockname()[1]}")
    assert time.monotonic() - started < 20


def test_a_server_of_another_kind_is_not_a_cluster():
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(ClusterError, match="is not a Ray cluster"):
                check_address(f"127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("address", ["", "head", "head:port", "head:99999", ":6379"])
def test_an_invalid_address_is_rejected(address: str):
    with pytest.raises(ClusterError, match=r"invalid address of a Ray cluster.*host:port"):
        check_address(address)


def test_an_address_for_rays_client_is_rejected_with_advice():
    with pytest.raises(ClusterError, match=r"Ray's client, which cannot index; run this on a machine of the cluster"):
        check_address("ray://127.0.0.1:10001")


@pytest.mark.parametrize("options", [["--ray"], ["--ray=auto"]])
def test_without_ray_the_extra_is_named_and_nothing_is_written(options: list[str], photos: Path, collection: Path):
    words = ["simsearch", "index", str(photos), "--into", str(collection), "--backbone", "histogram", *options]
    code = (
        f"import sys\nsys.modules['ray'] = None\nsys.argv = {words!r}\nfrom simsearch.cli import main\nsys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    command = "pip install 'ray[data]>=2.50' 'pyarrow>=20'"
    expected = f"simsearch: distributed ingest needs an optional package; install it: {command}\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)
    assert not collection.exists()
