"""Settings of the web server: the collection, access, and limits."""

from __future__ import annotations

import ipaddress
import itertools
import math
import os
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simsearch.errors import UsageError
from simsearch.machine import count_cores
from simsearch.text import replace_invalid_unicode

MIN_TOKEN_LENGTH = 16
_MIN_DIFFERENT = 6
"""Different characters in a token, and different steps from one character to the next; random hexadecimal has more."""

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a server serves a collection.

    `root` is what the addresses of the collection begin with: empty, or `/c/NAME` where a server has several.
    `token` is required in every request; None means no token, which is allowed on loopback addresses only.
    `write_token` allows what `token` does, and changes of the collection. Without it, changes need no token on a
    loopback address that needs none for searches; elsewhere they are refused. `cors` are the origins whose pages may
    use the API. `show_paths` shows whole paths of files; without it, visitors see them from the root of the collection
    on. `rate_limit` are the requests that a client may send each second, ten times as many at once. A client is named
    by the address of its connection, or by `X-Forwarded-For` where that is the address of one of the `trusted_proxies`.
    `backbone` is used when a request names none; None means the default of the collection. A picture has at most
    `max_pixels` and a request body at most `max_body_bytes`, which must arrive within `body_timeout_s`; the head of a
    request (request line and headers) must arrive within `head_timeout_s`. A request is answered within
    `answer_timeout_s`; at most `max_waiting` requests wait for one of `n_workers` threads. `allow_url` permits pictures
    by URL; `allow_upload` is a folder that visitors who may write add pictures to, which take at most
    `max_upload_bytes` together and leave `min_free_bytes` of the disk; `offline` forbids the download of weights.

    Raises `UsageError` if the address needs a token and has none, or if the token is too short or cannot be sent.
    """

    collection: str
    root: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    write_token: str | None = None
    cors: tuple[str, ...] = ()
    show_paths: bool = False
    rate_limit: float | None = None
    trusted_proxies: tuple[str, ...] = ()
    backbone: str | None = None
    allow_url: bool = False
    allow_upload: str | None = None
    max_upload_bytes: int = 10_000_000_000
    min_free_bytes: int = 500_000_000
    offline: bool = False
    max_body_bytes: int = 32_000_000
    max_pixels: int = 50_000_000
    head_timeout_s: float = 10.0
    body_timeout_s: float = 20.0
    answer_timeout_s: float = 30.0
    max_waiting: int = 64
    n_workers: int = max(4, min(8, 2 * count_cores()))

    def __post_init__(self) -> None:
        if self.token is None and not self.is_loopback:
            raise UsageError(f"{self.host} can be reached from other machines", "require a token with --token")
        for token in (self.token, self.write_token):
            if token is not None:
                _check_token(token)
        if self.token is not None and self.token == self.write_token:
            raise UsageError("the write token is the token", "give them different values, or only one of them")
        if self.rate_limit is not None and not 0 < self.rate_limit < math.inf:
            raise UsageError(f"--rate-limit {self.rate_limit:g} allows nothing", "give a number above 0")
        for address in self.trusted_proxies:
            _check_address(address)
        for origin in self.cors:
            _check_origin(origin)

    @property
    def name(self) -> str:
        """The name of the collection: that of its folder, as valid Unicode."""
        return replace_invalid_unicode(Path(os.path.abspath(self.collection)).name)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return self.host in LOOPBACK_HOSTS

    @property
    def can_anyone_write(self) -> bool:
        """Whether changes need no token: only this machine can connect, and no token was set."""
        return self.token is None and self.write_token is None

    @property
    def needs_login(self) -> bool:
        """Whether there is a token that visitors can log in with."""
        return not self.can_anyone_write


def choose_roots(settings: ServerSettings, folders: Sequence[str]) -> list[ServerSettings]:
    """The settings of each of several collections, at `/c/NAME/`; the only one is at `/`.

    Raises `UsageError` if two folders have the same name, or with uploads.
    """
    if len(folders) == 1:
        return [replace(settings, collection=folders[0])]
    if settings.allow_upload is not None:
        raise UsageError("--allow-upload with several collections", "serve the collection that takes uploads alone")
    chosen: dict[str, ServerSettings] = {}
    for folder in folders:
        one = replace(settings, collection=folder)
        if one.name in chosen:
            problem = f"two collections are named {one.name!r}: {chosen[one.name].collection} and {folder}"
            raise UsageError(problem, "rename one of the folders, or give a symbolic link with another name")
        chosen[one.name] = replace(one, root=f"/c/{urllib.parse.quote(one.name, safe='')}")
    return list(chosen.values())


def _check_token(token: str) -> None:
    if len(token) < MIN_TOKEN_LENGTH:
        problem = f"the token has {len(token)} characters"
        raise UsageError(problem, f"use {MIN_TOKEN_LENGTH} or more, or omit --token to generate one")
    if _is_simple(token):
        raise UsageError("the token is easy to guess", "use random characters, or omit --token to generate one")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageError("the token has characters that HTTP headers do not allow", "use letters, digits, - and _")


def _check_address(address: str) -> None:
    """Check that a trusted proxy is named by its address, or a network of addresses."""
    try:
        ipaddress.ip_network(address)
    except ValueError as error:
        advice = "write it as an address or a network, such as 127.0.0.1 or 10.0.0.0/8"
        raise UsageError(f"{address!r} is not an address", advice) from error


def _check_origin(origin: str) -> None:
    """Check that an origin is what browsers send: a scheme and a host, perhaps a port."""
    try:
        parts = urllib.parse.urlsplit(origin)
        is_origin = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_origin = False
    if not is_origin or origin != f"{parts.scheme}://{parts.netloc}".lower() or "@" in parts.netloc:
        raise UsageError(f"{origin!r} is not an origin", "write it as browsers do, such as https://photos.example")


def _is_simple(token: str) -> bool:
    """Whether a token has few different characters, repeats (`abcdabcd`), or counts up (`12345678`)."""
    steps = {ord(after) - ord(before) for before, after in itertools.pairwise(token)}
    repeats = token in (token + token)[1:-1]
    return repeats or len(set(token)) < _MIN_DIFFERENT or len(steps) < _MIN_DIFFERENT
