"""The contract of every store: S3 on a real server, and fsspec file systems, which serve gs:// and az://."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from simsearch.errors import MissingExtra, UnreadableFile
from simsearch.extras import format_install_command
from simsearch.sources.addresses import ObjectAddress
from simsearch.sources.object_stores import FsspecStore, ObjectStore, open_store, translate_errors
from simsearch.sources.remote import FolderListing, look_up, read_content
from simsearch.sources.retry import AccessDenied, RemoteNotFound, RemoteState, RemoteTooLarge, TemporaryFailure
from simsearch.sources.s3 import CLIENT_CONFIG, S3Store
from tests.sources.test_addresses import ODD_KEYS
from tests.support.stores import configure, new_bucket, proxy, s3_server

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@dataclass(frozen=True, slots=True)
class Filled:
    """A store, with functions to add and delete objects."""

    store: ObjectStore
    put: Callable[[str, bytes], object]
    delete: Callable[[str], object]


@pytest.fixture(params=["s3", "fsspec"])
def filled(
    request: pytest.FixtureRequest, server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Filled]:
    if request.param == "s3":
        configure(server, monkeypatch, tmp_path)
        bucket = new_bucket(server)
        store, _ = open_store(ObjectAddress("s3", bucket.name, ""))
        yield Filled(store, bucket.put, bucket.delete)
    else:
        files = MemoryFileSystem()
        root = f"/bucket-{tmp_path.name}"
        files.mkdir(root)
        yield Filled(
            FsspecStore(root.strip("/"), "gs", files, root),
            lambda key, data: files.pipe_file(f"{root}/{key}", data),
            lambda key: files.rm_file(f"{root}/{key}"),
        )
        files.rm(root, recursive=True)


def listed(store: ObjectStore, prefix: str) -> dict[str, RemoteState]:
    found, after = store.list_page(prefix, None)
    while after is not None:
        more, after = store.list_page(prefix, after)
        found += more
    assert len({key for key, _ in found}) == len(found)
    return dict(found)


def test_object_is_read_whole_with_the_state_of_the_listing(filled: Filled):
    filled.put("a/b.jpg", b"0123456789")
    content = filled.store.read("a/b.jpg", head_bytes=None, max_bytes=10)
    assert content.data == b"0123456789"
    assert content.state == filled.store.fetch_state("a/b.jpg")
    assert content.state.size_bytes == 10
    assert content.state.mtime_ns > 0
    ((key, state),) = listed(filled.store, "").items()
    assert (key, state.size_bytes, state.etag) == ("a/b.jpg", 10, content.state.etag)


def test_another_content_of_the_same_size_is_another_state(filled: Filled):
    filled.put("a.jpg", b"one")
    before = filled.store.fetch_state("a.jpg")
    filled.put("a.jpg", b"two")
    assert filled.store.fetch_state("a.jpg") != before
    assert filled.store.read("a.jpg", head_bytes=None, max_bytes=10).data == b"two"


def test_the_first_bytes_come_with_the_size_of_the_whole(filled: Filled):
    filled.put("film.mp4", b"0123456789" * 100)
    content = filled.store.read("film.mp4", head_bytes=16, max_bytes=10)
    assert (content.data, content.state.size_bytes) == (b"0123456789012345", 1000)


def test_first_bytes_of_a_shorter_object_are_the_whole_object(filled: Filled):
    filled.put("short", b"abc")
    filled.put("empty", b"")
    assert filled.store.read("short", head_bytes=16, max_bytes=10).data == b"abc"
    assert filled.store.read("empty", head_bytes=16, max_bytes=10).data == b""


def test_more_than_allowed_is_not_read(filled: Filled):
    filled.put("large.jpg", b"0123456789")
    with pytest.raises(RemoteTooLarge) as caught:
        filled.store.read("large.jpg", head_bytes=None, max_bytes=9)
    assert caught.value.size_bytes == 10


def test_missing_object_is_not_found(filled: Filled):
    filled.put("a/b.jpg", b"x")
    for key in ("nothing.jpg", "a", "a/b.jpg/c.jpg"):
        with pytest.raises(RemoteNotFound):
            filled.store.fetch_state(key)
        with pytest.raises(RemoteNotFound):
            filled.store.read(key, head_bytes=None, max_bytes=10)
    assert listed(filled.store, "nothing/") == {}


def test_listing_contains_all_keys_with_the_prefix_and_is_never_cached(filled: Filled):
    for key in ("pre/a.jpg", "pre/sub/b.jpg", "prefix/c.jpg", "pre.jpg"):
        filled.put(key, b"x")
    assert listed(filled.store, "pre/").keys() == {"pre/a.jpg", "pre/sub/b.jpg"}
    assert listed(filled.store, "").keys() == {"pre/a.jpg", "pre/sub/b.jpg", "prefix/c.jpg", "pre.jpg"}
    filled.put("pre/new.jpg", b"x")
    filled.delete("pre/a.jpg")
    assert listed(filled.store, "pre/").keys() == {"pre/new.jpg", "pre/sub/b.jpg"}


# What a file system would fold together, and a line feed, which this server of S3 has no route for, are left out.
@pytest.mark.parametrize("key", [key for key in ODD_KEYS if "//" not in f"/{key}" and "\n" not in key])
def test_a_key_with_odd_signs_is_listed_and_read_as_it_is(filled: Filled, key: str):
    filled.put(key, key.encode())
    assert set(listed(filled.store, "")) == {key}
    assert filled.store.read(key, head_bytes=None, max_bytes=100).data == key.encode()
    assert filled.store.fetch_state(key).size_bytes == len(key.encode())


# S3 alone


@pytest.mark.parametrize("key", ["/a.jpg", "a//b.jpg", "a/b/", " ", "a/../b.jpg", "a?versionId=1.jpg"])
def test_keys_that_no_folder_on_a_disk_could_hold_are_keys_of_s3(
    server: str, key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    configure(server, monkeypatch, tmp_path)
    bucket = new_bucket(server)
    bucket.put(key, b"content")
    store, _ = open_store(ObjectAddress("s3", bucket.name, ""))
    assert set(listed(store, "")) == {key}
    assert store.read(key, head_bytes=None, max_bytes=100).data == b"content"


def test_of_a_bucket_with_versions_the_last_ones_count(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    configure(server, monkeypatch, tmp_path)
    bucket = new_bucket(server)
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    bucket.put("a.jpg", b"old")
    bucket.put("a.jpg", b"new!")
    bucket.put("b.jpg", b"x")
    bucket.delete("b.jpg")
    store, _ = open_store(ObjectAddress("s3", bucket.name, ""))
    assert {key: state.size_bytes for key, state in listed(store, "").items()} == {"a.jpg": 4}
    assert store.read("a.jpg", head_bytes=None, max_bytes=100).data == b"new!"


@pytest.mark.parametrize(
    ("mood", "kind", "reason"),
    [
        ("503", TemporaryFailure, "answers 503 SlowDown"),
        ("500", TemporaryFailure, "answers 500 InternalError"),
        ("drop", TemporaryFailure, "the connection failed"),
        ("tear", TemporaryFailure, "the connection failed"),
        ("hold", TemporaryFailure, "the request timed out"),
        ("403", AccessDenied, r"access is denied \(403 AccessDenied\); ask the owner"),
        ("418", UnreadableFile, "answers 418"),
    ],
)
def test_s3_failures_raise_errors_by_kind(
    server: str, mood: str, kind: type, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    bucket = new_bucket(server)
    bucket.put("a.jpg", b"0123456789" * 1000)
    with proxy(server, lambda method, path: mood) as between:
        configure(between.address, monkeypatch, tmp_path)
        quick = {"config_kwargs": {**CLIENT_CONFIG, "read_timeout": 0.5}, "skip_instance_cache": True}
        store = S3Store(bucket.name, lambda **who: fsspec.filesystem("s3", **quick, **who))
        with pytest.raises(UnreadableFile, match=reason) as caught:
            store.read("a.jpg", head_bytes=None, max_bytes=100_000)
        assert type(caught.value) is kind
        # aiohttp sends once more what a connection lost that had been kept open
        assert len(between.seen) <= (2 if mood == "drop" else 1), "an attempt is one request"


def test_a_body_that_drips_is_left_when_its_time_is_up(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    bucket = new_bucket(server)
    bucket.put("a.jpg", b"0123456789" * 1000)
    with proxy(server, lambda method, path: "slow") as between:
        configure(between.address, monkeypatch, tmp_path)
        options = {"config_kwargs": dict(CLIENT_CONFIG), "skip_instance_cache": True}
        store = S3Store(bucket.name, lambda **who: fsspec.filesystem("s3", **options, **who), timeout_s=0.03)
        with pytest.raises(TemporaryFailure, match="the request timed out"):
            store.read("a.jpg", head_bytes=None, max_bytes=100_000)


def test_store_is_opened_once_and_again_when_the_environment_changes(
    server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    configure(server, monkeypatch, tmp_path)
    bucket = new_bucket(server)
    place = ObjectAddress("s3", bucket.name, "a.jpg")
    assert open_store(place) is open_store(ObjectAddress("s3", bucket.name, "b.jpg"))
    before = open_store(place)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody else")
    assert open_store(place) is not before


def test_missing_profile_is_an_error(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    configure(server, monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_PROFILE", "holidays")
    with pytest.raises(AccessDenied, match=r"profile \(holidays\) could not be found; set AWS_PROFILE"):
        open_store(ObjectAddress("s3", "bucket", ""))


def test_profile_gives_the_credentials(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    bucket = new_bucket(server)
    bucket.put("a.jpg", b"x")
    configure(server, monkeypatch, tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    config = tmp_path / "config"
    config.write_text(
        f"[profile holidays]\naws_access_key_id = a\naws_secret_access_key = b\nendpoint_url = {server}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "holidays")
    store, _ = open_store(ObjectAddress("s3", bucket.name, ""))
    assert set(listed(store, "")) == {"a.jpg"}
    assert isinstance(store, S3Store)
    assert not store.is_anonymous


def test_without_credentials_public_objects_are_readable_and_others_give_advice(
    server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    bucket = new_bucket(server)
    bucket.put("a.jpg", b"x")
    bucket.client.put_object_acl(Bucket=bucket.name, Key="a.jpg", ACL="public-read")
    with proxy(server) as between:
        configure(between.address, monkeypatch, tmp_path)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        store, _ = open_store(ObjectAddress("s3", bucket.name, ""))
        assert isinstance(store, S3Store)
        assert store.is_anonymous
        assert store.read("a.jpg", head_bytes=None, max_bytes=10).data == b"x"
        between.mood = lambda method, path: "403"
        advice = r"no credentials were found, and the object is not public.*; set AWS_PROFILE, or AWS_ACCESS_KEY_ID"
        with pytest.raises(AccessDenied, match=advice):
            store.read("a.jpg", head_bytes=None, max_bytes=10)


# The others


@pytest.mark.parametrize(("address", "extra"), [("gs://bucket/a.jpg", "gs"), ("az://box/a.jpg", "az")])
def test_a_store_whose_package_is_not_installed_names_the_extra(address: str, extra: str):
    package = {"gs": "gcsfs", "az": "adlfs"}[extra]
    code = (
        f"import sys\nsys.modules[{package!r}] = None\n"  # Python's marker for a module that cannot be imported
        "from simsearch.sources.remote import look_up\n"
        "from simsearch.errors import MissingExtra\n"
        f"try:\n    look_up({address!r})\nexcept MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{extra}:// needs an optional package; install it: {format_install_command(extra)}\n"


def test_picture_whose_store_cannot_be_opened_is_unreadable_with_the_reason():
    code = (
        "import sys\nsys.modules['fsspec'] = None\n"
        "from simsearch.images.decode import read_raw_file\n"
        "from simsearch.errors import UnreadableFile\n"
        "try:\n    read_raw_file('s3://bucket/a.jpg', has_picture_extension=True, max_pixels=10)\n"
        "except UnreadableFile as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "s3:// needs an optional package; install it: pip install 's3fs>=2025.3'" in done.stdout


def test_without_fsspec_s3_names_its_extra():
    code = (
        "import sys\nsys.modules['fsspec'] = None\n"
        "from simsearch.sources.scan import scan_sources\n"
        "from simsearch.errors import MissingExtra\n"
        "try:\n    scan_sources(['s3://bucket/a'])\nexcept MissingExtra as error:\n    print(error.extra)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "s3\n"


def test_local_run_imports_no_object_store_library(photos: Path):
    code = (
        "import sys\nfrom simsearch.sources.scan import scan_sources\n"
        "from simsearch.images.decode import read_raw_file\n"
        f"read_raw_file(scan_sources([{str(photos)!r}]).files[0].path, has_picture_extension=True, max_pixels=10**6)\n"
        "print([name for name in ('fsspec', 's3fs', 'botocore', 'aiohttp', 'urllib.request') if name in sys.modules])\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


class Http(Exception):
    """An error like those of the libraries: the status is an attribute, under various names."""

    def __init__(self, **facts: object) -> None:
        super().__init__("the library's own words")
        vars(self).update(facts)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Http(code=503), TemporaryFailure), (Http(status_code=429), TemporaryFailure),
        (Http(status="500"), TemporaryFailure),
        (Http(code=403), AccessDenied), (Http(status_code=401), AccessDenied), (PermissionError("no"), AccessDenied),
        (ValueError("Must provide either a connection_string or account_name with credentials"), AccessDenied),
        (Http(code=404), RemoteNotFound), (FileNotFoundError("no"), RemoteNotFound),
        (ConnectionResetError("gone"), TemporaryFailure), (TimeoutError(), TemporaryFailure),
        (Http(code=400), UnreadableFile),
    ],
)  # fmt: skip
def test_file_system_errors_are_translated_by_kind(error: Exception, kind: type):
    with pytest.raises(UnreadableFile) as caught, translate_errors("az://box/a.jpg", "az"):
        raise error
    assert type(caught.value) is kind


class GsInMemory(MemoryFileSystem):
    """A file system registered under the name of gcsfs."""

    protocol = "gs"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.removeprefix("gs://"))


def test_an_address_of_another_store_goes_through_its_file_system():
    fsspec.register_implementation("gs", GsInMemory, clobber=True)
    try:
        GsInMemory().pipe_file("/pictures/cats/b.jpg", b"1234")
        GsInMemory().pipe_file("/pictures/cats/a/c.jpg", b"12")
        found = look_up("gs://pictures/cats")
        assert isinstance(found, FolderListing)
        assert [address for address, _ in found.objects] == ["gs://pictures/cats/a/c.jpg", "gs://pictures/cats/b.jpg"]
        assert read_content("gs://pictures/cats/b.jpg", max_bytes=10).data == b"1234"
        assert look_up("gs://pictures/cats/b.jpg") == read_content("gs://pictures/cats/b.jpg", max_bytes=10).state
        with pytest.raises(RemoteNotFound):
            look_up("gs://pictures/dogs")
    finally:
        GsInMemory().rm("/pictures", recursive=True)
        fsspec.register_implementation("gs", "gcsfs.GCSFileSystem", clobber=True)


def test_an_error_of_ours_passes_through():
    with pytest.raises(RemoteTooLarge), translate_errors("az://box/a.jpg", "az"):
        raise RemoteTooLarge("az://box/a.jpg", 10)
    with pytest.raises(ImportError), translate_errors("az://box/a.jpg", "az"):
        raise ImportError("adlfs")
    assert issubclass(MissingExtra, Exception)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_process_uses_its_own_connection(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    configure(server, monkeypatch, tmp_path)
    bucket = new_bucket(server)
    bucket.put("a.jpg", b"content")
    code = (
        "import os\nfrom simsearch.sources.remote import read_content\n"
        f"ask = lambda: read_content('{bucket.address}/a.jpg', max_bytes=100).data.decode()\n"
        "print(ask(), flush=True)\n"
        "child = os.fork()\n"
        "print(ask(), flush=True)\n"
        "os.waitpid(child, 0) if child else os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("content\n" * 3, "")


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_environment_sets_the_s3_endpoint(server: str, variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    bucket = new_bucket(server)
    bucket.put("a.jpg", b"content")
    configure("http://127.0.0.1:9", monkeypatch, tmp_path)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv(variable, server)
    assert read_content(f"{bucket.address}/a.jpg", max_bytes=100).data == b"content"


def test_many_threads_ask_one_store_at_once(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    bucket = new_bucket(server)
    for number in range(10):
        bucket.put(f"{number}.jpg", str(number).encode())
    with proxy(server, lambda method, path: "wait 0.05") as between:
        configure(between.address, monkeypatch, tmp_path)
        with ThreadPoolExecutor(32) as pool:
            found = list(
                pool.map(lambda n: read_content(f"{bucket.address}/{n % 10}.jpg", max_bytes=10).data, range(200))
            )
    assert found == [str(number % 10).encode() for number in range(200)]
