"""Look up and read remote addresses, in object stores and on the web.

All requests are retried where a retry may succeed (`retry.Retrier`). All functions are thread-safe.
"""

from __future__ import annotations

import functools
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simsearch.errors import MissingExtra, UnreadableFile
from simsearch.sources import web
from simsearch.sources.addresses import ObjectAddress, canonicalize_address, is_url
from simsearch.sources.retry import (
    RemoteContent,
    RemoteNotFound,
    RemoteState,
    Retrier,
    TemporaryFailure,
    limit_timeout,
    set_stop_event,
)

if TYPE_CHECKING:
    from simsearch.sources.object_stores import ObjectStore

N_READERS = 32
"""The number of parallel requests; they wait for the network, not for a processor."""

_LOOK_UP_BATCH_SIZE = 1024
_WEB_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class FolderListing:
    """All objects below a folder of an object store, at any depth: addresses with their states, in walk order.

    `folder` is the common prefix of the addresses.
    """

    folder: str
    objects: Sequence[tuple[str, RemoteState]]


def look_up(address: str) -> RemoteState | FolderListing:
    """Look up a canonical address: the state of an object, or the listing of a folder.

    An object takes precedence over a folder of the same name, unless it is empty: object stores mark folders with empty
    objects. For the web, values that the server does not report are 0, so that the picture counts as changed.

    Raises `UnreadableFile` (`RemoteNotFound` where there is neither object nor folder), `MissingExtra`.
    """
    if is_url(address):
        return _fetch_web_state(address)
    location = ObjectAddress.parse(address)
    store, retry = _open_store(location)
    found = None if location.key.endswith("/") or not location.key else _find_object(store, retry, location.key)
    if found is not None and found.size_bytes:
        return found
    folder = replace(
        location, key=f"{location.key}/" if location.key and not location.key.endswith("/") else location.key
    )
    keys = _list_keys(store, retry, folder.key)
    if not keys and found is not None:
        return found
    if not keys and folder.key:
        raise RemoteNotFound(address, "there is no such object or folder", "check the address")
    base = folder.address if folder.key else f"{folder.address}/"
    objects = [(replace(location, key=key).address, state) for key, state in sorted(keys, key=_make_walk_order_key)]
    # Object stores mark an empty folder with an object whose key ends in the separator.
    return FolderListing(base, [entry for entry in objects if entry[1].size_bytes or not entry[0].endswith("/")])


def look_up_each(addresses: Iterable[str]) -> Iterator[RemoteState | FolderListing | UnreadableFile]:
    """Look up many addresses in parallel. Yields the results in order; a failed look-up yields its error.

    Raises `MissingExtra`.
    """
    listed, stop = list(addresses), threading.Event()
    with ThreadPoolExecutor(N_READERS, "look-up", initializer=set_stop_event, initargs=(stop,)) as pool:
        try:
            for start in range(0, len(listed), _LOOK_UP_BATCH_SIZE):
                yield from pool.map(_try_look_up, listed[start : start + _LOOK_UP_BATCH_SIZE])
        finally:
            stop.set()


def read_content(address: str, *, head_bytes: int | None = None, max_bytes: int) -> RemoteContent:
    """Read an object whole, or its first `head_bytes` bytes, with its state at the time of the read.

    Raises `UnreadableFile`, `RemoteTooLarge`, `MissingExtra`.
    """
    address = canonicalize_address(address)
    if is_url(address):
        timeout_s = limit_timeout(_WEB_TIMEOUT_S)
        content = _find_retrier(address)(
            lambda: web.fetch_content(address, head_bytes=head_bytes, max_bytes=max_bytes, timeout_s=timeout_s)
        )
        # Without a modification time, the time of the read is used; no later response will equal it.
        state = replace(content.state, size_bytes=content.state.size_bytes if head_bytes else len(content.data))
        return RemoteContent(content.data, replace(state, mtime_ns=state.mtime_ns or time.time_ns()))
    location = ObjectAddress.parse(address)
    store, retry = _open_store(location)
    return retry(lambda: store.read(location.key, head_bytes=head_bytes, max_bytes=max_bytes))


def _open_store(location: ObjectAddress) -> tuple[ObjectStore, Retrier]:
    try:
        from simsearch.sources.object_stores import open_store
    except ImportError as error:
        raise MissingExtra(f"{location.scheme}://", location.scheme) from error
    if not location.bucket:
        raise RemoteNotFound(location.address, "the address has no bucket", f"write {location.scheme}://bucket/folder")
    return open_store(location)


def _find_object(store: ObjectStore, retry: Retrier, key: str) -> RemoteState | None:
    """The state of an object; None where a listing says more: whether it is a folder, or why access is denied."""
    try:
        return retry(lambda: store.fetch_state(key))
    except TemporaryFailure:
        raise
    except UnreadableFile:
        return None


def _list_keys(store: ObjectStore, retry: Retrier, prefix: str) -> list[tuple[str, RemoteState]]:
    keys: list[tuple[str, RemoteState]] = []
    token: str | None = None
    while True:
        page, token = retry(functools.partial(store.list_page, prefix, token))
        keys += page
        if token is None:
            return keys


def _make_walk_order_key(entry: tuple[str, RemoteState]) -> str:
    """Sort keys as a folder on a disk is walked: `/` sorts before every other character."""
    return entry[0].replace("/", "\0")


def _find_retrier(url: str) -> Retrier:
    return _make_host_retrier(urllib.parse.urlsplit(url).netloc)


@functools.lru_cache(maxsize=1024)
def _make_host_retrier(_: str) -> Retrier:
    """The retrier of one host; a host that is down does not affect the others."""
    return Retrier()


def _fetch_web_state(url: str) -> RemoteState:
    """Send a HEAD request; an unknown state where the server does not support it."""
    try:
        return _find_retrier(url)(lambda: web.fetch_state(url))
    except (RemoteNotFound, TemporaryFailure):
        raise
    except UnreadableFile:  # a read will show the real reason
        return RemoteState(0, 0)


def _try_look_up(address: str) -> RemoteState | FolderListing | UnreadableFile:
    try:
        return look_up(address)
    except UnreadableFile as failure:
        return failure
