"""Decoding photographs to a square: speed of several libraries, and similarity of the vectors to full decoding."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
import pyvips
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from bench.setup import find_weights, format_table, list_photographs, measure_seconds
from simsearch.images.decode import RawFile, compute_digest, decode_square
from simsearch.images.resize import ResizeRule
from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.models.loader import LoadOptions, open_embedder

Pixels = NDArray[np.uint8]
_SIDE_PX = 224
_N_PHOTOGRAPHS = 400
_BILINEAR = Image.Resampling.BILINEAR


def _decode_full(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((_SIDE_PX, _SIDE_PX), _BILINEAR))


def _decode_with_reducing_gap(data: bytes) -> Pixels:
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(picture.resize((_SIDE_PX, _SIDE_PX), _BILINEAR, reducing_gap=2.0))


def _make_draft_decoder(times: int) -> Callable[[bytes], Pixels]:
    def decode(data: bytes) -> Pixels:
        picture = Image.open(io.BytesIO(data))
        picture.draft(None, (times * _SIDE_PX, times * _SIDE_PX))
        return np.asarray(picture.convert("RGB").resize((_SIDE_PX, _SIDE_PX), _BILINEAR))

    return decode


def _decode_with_simsearch(data: bytes) -> Pixels:
    return decode_square(
        RawFile("", data, compute_digest(data), len(data), 0), ResizeRule(_SIDE_PX, "squash"), max_pixels=10**9
    )[1]


def _decode_with_simplejpeg(data: bytes) -> Pixels:
    decoded: Pixels = simplejpeg.decode_jpeg(data, min_height=_SIDE_PX, min_width=_SIDE_PX, min_factor=1)
    return np.asarray(Image.fromarray(decoded).resize((_SIDE_PX, _SIDE_PX), _BILINEAR))


def _decode_with_opencv(data: bytes) -> Pixels:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded is not None  # they are all JPEGs
    return np.asarray(cv2.resize(decoded, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _decode_with_vips(data: bytes) -> Pixels:
    thumbnail = pyvips.Image.thumbnail_buffer(data, _SIDE_PX, height=_SIDE_PX, size="force").colourspace("srgb")
    rows: Pixels = thumbnail.numpy()[..., :3]
    return rows if rows.shape[2] == 3 else np.repeat(rows, 3, axis=2)


WAYS: dict[str, Callable[[bytes], Pixels]] = {
    "Pillow, full decoding (what the others are compared with)": _decode_full,
    "Pillow, full decoding, `reducing_gap=2`": _decode_with_reducing_gap,
    "Pillow, `draft` to twice the side": _make_draft_decoder(2),
    "Pillow, `draft` to the side": _make_draft_decoder(1),
    "ours: `draft` to the side, EXIF, digest, checks": _decode_with_simsearch,
    "simplejpeg, scaled, Pillow resize": _decode_with_simplejpeg,
    "OpenCV, full decoding, area": _decode_with_opencv,
    "libvips, thumbnail": _decode_with_vips,
}


def measure() -> str:
    """Measure and format the section of the report: small photographs of `caltech101_small`, and 12-megapixel ones."""
    cv2.setNumThreads(1)
    pyvips.concurrency_set(1)
    model = resolve_model(ModelChoice(backbone="mobilenet_v2", weights=find_weights("mobilenet_v2")))
    embedder = open_embedder(model, LoadOptions(for_throughput=True))
    files = list_photographs()[:: max(1, len(list_photographs()) // _N_PHOTOGRAPHS)]
    small = [file.read_bytes() for file in files]
    large = [_enlarge(data) for data in small[::10]]
    exact = [embedder.embed(np.stack([_decode_full(data) for data in some])) for some in (small, large)]
    rows = []
    for name, way in WAYS.items():
        cells = []
        for some, reference in zip((small, large), exact, strict=True):
            way(some[0])
            pixels: list[Pixels] = []
            elapsed = measure_seconds(lambda: pixels.extend(map(way, some)))  # noqa: B023 - called at once
            cosines = np.sum(embedder.embed(np.stack(pixels)) * reference, axis=1)
            cells += [f"{len(some) / elapsed:.0f}", f"{cosines.mean():.4f}"]
        rows.append([name, *cells])
    headings = ["one thread", "small: images/s", "cosine", "12 megapixels: images/s", "cosine"]
    return (
        "## Decoding\n\nOne thread, 224 px, squash. The cosine is the mean of MobileNetV2 vectors (f32) with those "
        "of full decoding.\n\n" + format_table(headings, rows)
    )


def _enlarge(data: bytes) -> bytes:
    """Enlarge a photograph to a JPEG of twelve megapixels."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").resize((4000, 3000), Image.Resampling.LANCZOS).save(
        stream, "JPEG", quality=90
    )
    return stream.getvalue()
