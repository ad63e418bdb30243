"""Small pictures that travel inside a page."""

from __future__ import annotations

import base64
import io

from PIL import Image

from simsearch.errors import ImageError
from simsearch.images.decode import compute_default_max_pixels, decode_image, read_raw_file

SIDE_PX = 120
_QUALITY = 72


def make_thumbnail(path: str, side_px: int = SIDE_PX) -> str | None:
    """The picture, whole, at most `side_px` wide and high, as a data address; None if it cannot be read any more."""
    limit = compute_default_max_pixels()
    try:
        raw = read_raw_file(path, has_picture_extension=True, max_pixels=limit)
        image = decode_image(raw.data, path, max_pixels=limit, target_px=side_px).image
    except ImageError:
        return None
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return encode_data_url(image)


def encode_data_url(image: Image.Image) -> str:
    """A picture, with what of it is transparent, as WebP."""
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
