"""A limit on the requests of each client, so that one cannot take the whole server."""

from __future__ import annotations

import time
from collections.abc import Callable

from cachetools import LRUCache

from simsearch.web.connections import group_address

BURST_S = 10.0
"""A client may send the requests of this time at once: a page asks for dozens of thumbnails."""

_MAX_CLIENTS = 10_000


class RateLimiter:
    """Counts requests by client: a bucket of tokens for each. For the event loop only: it has no lock."""

    def __init__(self, requests_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._requests_per_s = requests_per_s
        self._clock = clock
        self._buckets: LRUCache[str, tuple[float, float]] = LRUCache(_MAX_CLIENTS)

    def count_request(self, address: str) -> float:
        """Count a request of a client; return 0, or the seconds until it may send one where it has sent too many.

        A refused request does not count.
        """
        client, now = group_address(address), self._clock()
        most = max(1.0, self._requests_per_s * BURST_S)
        left, updated = self._buckets.get(client, (most, now))
        left = min(most, left + (now - updated) * self._requests_per_s)
        is_allowed = left >= 1
        self._buckets[client] = left - 1 if is_allowed else left, now
        return 0.0 if is_allowed else (1 - left) / self._requests_per_s
