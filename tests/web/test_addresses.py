"""The address that `serve` prints for phones."""

from __future__ import annotations

import socket

from simsearch.web.addresses import draw_qr_code, find_own_address


def test_the_address_of_this_machine_is_one_that_it_can_listen_on():
    address = find_own_address("0.0.0.0")
    with socket.create_server((address, 0)) as listening:
        assert listening.getsockname()[0] == address


def test_a_qr_code_holds_the_address():
    import cv2
    import numpy as np

    text = "http://192.168.1.20:8000/login?token=pVfN8l0yq"
    lines = [line for line in draw_qr_code(text).splitlines() if "\x1b" not in line or line.strip()]
    half_blocks = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}
    plain = ["".join(char for char in line if char in half_blocks) for line in lines]
    width = max(map(len, plain))
    rows = [[half_blocks[char][half] for char in line.ljust(width)] for line in plain for half in (0, 1)]
    for light in (0, 1):  # terminals draw it dark on light, or light on dark
        picture = np.kron(np.abs(np.array(rows, np.uint8) - light) * 255, np.ones((8, 8), np.uint8))
        framed = np.pad(picture, 64, constant_values=255)
        if cv2.QRCodeDetector().detectAndDecode(framed)[0] == text:
            return
    raise AssertionError("no QR code")
