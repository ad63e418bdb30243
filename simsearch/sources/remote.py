"""Pictures that are not on this machine: what is at an address in an object store or on the web, and its content.

Everything here is asked again when that may help (`transfer.Retries`), and may be called from many threads.
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
    set_stop_event,
)

if TYPE_CHECKING:
    from simsearch.sources.object_stores import ObjectStore

N_READERS = 32
"""Requests at once: each waits for the network, and none of them for a processor."""

_LOOK_UP_BATCH_SIZE = 1024
_WEB_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class FolderListing:
    """All that lies in a folder of a store: addresses with their states, folders in their place among the objects.

    `folder` is the address that what is inside begins with.
    """

    folder: str
    objects: Sequence[tuple[str, RemoteState]]


def look_up(address: str) -> RemoteState | FolderListing:
    """The state of the object at a canonical address, or all that lies in the folder of that name.

    An object goes before a folder of the same name, unless it is empty, as markers of folders are. What a server on
    the web does not tell of a content is 0, so that it counts as changed.

    Raises `Unreadable`, of which `Missing` says that there is neither, and `MissingExtra`.
    """
    if is_url(address):
        return _fetch_web_state(address)
    place = ObjectAddress.parse(address)
    store, retries = _open_store(place)
    found = None if place.key.endswith("/") or not place.key else _find_object(store, retries, place.key)
    if found is not None and found.size_bytes:
        return found
    folder = replace(place, key=f"{place.key}/" if place.key and not place.key.endswith("/") else place.key)
    keys = _list_keys(store, retries, folder.key)
    if not keys and found is not None:
        return found
    if not keys and folder.key:
        raise RemoteNotFound(address, "there is no such object or folder", "check the address")
    base = folder.address if folder.key else f"{folder.address}/"
    objects = [(replace(place, key=key).address, state) for key, state in sorted(keys, key=_make_walk_order_key)]
    # An object that ends in the separator is how stores note an empty folder.
    return FolderListing(base, [entry for entry in objects if entry[1].size_bytes or not entry[0].endswith("/")])


def look_up_each(addresses: Iterable[str]) -> Iterator[RemoteState | FolderListing | UnreadableFile]:
    """What is at each address, in order, or why that is not known; many are asked at once.

    Raises `MissingExtra`.
    """
    listed, stop = list(addresses), threading.Event()
    with ThreadPoolExecutor(N_READERS, "look-up", initializer=set_stop_event, initargs=(stop,)) as pool:
        try:
            for start in range(0, len(listed), _LOOK_UP_BATCH_SIZE):
                yield from pool.map(_try_look_up, listed[start : start + _LOOK_UP_BATCH_SIZE])
        finally:
            stop.set()


def read_content(address: str, *, first: int | None = None, most_bytes: int) -> RemoteContent:
    """A content whole, or its first bytes, with its state at that moment.

    Raises `Unreadable`, `TooLarge`, `MissingExtra`.
    """
    address = canonicalize_address(address)
    if is_url(address):
        content = _find_retrier(address)(
            lambda: web.fetch_content(address, first=first, most_bytes=most_bytes, most_s=_WEB_TIMEOUT_S)
        )
        # Without a time of its own it is as old as this reading, which no later answer will equal.
        state = replace(content.state, size_bytes=content.state.size_bytes if first else len(content.data))
        return RemoteContent(content.data, replace(state, mtime_ns=state.mtime_ns or time.time_ns()))
    place = ObjectAddress.parse(address)
    store, retries = _open_store(place)
    return retries(lambda: store.read(place.key, first=first, most_bytes=most_bytes))


def _open_store(place: ObjectAddress) -> tuple[ObjectStore, Retrier]:
    try:
        from simsearch.sources.object_stores import open_store
    except ImportError as error:
        raise MissingExtra(f"{place.scheme}://", place.scheme) from error
    if not place.bucket:
        raise RemoteNotFound(place.address, "it names no bucket", f"write {place.scheme}://bucket/folder")
    return open_store(place)


def _find_object(store: ObjectStore, retries: Retrier, key: str) -> RemoteState | None:
    """The state of an object; None where a listing can tell more: whether it is a folder, or why it is denied."""
    try:
        return retries(lambda: store.fetch_state(key))
    except TemporaryFailure:
        raise
    except UnreadableFile:
        return None


def _list_keys(store: ObjectStore, retries: Retrier, prefix: str) -> list[tuple[str, RemoteState]]:
    keys: list[tuple[str, RemoteState]] = []
    after: str | None = None
    while True:
        page, after = retries(functools.partial(store.list_page, prefix, after))
        keys += page
        if after is None:
            return keys


def _make_walk_order_key(entry: tuple[str, RemoteState]) -> str:
    """Folder by folder, each in its place by name, as a folder on a disk is walked: `/` comes before every sign."""
    return entry[0].replace("/", "\0")


def _find_retrier(url: str) -> Retrier:
    return _make_host_retrier(urllib.parse.urlsplit(url).netloc)


@functools.lru_cache(maxsize=1024)
def _make_host_retrier(_: str) -> Retrier:
    """How a host is asked again: one that is out says nothing of the others."""
    return Retrier()


def _fetch_web_state(url: str) -> RemoteState:
    """What a server tells of a content without sending it; nothing where it does not know how to."""
    try:
        return _find_retrier(url)(lambda: web.fetch_state(url))
    except (RemoteNotFound, TemporaryFailure):
        raise
    except UnreadableFile:  # what reading it tells is the truth
        return RemoteState(0, 0)


def _try_look_up(address: str) -> RemoteState | FolderListing | UnreadableFile:
    try:
        return look_up(address)
    except UnreadableFile as failure:
        return failure
