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

from simsearch.errors import MissingExtra, Unreadable
from simsearch.sources import web
from simsearch.sources.addresses import Place, canonical, is_url
from simsearch.sources.retry import Content, Missing, Passing, Retries, State, heed

if TYPE_CHECKING:
    from simsearch.sources.object_stores import Store

N_READERS = 32
"""Requests at once: each waits for the network, and none of them for a processor."""

_N_LOOKED_UP = 1024
_WEB_S = 120.0


@dataclass(frozen=True, slots=True)
class Listing:
    """All that lies in a folder of a store: addresses with their states, folders in their place among the objects.

    `folder` is the address that what is inside begins with.
    """

    folder: str
    objects: Sequence[tuple[str, State]]


def look_up(address: str) -> State | Listing:
    """The state of the object at a canonical address, or all that lies in the folder of that name.

    An object goes before a folder of the same name, unless it is empty, as markers of folders are. What a server on
    the web does not tell of a content is 0, so that it counts as changed.

    Raises `Unreadable`, of which `Missing` says that there is neither, and `MissingExtra`.
    """
    if is_url(address):
        return _web_state(address)
    place = Place.of(address)
    store, retries = _store_of(place)
    found = None if place.key.endswith("/") or not place.key else _head(store, retries, place.key)
    if found is not None and found.size_bytes:
        return found
    folder = replace(place, key=f"{place.key}/" if place.key and not place.key.endswith("/") else place.key)
    keys = _keys(store, retries, folder.key)
    if not keys and found is not None:
        return found
    if not keys and folder.key:
        raise Missing(address, "there is no such object or folder", "check the address")
    base = folder.address if folder.key else f"{folder.address}/"
    objects = [(replace(place, key=key).address, state) for key, state in sorted(keys, key=_as_folders_are_walked)]
    # An object that ends in the separator is how stores note an empty folder.
    return Listing(base, [entry for entry in objects if entry[1].size_bytes or not entry[0].endswith("/")])


def look_up_each(addresses: Iterable[str]) -> Iterator[State | Listing | Unreadable]:
    """What is at each address, in order, or why that is not known; many are asked at once.

    Raises `MissingExtra`.
    """
    listed, stop = list(addresses), threading.Event()
    with ThreadPoolExecutor(N_READERS, "look-up", initializer=heed, initargs=(stop,)) as pool:
        try:
            for start in range(0, len(listed), _N_LOOKED_UP):
                yield from pool.map(_looked_up, listed[start : start + _N_LOOKED_UP])
        finally:
            stop.set()


def read(address: str, *, first: int | None = None, most_bytes: int) -> Content:
    """A content whole, or its first bytes, with its state at that moment.

    Raises `Unreadable`, `TooLarge`, `MissingExtra`.
    """
    address = canonical(address)
    if is_url(address):
        content = _web(address)(lambda: web.ask(address, first=first, most_bytes=most_bytes, most_s=_WEB_S))
        # Without a time of its own it is as old as this reading, which no later answer will equal.
        state = replace(content.state, size_bytes=content.state.size_bytes if first else len(content.data))
        return Content(content.data, replace(state, mtime_ns=state.mtime_ns or time.time_ns()))
    place = Place.of(address)
    store, retries = _store_of(place)
    return retries(lambda: store.read(place.key, first=first, most_bytes=most_bytes))


def _store_of(place: Place) -> tuple[Store, Retries]:
    try:
        from simsearch.sources.object_stores import store_of
    except ImportError as error:
        raise MissingExtra(f"{place.scheme}://", place.scheme) from error
    if not place.bucket:
        raise Missing(place.address, "it names no bucket", f"write {place.scheme}://bucket/folder")
    return store_of(place)


def _head(store: Store, retries: Retries, key: str) -> State | None:
    """The state of an object; None where a listing can tell more: whether it is a folder, or why it is denied."""
    try:
        return retries(lambda: store.head(key))
    except Passing:
        raise
    except Unreadable:
        return None


def _keys(store: Store, retries: Retries, prefix: str) -> list[tuple[str, State]]:
    keys: list[tuple[str, State]] = []
    after: str | None = None
    while True:
        page, after = retries(functools.partial(store.page, prefix, after))
        keys += page
        if after is None:
            return keys


def _as_folders_are_walked(entry: tuple[str, State]) -> str:
    """Folder by folder, each in its place by name, as a folder on a disk is walked: `/` comes before every sign."""
    return entry[0].replace("/", "\0")


def _web(url: str) -> Retries:
    return _of_host(urllib.parse.urlsplit(url).netloc)


@functools.lru_cache(maxsize=1024)
def _of_host(_: str) -> Retries:
    """How a host is asked again: one that is out says nothing of the others."""
    return Retries()


def _web_state(url: str) -> State:
    """What a server tells of a content without sending it; nothing where it does not know how to."""
    try:
        return _web(url)(lambda: web.head(url))
    except (Missing, Passing):
        raise
    except Unreadable:  # what reading it tells is the truth
        return State(0, 0)


def _looked_up(address: str) -> State | Listing | Unreadable:
    try:
        return look_up(address)
    except Unreadable as failure:
        return failure
