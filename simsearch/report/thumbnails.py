"""Small pictures that travel inside a page."""

from __future__ import annotations

import base64
import io

from PIL import Image

from simsearch.errors import ImageError
from simsearch.images.decode import decode, default_max_pixels, read

SIDE_PX = 120
_QUALITY = 72


def thumbnail(path: str) -> str | None:
    """The picture, whole, at most `SIDE_PX` wide and high, as a data address; None if it cannot be read any more."""
    limit = default_max_pixels()
    try:
        raw = read(path, claims_picture=True, max_pixels=limit)
        image = decode(raw.data, path, max_pixels=limit, target_px=SIDE_PX).image
    except ImageError:
        return None
    image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
