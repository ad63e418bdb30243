"""Object stores (`s3://`, `gs://`, `az://`): open, list and read. No other module imports fsspec."""

from __future__ import annotations

import datetime
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import fsspec

from simsearch.errors import MissingExtra, UnreadableFile
from simsearch.sources.addresses import ObjectAddress
from simsearch.sources.retry import (
    AccessDenied,
    RemoteContent,
    RemoteNotFound,
    RemoteState,
    RemoteTooLarge,
    Retrier,
    TemporaryFailure,
)
from simsearch.text import summarize_error

Page = tuple[list[tuple[str, RemoteState]], str | None]
"""Keys with their states, and the continuation token of the next page; None on the last page."""

_VARIABLE_PREFIXES = {
    "s3": ("AWS_",),
    "gs": ("GOOGLE_", "GCLOUD_", "STORAGE_EMULATOR_"),
    "az": ("AZURE_",),
}
"""Prefixes of the environment variables that set the endpoint and the credentials of a store."""

_CREDENTIALS_ADVICE = {
    "gs": "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
    "az": "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_NOISY_LOGGERS = {"gs": ("gcsfs", "google"), "az": ("adlfs", "azure")}
"""Loggers that repeat every error that is also raised, once per attempt; they are silenced."""

_ETAG_KEYS = ("ETag", "etag", "md5Hash", "generation", "content_md5")
_TIME_KEYS = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
_NETWORK_ADVICE = "check the network and try again"


class ObjectStore(Protocol):
    """One bucket. Each call sends its request once, and raises `UnreadableFile`; `TemporaryFailure` may be retried."""

    def fetch_state(self, key: str) -> RemoteState:
        """Fetch the state of an object."""

    def list_page(self, prefix: str, token: str | None) -> Page:
        """List a page of keys with a prefix; `token` is that of the page before, None for the first."""

    def read(self, key: str, *, head_bytes: int | None, max_bytes: int) -> RemoteContent:
        """Read an object whole, or its first `head_bytes` bytes. Also raises `RemoteTooLarge`."""


class FsspecStore:
    """A bucket behind an fsspec file system, which returns a listing in one piece."""

    def __init__(self, bucket: str, scheme: str, files: Any, root: str) -> None:
        self._bucket, self._scheme, self._file_system, self._root = bucket, scheme, files, root

    def fetch_state(self, key: str) -> RemoteState:
        """Fetch the state of an object."""
        with self._translate_errors(key):
            self._file_system.invalidate_cache()
            found = self._file_system.info(self._make_path(key))
            if found["type"] != "file":
                raise RemoteNotFound(self._make_address(key), "there is no such object", "check the address")
            return _parse_state(found)

    def list_page(self, prefix: str, token: str | None) -> Page:
        """List all keys that begin with a prefix, as one page."""
        with self._translate_errors(prefix):
            self._file_system.invalidate_cache()
            found = self._file_system.find(self._make_path(prefix).rstrip("/"), detail=True)
        beginning = len(self._root.strip("/")) + 1
        entries = [(path.lstrip("/")[beginning:], _parse_state(facts)) for path, facts in found.items()]
        return [entry for entry in entries if entry[0].startswith(prefix)], None

    def read(self, key: str, *, head_bytes: int | None, max_bytes: int) -> RemoteContent:
        """Read an object whole, or its first bytes. A read returns no state, so it is fetched before and after."""
        before = self.fetch_state(key)
        if head_bytes is None and before.size_bytes > max_bytes:
            raise RemoteTooLarge(self._make_address(key), before.size_bytes)
        with self._translate_errors(key):
            data = self._file_system.cat_file(self._make_path(key), 0, head_bytes)
        whole = before.size_bytes if head_bytes is None else min(head_bytes, before.size_bytes)
        if len(data) != whole or self.fetch_state(key) != before:
            raise TemporaryFailure(
                self._make_address(key), "the object changed while it was read", "run again when its upload is complete"
            )
        return RemoteContent(data, before)

    def _make_path(self, key: str) -> str:
        return f"{self._root.rstrip('/')}/{key}"

    def _make_address(self, key: str) -> str:
        return ObjectAddress(self._scheme, self._bucket, key).address

    @contextmanager
    def _translate_errors(self, key: str) -> Iterator[None]:
        with translate_errors(self._make_address(key), self._scheme):
            yield


@contextmanager
def translate_errors(address: str, scheme: str) -> Iterator[None]:
    """Translate the errors of a file system, by their type, their HTTP status, or the module of their library."""
    try:
        yield
    except (UnreadableFile, RemoteTooLarge, ImportError):
        raise
    except FileNotFoundError as error:
        raise RemoteNotFound(address, "there is no such object or bucket", "check the address") from error
    except PermissionError as error:
        raise AccessDenied(
            address, f"access is denied ({summarize_error(error)})", _CREDENTIALS_ADVICE[scheme]
        ) from error
    except Exception as error:  # each library has its own exception tree
        status = _find_status(error)
        if status in (401, 403) or "credentials" in str(error).lower() or "auth" in type(error).__module__:
            raise AccessDenied(
                address, f"access is denied ({summarize_error(error)})", _CREDENTIALS_ADVICE[scheme]
            ) from error
        if status == 404:
            raise RemoteNotFound(address, "there is no such object or bucket", "check the address") from error
        if status in (408, 429) or status >= 500 or (not status and isinstance(error, OSError)):
            raise TemporaryFailure(
                address, f"the request failed ({summarize_error(error)})", _NETWORK_ADVICE
            ) from error
        raise UnreadableFile(address, summarize_error(error), "check the address and the credentials") from error


_open_stores: dict[tuple[Any, ...], tuple[ObjectStore, Retrier]] = {}
_open_lock = threading.Lock()


def open_store(location: ObjectAddress) -> tuple[ObjectStore, Retrier]:
    """Open the store of a bucket, with its retrier; all threads share it.

    A store is opened again when the environment variables for endpoint or credentials change, and in a forked process,
    which does not inherit the threads of the connections. Raises `MissingExtra`, `UnreadableFile`.
    """
    variables = tuple(sorted(_select_variables(os.environ, location.scheme)))
    key = (os.getpid(), location.bucket_address, variables)
    with _open_lock:
        if key not in _open_stores:
            for other in [known for known in _open_stores if known[:2] == key[:2]]:
                del _open_stores[other]
            retry = Retrier()
            _open_stores[key] = (retry(lambda: _create_store(location)), retry)
        return _open_stores[key]


def _select_variables(environment: Mapping[str, str], scheme: str) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in environment.items() if name.startswith(_VARIABLE_PREFIXES[scheme]))


