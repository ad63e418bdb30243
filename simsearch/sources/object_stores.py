"""Object stores by their addresses. The only import of fsspec."""

from __future__ import annotations

import datetime
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import fsspec

from simsearch.errors import MissingExtra, Unreadable
from simsearch.sources.addresses import Place
from simsearch.sources.retry import Content, Denied, Missing, Passing, Retries, State, TooLarge, cause_of

Page = tuple[list[tuple[str, State]], str | None]
"""Keys with their states, and what to ask for those after them; None where there are no more."""

_ENVIRONMENT = {
    "s3": ("AWS_",),
    "gs": ("GOOGLE_", "GCLOUD_", "STORAGE_EMULATOR_"),
    "az": ("AZURE_",),
}
"""How the names of those variables begin that say where a store is, and as whom it is asked."""

_NO_CREDENTIALS = {
    "gs": "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
    "az": "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_CHATTY = {"gs": ("gcsfs", "google"), "az": ("adlfs", "azure")}
"""Libraries that print what they raise as well, each attempt of it; we tell it once."""

_ETAGS = ("ETag", "etag", "md5Hash", "generation", "content_md5")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
_LOOK_AT_NETWORK = "check the network and try again"


class Store(Protocol):
    """One bucket. Every call is one attempt; all of them raise `Unreadable`, `Passing` where another may do."""

    def head(self, key: str) -> State:
        """The state of an object."""

    def page(self, prefix: str, after: str | None) -> Page:
        """Some keys that begin with a prefix: the first, or those after what the last page told."""

    def read(self, key: str, *, first: int | None, most_bytes: int) -> Content:
        """An object whole, or its first bytes. Raises `TooLarge` too."""


class FileStore:
    """A bucket behind a file system of fsspec, which is asked for a listing at once."""

    def __init__(self, bucket: str, scheme: str, files: Any, root: str) -> None:
        self._bucket, self._scheme, self._files, self._root = bucket, scheme, files, root

    def head(self, key: str) -> State:
        """The state of an object."""
        with self._translated(key):
            self._files.invalidate_cache()
            found = self._files.info(self._path(key))
            if found["type"] != "file":
                raise Missing(self._address(key), "there is no such object", "check the address")
            return _state(found)

    def page(self, prefix: str, after: str | None) -> Page:
        """Everything below a prefix, as one page."""
        with self._translated(prefix):
            self._files.invalidate_cache()
            found = self._files.find(self._path(prefix).rstrip("/"), detail=True)
        beginning = len(self._root.strip("/")) + 1
        entries = [(path.lstrip("/")[beginning:], _state(facts)) for path, facts in found.items()]
        return [entry for entry in entries if entry[0].startswith(prefix)], None

    def read(self, key: str, *, first: int | None, most_bytes: int) -> Content:
        """An object whole, or its first bytes; the state is asked before and after, as no answer brings it along."""
        before = self.head(key)
        if first is None and before.size_bytes > most_bytes:
            raise TooLarge(self._address(key), before.size_bytes)
        with self._translated(key):
            data = self._files.cat_file(self._path(key), 0, first)
        whole = before.size_bytes if first is None else min(first, before.size_bytes)
        if len(data) != whole or self.head(key) != before:
            raise Passing(self._address(key), "it changed while it was read", "run again when it is complete")
        return Content(data, before)

    def _path(self, key: str) -> str:
        return f"{self._root.rstrip('/')}/{key}"

    def _address(self, key: str) -> str:
        return Place(self._scheme, self._bucket, key).address

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        with translated(self._address(key), self._scheme):
            yield


@contextmanager
def translated(address: str, scheme: str) -> Iterator[None]:
    """The errors of a file system as ours, told by their kind, by the status that they carry, or by their library."""
    try:
        yield
    except (Unreadable, TooLarge, ImportError):
        raise
    except FileNotFoundError as error:
        raise Missing(address, "there is no such object or bucket", "check the address") from error
    except PermissionError as error:
        raise Denied(address, f"access is denied ({cause_of(error)})", _NO_CREDENTIALS[scheme]) from error
    except Exception as error:  # each of these libraries has a tree of its own
        status = _status(error)
        if status in (401, 403) or "credentials" in str(error).lower() or "auth" in type(error).__module__:
            raise Denied(address, f"access is denied ({cause_of(error)})", _NO_CREDENTIALS[scheme]) from error
        if status == 404:
            raise Missing(address, "there is no such object or bucket", "check the address") from error
        if status in (408, 429) or status >= 500 or (not status and isinstance(error, OSError)):
            raise Passing(address, f"the store fails ({cause_of(error)})", _LOOK_AT_NETWORK) from error
        raise Unreadable(address, cause_of(error), "check the address and the credentials") from error


_opened: dict[tuple[Any, ...], tuple[Store, Retries]] = {}
_opening = threading.Lock()


def store_of(place: Place) -> tuple[Store, Retries]:
    """The store of a bucket, and how it is asked again; opened once for all threads.

    Opened anew where the environment says another place or another user by now, and in a forked process, which has
    none of the threads that connections live in. Raises `MissingExtra`, `Unreadable`.
    """
    variables = tuple(sorted(_variables(os.environ, place.scheme)))
    key = (os.getpid(), place.store, variables)
    with _opening:
        if key not in _opened:
            for other in [known for known in _opened if known[:2] == key[:2]]:
                del _opened[other]
            retries = Retries()
            _opened[key] = (retries(lambda: _open(place)), retries)
        return _opened[key]


def _variables(environment: Mapping[str, str], scheme: str) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in environment.items() if name.startswith(_ENVIRONMENT[scheme]))


def _open(place: Place) -> Store:
    # What fsspec keeps of listings would hide what changed meanwhile, and what it keeps of stores, who asks now.
    unkept: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    try:
        if place.scheme == "s3":
            from simsearch.sources.s3 import S3Store, settings

            unkept |= {"config_kwargs": settings()}
            return S3Store(place.bucket, lambda **who: fsspec.filesystem("s3", **who, **unkept))
        for library in _CHATTY[place.scheme]:
            logging.getLogger(library).setLevel(logging.CRITICAL)
        with translated(place.address, place.scheme):
            files, root = fsspec.core.url_to_fs(place.store, **unkept)
            return FileStore(place.bucket, place.scheme, files, root)
    except ImportError as error:
        raise MissingExtra(f"{place.scheme}://", place.scheme) from error


def _state(facts: Mapping[str, Any]) -> State:
    etag = next((facts[name] for name in _ETAGS if facts.get(name)), None)
    moment = next((facts[name] for name in _TIMES if facts.get(name)), 0)
    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment)
    if isinstance(moment, datetime.datetime):
        moment = moment.timestamp()
    return State(facts["size"], round(moment * 1e9), None if etag is None else str(etag).strip('"'))


def _status(error: Exception) -> int:
    """The HTTP status that an error carries, 0 where it carries none."""
    for name in ("status_code", "status", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()):
            return int(value)
    return 0
