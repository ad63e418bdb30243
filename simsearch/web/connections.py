"""The connections of each client address, counted so that one address cannot take all that the server has."""

from __future__ import annotations

import collections
import ipaddress

MAX_CONNECTIONS = 512
MAX_PER_ADDRESS = 128
"""A browser opens six, a reverse proxy one for each request in progress."""

_IPV6_NETWORK_BITS = 64  # one customer of a provider has all addresses of such a network


class ConnectionCounter:
    """Counts open connections by client. For the event loop only: it has no lock."""

    def __init__(self, max_per_address: int = MAX_PER_ADDRESS) -> None:
        self._max_per_address = max_per_address
        self._n_open: collections.Counter[str] = collections.Counter()

    def admit(self, address: str) -> str | None:
        """Count a new connection, and return the name of its client for `release`; None if it has too many."""
        client = group_address(address)
        if self._n_open[client] >= self._max_per_address:
            return None
        self._n_open[client] += 1
        return client

    def release(self, client: str) -> None:
        """Count a connection of a client as closed."""
        self._n_open[client] -= 1
        if self._n_open[client] <= 0:
            del self._n_open[client]


def group_address(address: str) -> str:
    """Name the client of an address: an IPv4 address, or the network of 64 bits of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a Unix socket has none
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, _IPV6_NETWORK_BITS), strict=False))
