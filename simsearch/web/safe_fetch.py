"""Fetch pictures from URLs that visitors send, without access to this machine or its network (SSRF protection).

A host name is resolved once, every address is checked, and the connection goes to a checked address. So DNS rebinding
(another answer at the next lookup) and redirects to private addresses have no effect.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simsearch.errors import UnreadableFile, UsageError
from simsearch.sources.deadline import Deadline
from simsearch.sources.web import CHUNK_BYTES, MAX_REDIRECTS, REDIRECT_CODES

_SOCKET_TIMEOUT_S = 5.0
_PORTS = {"http": 80, "https": 443}
_MAX_URL_LENGTH = 2000
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST_IPV6 = ipaddress.ip_network("2000::/3")
"""The only IPv6 addresses that are allocated to the public internet."""

# The registries of special addresses, https://www.iana.org/assignments/iana-ipv4-special-registry and -ipv6-, as of
# 2025. Python's own `is_global` has other ranges in every patch release.
_SPECIAL_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by the customers of a provider
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, and the metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments, and the metadata of Oracle Cloud
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112 name servers
        "192.52.193.0/24",  # multicast tunnels
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112 name servers
        "198.18.0.0/15",  # measurements
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "2001::/23",  # protocol assignments, Teredo among them, which leads to any IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which leads to any IPv4 address
        "2620:4f:8000::/48",  # AS112 name servers
        "3fff::/20",  # documentation
    )
)

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class ForbiddenAddress(UsageError):
    """A URL that the server does not fetch."""


def is_public(address: IpAddress, port: int) -> bool:
    """Whether an address is public and the port is 80 or 443.

    An IPv4 address embedded in an IPv6 address (mapped, or by NAT64) counts as itself.
    """
    if port not in _PORTS.values():
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64 or address.ipv4_mapped is not None:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF), port)
        if address not in _UNICAST_IPV6:
            return False
    return not any(address in network for network in _SPECIAL_NETWORKS)


def are_allowed(addresses: Sequence[str], port: int, is_allowed: Callable[[IpAddress, int], bool] = is_public) -> bool:
    """Whether a host with these addresses may be fetched from: it has some, and all of them are allowed."""
    return bool(addresses) and all(is_allowed(ipaddress.ip_address(address), port) for address in addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetcher:
    """Fetches URLs of at most `max_bytes`, within `timeout_s` including redirects.

    `is_allowed(address, port)` decides which addresses are fetched from.
    """

    max_bytes: int
    timeout_s: float = 15.0
    is_allowed: Callable[[IpAddress, int], bool] = is_public

    def fetch(self, url: str) -> bytes:
        """Fetch an http or https URL.

        Raises `ForbiddenAddress` if the URL or a redirect is not on the public internet, `UnreadableFile` if it cannot
        be fetched.
        """
        first_url = url
        with Deadline(self.timeout_s) as deadline:
            for _ in range(MAX_REDIRECTS + 1):
                try:
                    found = self._request(url, deadline)
                except UnreadableFile as error:
                    if deadline.is_over:
                        raise _build_timeout_error(url) from error
                    raise
                if deadline.is_over:  # a body without a length ends where the socket was shut down
                    raise _build_timeout_error(url)
                if isinstance(found, bytes):
                    return found
                url = urllib.parse.urljoin(url, found)
        raise UnreadableFile(first_url, f"more than {MAX_REDIRECTS} redirects", "use the final URL")

    def _request(self, url: str, deadline: Deadline) -> bytes | str:
        """Send one request. Return the body, or the target of a redirect."""
        target = _ParsedUrl.parse(url)
        connection = _connect(target, self._resolve_host(target), deadline)
        try:
            connection.request("GET", target.path, headers={"User-Agent": "simsearch", "Accept": "image/*"})
            response = connection.getresponse()
            if response.status in REDIRECT_CODES and (location := response.getheader("Location")):
                return location
            if response.status != 200:
                raise UnreadableFile(url, f"the server responded with status {response.status}", "check the URL")
            return self._read(response, url)
        except TimeoutError as error:
            raise _build_timeout_error(url) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnreadableFile(url, f"the connection failed ({type(error).__name__})", "check the URL") from error
        finally:
            connection.close()

    def _resolve_host(self, target: _ParsedUrl) -> str:
        """Resolve the host, check all of its addresses, and return one."""
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise UnreadableFile(target.url, f"unknown host {target.host}", "check the URL") from error
        addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
        if not are_allowed(addresses, target.port, self.is_allowed):
            raise ForbiddenAddress(
                f"{target.host} is not on the public internet", "download the picture and upload the file"
            )
        return addresses[0]

    def _read(self, response: http.client.HTTPResponse, url: str) -> bytes:
        chunks, n_bytes = [], 0
        while chunk := response.read1(CHUNK_BYTES):
            n_bytes += len(chunk)
            if n_bytes > self.max_bytes:
                raise UnreadableFile(
                    url, f"the file is larger than {self.max_bytes / 1e6:g} MB", "use a smaller picture"
                )
            chunks.append(chunk)
        return b"".join(chunks)


@dataclass(frozen=True, slots=True)
class _ParsedUrl:
    """A parsed URL; `path` includes the query and is percent-encoded."""

    url: str
    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> _ParsedUrl:
        try:
            parts = urllib.parse.urlsplit(url.strip())
            port = parts.port or _PORTS[parts.scheme.lower()]
        except (ValueError, KeyError) as error:
            raise ForbiddenAddress("not a web URL", "use a URL that begins with http:// or https://") from error
        if not parts.hostname or parts.username is not None or len(url) > _MAX_URL_LENGTH:
            raise ForbiddenAddress("not a plain web URL", "use a URL such as https://example.org/rose.jpg")
        path = urllib.parse.quote(parts.path or "/", "/%:@!$&'()*+,;=~")
        if parts.query:
            path += "?" + urllib.parse.quote(parts.query, "/%:@!$&'()*+,;=~?")
        return cls(url, parts.scheme.lower(), parts.hostname, port, path)


def _connect(target: _ParsedUrl, address: str, deadline: Deadline) -> http.client.HTTPConnection:
    """Connect to the checked address. The host name is used in the request and to verify the certificate."""
    connection = http.client.HTTPConnection(target.host, target.port, timeout=_SOCKET_TIMEOUT_S)
    plain: socket.socket | None = None
    try:
        plain = deadline.connect((address, target.port), _SOCKET_TIMEOUT_S)
        if target.scheme == "https":
            plain = ssl.create_default_context().wrap_socket(plain, server_hostname=target.host)
    except OSError as error:
        if plain is not None:
            plain.close()
        raise UnreadableFile(target.url, f"cannot connect ({type(error).__name__})", "check the URL") from error
    connection.sock = plain
    return connection


def _build_timeout_error(url: str) -> UnreadableFile:
    return UnreadableFile(url, "the request timed out", "try again, or download the picture and upload the file")
