"""The address of this machine for other devices, and its QR code. The only import of segno."""

from __future__ import annotations

import contextlib
import io
import socket

import segno

_DOCUMENTATION_ADDRESSES = {"0.0.0.0": "192.0.2.1", "::": "2001:db8::1"}  # RFC 5737 and RFC 3849: nobody has them


def find_own_address(host: str) -> str:
    """Find the address of this machine in its network, for a server on all addresses (`0.0.0.0` or `::`).

    It is the address that packets to other networks would come from; none is sent. Without a network it is `host`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((_DOCUMENTATION_ADDRESSES[host], 9))
        return str(probe.getsockname()[0])
    return host


def draw_qr_code(text: str) -> str:
    """Draw a QR code with half blocks, for a terminal."""
    drawing = io.StringIO()
    segno.make(text, micro=False).terminal(drawing, compact=True)
    return drawing.getvalue()
