"""Scanning addresses: found files, their order, and skips, for prefixes, objects, lists and URLs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from simsearch.errors import ImageError, NotAPicture, SourceError, UnreadableFile
from simsearch.images.decode import compute_digest, decode_image, read_raw_file
from simsearch.sources.scan import Scan, scan_sources
from tests.conftest import draw_picture
from tests.sources.test_addresses import ODD_KEYS
from tests.support.servers import serving
from tests.support.stores import Bucket, configure, half, new_bucket, proxy, s3_server

pytestmark = pytest.mark.long

LIMIT = 10**6
MANY = [f"many/{number:04}.jpg" for number in range(1001)]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    configure(server, monkeypatch, tmp_path)
    return new_bucket(server)


@pytest.fixture(scope="module")
def crowded(server: str) -> Bucket:
    """A bucket with more keys than one page of a listing."""
    bucket = new_bucket(server)
    for key in MANY:
        bucket.put(key, b"x")
    return bucket


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return draw_picture(tmp_path_factory.mktemp("picture") / "a.png", 1, side_px=300).read_bytes()


def fill(bucket: Bucket, *keys: str) -> Bucket:
    for key in keys:
        bucket.put(key, b"x")
    return bucket


def keys(bucket: Bucket, *sources: str, stdin: bytes = b"") -> list[str]:
    return [file.path.removeprefix(f"{bucket.address}/") for file in scan_sources(sources, stdin).files]


def reasons(found: Scan) -> dict[str, str]:
    return {skip.path: skip.reason for skip in found.skips}


# Folders and objects in a store


def test_a_prefix_is_walked_in_the_order_in_which_a_folder_is(bucket: Bucket, tmp_path: Path):
    names = ("c.jpg", "b/z.jpg", "b/a/deep.jpg", "a.jpg", "b.jpg", "B.jpg", "10.jpg", "9.jpg", "b-1.jpg", "ä.jpg")
    fill(bucket, *(f"pre/{name}" for name in names))
    for name in names:
        (tmp_path / "pre" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pre" / name).write_bytes(b"x")
    local = [file.path.removeprefix(f"{tmp_path}/") for file in scan_sources([str(tmp_path / "pre")]).files]
    assert keys(bucket, f"{bucket.address}/pre") == local


@pytest.mark.parametrize("end", ["", "/"])
def test_a_prefix_is_a_folder_with_a_slash_at_its_end_or_without(bucket: Bucket, end: str):
    fill(bucket, "pre/a.jpg", "prefix2/x.jpg", "pre.jpg", "pre")
    bucket.delete("pre")
    found = scan_sources([f"{bucket.address}/pre{end}"])
    assert [file.path for file in found.files] == [f"{bucket.address}/pre/a.jpg"]
    assert found.is_gone(f"{bucket.address}/pre/gone.jpg")
    assert not found.is_gone(f"{bucket.address}/prefix2/x.jpg")
    assert not found.is_gone(f"{bucket.address}/pre.jpg")


@pytest.mark.parametrize("end", ["", "/"])
def test_a_whole_bucket_is_a_source(bucket: Bucket, end: str):
    fill(bucket, "a.jpg", "pre/b.jpg")
    found = scan_sources([bucket.address + end])
    assert [file.path for file in found.files] == [f"{bucket.address}/a.jpg", f"{bucket.address}/pre/b.jpg"]
    assert found.is_gone(f"{bucket.address}/gone.jpg")
    assert not found.is_gone(f"{bucket.address}2/gone.jpg")


def test_an_object_that_is_named_is_that_object(bucket: Bucket):
    fill(bucket, "pre/a.jpg", "pre/a.jpg.jpg", "scan")
    found = scan_sources([f"{bucket.address}/pre/a.jpg", f"{bucket.address}/scan"])
    assert [file.path for file in found.files] == [f"{bucket.address}/pre/a.jpg", f"{bucket.address}/scan"]
    assert found.folders == []


def test_an_empty_object_that_is_named_is_there(bucket: Bucket):
    bucket.put("empty.jpg", b"")
    (file,) = scan_sources([f"{bucket.address}/empty.jpg"]).files
    assert (file.path, file.size_bytes) == (f"{bucket.address}/empty.jpg", 0)
    with pytest.raises(NotAPicture, match="the file is empty"):
        decode_image(
            read_raw_file(file.path, has_picture_extension=True, max_pixels=LIMIT).data, file.path, max_pixels=LIMIT
        )


def test_size_time_and_etag_are_those_of_the_object(bucket: Bucket):
    etag = bucket.put("a.jpg", b"12345")
    (listed,) = scan_sources([bucket.address]).files
    (named,) = scan_sources([f"{bucket.address}/a.jpg"]).files
    assert (listed.size_bytes, listed.etag) == (named.size_bytes, named.etag) == (5, etag)
    assert listed.mtime_ns > 0


def test_hidden_keys_and_folders_of_systems_are_left_out(bucket: Bucket):
    hidden = [".a.jpg", "pre/._a.jpg", "pre/.thumbs/a.jpg", "__MACOSX/a.jpg", "pre/@eaDir/a.jpg"]
    fill(bucket, "seen.jpg", "pre/seen.jpg", "pre/@eaDir.jpg", *hidden)
    assert keys(bucket, bucket.address) == ["pre/@eaDir.jpg", "pre/seen.jpg", "seen.jpg"]
    assert keys(bucket, f"{bucket.address}/pre/.thumbs") == ["pre/.thumbs/a.jpg"]


def test_markers_of_folders_are_no_files(bucket: Bucket):
    bucket.put("pre/", b"")
    bucket.put("pre", b"")
    bucket.put("pre/sub/", b"")
    fill(bucket, "pre/a.jpg")
    assert keys(bucket, f"{bucket.address}/pre") == ["pre/a.jpg"]
    bucket.delete("pre/a.jpg")
    assert keys(bucket, f"{bucket.address}/pre") == []


def test_every_key_is_found_and_can_be_read(bucket: Bucket):
    put = {key for key in ODD_KEYS if "\n" not in key}
    for key in put:
        bucket.put(f"odd/{key}", key.encode())
    found = scan_sources([f"{bucket.address}/odd"])
    assert {file.path for file in found.files} == {f"{bucket.address}/odd/{key}" for key in put}
    for file in found.files:
        raw = read_raw_file(file.path, has_picture_extension=True, max_pixels=LIMIT)
        assert raw.data.decode() == file.path.removeprefix(f"{bucket.address}/odd/")
        assert (raw.path, raw.size_bytes, raw.etag) == (file.path, file.size_bytes, file.etag)


def test_all_pages_are_listed_and_only_a_failed_page_is_retried(
    server: str, crowded: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    failed = []

    def first_of_each(method: str, path: str) -> str:
        if "list-type" not in path or path in failed:
            return "pass"
        failed.append(path)
        return "503"

    with proxy(server, first_of_each) as between:
        configure(between.address, monkeypatch, tmp_path)
        assert keys(crowded, f"{crowded.address}/many") == MANY
        assert len(between.of("GET", "list-type")) == 4


def test_second_scan_in_the_same_process_sees_changes(bucket: Bucket):
    fill(bucket, "a.jpg", "b.jpg")
    before = scan_sources([bucket.address]).files
    bucket.put("a.jpg", b"y")
    bucket.delete("b.jpg")
    bucket.put("c.jpg", b"z")
    after = scan_sources([bucket.address]).files
    assert [file.path[-5:] for file in after] == ["a.jpg", "c.jpg"]
    assert after[0].etag != before[0].etag


# What is not there, or shut


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("s3://no-such-bucket-here/pre", "there is no bucket no-such-bucket-here; check its name"),
        ("{bucket}/nothing", "there is no such object or folder; check the address"),
        ("{bucket}/pre/a.jpg/", "there is no such object or folder; check the address"),
        ("{bucket}/nothing.jpg", "there is no such object or folder; check the address"),
        ("{bucket}/nothing.txt", "there is no such object or folder; check the address"),
        ("s3://", "the address has no bucket; write s3://bucket/folder"),
        ("ftp://host/a.jpg", "ftp:// is not a supported kind of address; give an address with s3://"),
    ],
)
def test_a_source_that_is_not_there_is_an_error(bucket: Bucket, source: str, told: str):
    fill(bucket, "pre/a.jpg")
    with pytest.raises(SourceError) as caught:
        scan_sources([source.format(bucket=bucket.address)])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_denied_access_is_an_error_with_advice(
    server: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with proxy(server, lambda method, path: "403") as between:
        configure(between.address, monkeypatch, tmp_path)
        with pytest.raises(SourceError, match=r"access is denied \(403 AccessDenied\); ask the owner"):
            scan_sources([f"{bucket.address}/pre"])
        assert len(between.seen) == 2, "what is denied is not asked again"


def test_a_listing_that_fails_midway_is_an_error_and_never_an_empty_folder(
    server: str, crowded: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with proxy(server, lambda method, path: "403" if "continuation" in path else "pass") as between:
        configure(between.address, monkeypatch, tmp_path)
        with pytest.raises(SourceError, match="access is denied"):
            scan_sources([f"{crowded.address}/many/"])
        found = scan_sources(["-"], f"{crowded.address}/many/\n".encode())
        assert (found.files, found.folders) == ([], [])
        assert not found.is_gone(f"{crowded.address}/many/0000.jpg")
        assert "access is denied" in reasons(found)[f"{crowded.address}/many/"]


# Reading


def test_an_object_that_vanished_is_unreadable(bucket: Bucket):
    fill(bucket, "a.jpg")
    (file,) = scan_sources([bucket.address]).files
    bucket.delete("a.jpg")
    with pytest.raises(UnreadableFile, match="there is no such object"):
        read_raw_file(file.path, has_picture_extension=True, max_pixels=LIMIT)


def test_of_an_object_that_was_replaced_the_state_counts_that_was_read(bucket: Bucket):
    fill(bucket, "a.jpg")
    (file,) = scan_sources([bucket.address]).files
    etag = bucket.put("a.jpg", b"other")
    raw = read_raw_file(file.path, has_picture_extension=True, max_pixels=LIMIT)
    assert (raw.etag, raw.digest, raw.size_bytes) == (etag, compute_digest(b"other"), 5)
    assert raw.etag != file.etag


def test_an_object_larger_than_a_picture_may_be_is_refused_before_it_is_read(bucket: Bucket):
    bucket.put("a.jpg", b"x" * 801)
    with pytest.raises(ImageError, match=r"more than the limit of 0 megapixels; raise it with") as told:
        read_raw_file(f"{bucket.address}/a.jpg", has_picture_extension=True, max_pixels=100)
    assert not isinstance(told.value, UnreadableFile)


def test_of_a_film_only_the_beginning_is_read(
    server: str, bucket: Bucket, picture: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    bucket.put("film", b"\0\0\0\x18ftypmp42" + bytes(3_000_000))
    bucket.put("nothing", b"")
    bucket.put("scan", picture)
    sent = []
    with proxy(server) as between:
        configure(between.address, monkeypatch, tmp_path)
        for name in ("film", "nothing"):
            with pytest.raises(NotAPicture):
                read_raw_file(f"{bucket.address}/{name}", has_picture_extension=False, max_pixels=LIMIT)
        sent = between.of("GET", "/film")
        raw = read_raw_file(f"{bucket.address}/scan", has_picture_extension=False, max_pixels=LIMIT)
        assert (len(sent), raw.data == picture) == (1, True)


# Lists


def test_list_may_mix_local_files_and_addresses(bucket: Bucket, tmp_path: Path):
    fill(bucket, "pre/a.jpg", "pre/b.jpg", "c.jpg")
    local = draw_picture(tmp_path / "local.png", 3)
    lines = [f"{bucket.address}/c.jpg", str(local), f"{bucket.address}/pre", f"{bucket.address}/c.jpg"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    expected = [lines[0], str(local), f"{bucket.address}/pre/a.jpg", f"{bucket.address}/pre/b.jpg"]
    assert [file.path for file in scan_sources([str(tmp_path / "list.txt")]).files] == expected
    assert [file.path for file in scan_sources(["-"], "\0".join(lines).encode()).files] == expected


def test_list_in_a_store_is_relative_to_its_folder_and_cannot_name_local_files(bucket: Bucket, tmp_path: Path):
    fill(bucket, "lists/a b.jpg", "top.jpg")
    here = draw_picture(tmp_path / "here.png", 3)
    bucket.put("lists/all.txt", f"a b.jpg\n{bucket.address}/top.jpg\n{here}\nfile://{here}\n/top.jpg\n".encode())
    found = scan_sources([f"{bucket.address}/lists/all.txt"])
    assert [file.path for file in found.files] == [f"{bucket.address}/lists/a b.jpg", f"{bucket.address}/top.jpg"]
    assert reasons(found) == {
        f"{bucket.address}{here}": "there is no such object or folder; check the address",
        f"file://{here}": "not a supported kind of address; correct the list",
    }


def test_a_missing_entry_of_a_list_is_reported_and_gone_and_the_others_are_found(bucket: Bucket):
    fill(bucket, "a.jpg")
    lost = f"{bucket.address}/lost.jpg"
    found = scan_sources(["-"], f"{lost}\n{bucket.address}/a.jpg".encode())
    assert [file.path for file in found.files] == [f"{bucket.address}/a.jpg"]
    assert reasons(found) == {lost: "there is no such object or folder; check the address"}
    assert found.is_gone(lost)


# The web


def test_web_picture_has_the_state_that_its_server_reports(picture: bytes):
    asked: list[str] = []
    with serving({"/a b.png": picture, "/a%20b.png": picture}, asked) as web:
        (file,) = scan_sources([f"{web}/a b.png"]).files
        assert asked == ["HEAD /a%20b.png"]
        raw = read_raw_file(file.path, has_picture_extension=True, max_pixels=LIMIT)
    assert file.path == f"{web}/a%20b.png"
    assert (file.size_bytes, file.mtime_ns, file.etag) == (raw.size_bytes, raw.mtime_ns, raw.etag)
    assert (raw.data, raw.size_bytes, len(raw.etag or "")) == (picture, len(picture), 32)


def test_where_a_server_knows_no_head_the_picture_counts_as_changed(picture: bytes):
    with serving({"/a.png": picture}, knows_head=False) as web:
        (file,) = scan_sources([f"{web}/a.png"]).files
        raw = read_raw_file(file.path, has_picture_extension=True, max_pixels=LIMIT)
    assert (file.size_bytes, file.mtime_ns, file.etag) == (0, 0, None)
    assert (raw.data, raw.size_bytes) == (picture, len(picture))


def test_a_content_without_time_or_etag_is_as_old_as_its_reading():
    with serving() as web:
        raw = read_raw_file(f"{web}/body", has_picture_extension=True, max_pixels=LIMIT)
    assert raw.etag is None
    assert raw.mtime_ns > 1_700_000_000_000_000_000


def test_list_on_the_web_is_relative_to_its_own_address(picture: bytes):
    listed = b"\xef\xbb\xbfa.png\r\n../b.png?x=1\r\nmissing.png\r\n/etc/passwd\r\n"
    with serving({"/lists/all.txt": listed, "/lists/a.png": picture, "/b.png": picture}) as web:
        found = scan_sources([f"{web}/lists/all.txt"])
    assert [file.path for file in found.files] == [f"{web}/lists/a.png", f"{web}/b.png?x=1"]
    assert [file.has_picture_extension for file in found.files] == [True, True]
    assert reasons(found) == {
        f"{web}/{lost}": "the server answers 404 Not Found; check the address"
        for lost in ("lists/missing.png", "etc/passwd")
    }
    assert found.is_gone(f"{web}/lists/missing.png")


def test_a_server_on_the_web_that_fails_half_of_all_requests_is_read_whole(picture: bytes):
    names = [f"/{number}.png" for number in range(12)]
    with serving(dict.fromkeys(names, picture)) as web, proxy(web, half(3)) as between:
        files = scan_sources(["-"], "\n".join(between.address + name for name in names).encode()).files
        assert len(files) == 12
        assert {read_raw_file(file.path, has_picture_extension=True, max_pixels=LIMIT).etag for file in files} == {
            files[0].etag
        }
        assert len(between.seen) > 24, "the proxy made no trouble: the test would show nothing"


def test_missing_web_picture_is_an_error():
    with serving() as web, pytest.raises(SourceError, match=f"{web}/none.png cannot be read: the server answers 404"):
        scan_sources([f"{web}/none.png"])


def test_unreachable_server_is_an_error_after_several_attempts_and_nothing_counts_as_gone():
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/a.png"
        found = scan_sources(["-"], address.encode())
    assert "no connection (Connection refused) (10 times)" in reasons(found)[address]
    assert not found.is_gone(address)
