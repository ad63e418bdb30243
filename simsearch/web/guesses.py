"""Wrong tokens of each client address, counted so that a token cannot be guessed by trying many."""

from __future__ import annotations

import collections
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cachetools import LRUCache

from simsearch.web.connections import group_address

MAX_GUESSES = 20
"""Different wrong tokens that a client may send at once; a person mistypes a few times."""

REFILL_S = 3.0
"""Time after which a client may send one more."""

_MAX_CLIENTS = 10_000
_MAX_REMEMBERED = 64


@dataclass(slots=True)
class _Client:
    left: float
    updated: float
    known: collections.deque[bytes] = field(default_factory=lambda: collections.deque(maxlen=_MAX_REMEMBERED))


class GuessLimiter:
    """Counts different wrong tokens by client. For the event loop only: it has no lock.

    A browser that sends the cookie of an earlier token with every request sends the same wrong one again, which counts
    once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clients: LRUCache[str, _Client] = LRUCache(_MAX_CLIENTS)

    def find_wait_s(self, address: str) -> float:
        """The time in seconds until a token of this client is looked at again; 0 where it is now."""
        client = self._refill(address)
        return 0.0 if client is None or client.left >= 1 else (1 - client.left) * REFILL_S

    def count_wrong(self, address: str, guess: str) -> None:
        """Count a wrong token of a client."""
        now, digest = self._clock(), hashlib.sha256(guess.encode("utf-8", "replace")).digest()
        client = self._refill(address) or _Client(MAX_GUESSES, now)
        if digest not in client.known:
            client.known.append(digest)
            client.left = max(0.0, client.left - 1)
        self._clients[group_address(address)] = client

    def _refill(self, address: str) -> _Client | None:
        client = self._clients.get(group_address(address))
        if client is not None:
            now = self._clock()
            client.left = min(MAX_GUESSES, client.left + (now - client.updated) / REFILL_S)
            client.updated = now
        return client