def _create_store(location: ObjectAddress) -> ObjectStore:
    # fsspec's cache of listings would hide changes, and its cache of instances would hide changed credentials.
    uncached: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    try:
        if location.scheme == "s3":
            from simsearch.sources.s3 import CLIENT_CONFIG, S3Store

            uncached |= {"config_kwargs": dict(CLIENT_CONFIG)}
            return S3Store(location.bucket, lambda **credentials: fsspec.filesystem("s3", **credentials, **uncached))
        for library in _NOISY_LOGGERS[location.scheme]:
            logging.getLogger(library).setLevel(logging.CRITICAL)
        with translate_errors(location.address, location.scheme):
            files, root = fsspec.core.url_to_fs(location.bucket_address, **uncached)
            return FsspecStore(location.bucket, location.scheme, files, root)
    except ImportError as error:
        raise MissingExtra(f"{location.scheme}://", location.scheme) from error


def _parse_state(facts: Mapping[str, Any]) -> RemoteState:
    etag = next((facts[name] for name in _ETAG_KEYS if facts.get(name)), None)
    moment = next((facts[name] for name in _TIME_KEYS if facts.get(name)), 0)
    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment)
    if isinstance(moment, datetime.datetime):
        moment = moment.timestamp()
    return RemoteState(facts["size"], round(moment * 1e9), None if etag is None else str(etag).strip('"'))


def _find_status(error: Exception) -> int:
    """The HTTP status of an error, 0 where it has none."""
    for name in ("status_code", "status", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()):
            return int(value)
    return 0
