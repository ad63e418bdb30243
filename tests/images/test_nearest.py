"""The resize rule of the original study: Keras's `load_img(target_size=...)`."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from simsearch.images.decode import decode_square, read_raw_file
from simsearch.images.resize import ResizeRule
from tests.support.pictures import encode, photo

pytestmark = pytest.mark.long

LIMIT = 10**8


@pytest.mark.parametrize("size", [(320, 200), (1600, 1200), (90, 333), (31, 20)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_nearest_gives_the_very_pixels_of_keras(size: tuple[int, int], kind: str, tmp_path):
    """Decoded at full size, too: a reduced JPEG has other pixels."""
    path = tmp_path / f"picture.{kind.lower()}"
    path.write_bytes(encode(photo(*size), kind))
    raw = read_raw_file(str(path), has_picture_extension=True, max_pixels=LIMIT)
    _, square = decode_square(raw, ResizeRule(64, "nearest"), max_pixels=LIMIT)
    expected = keras.utils.img_to_array(keras.utils.load_img(path, target_size=(64, 64)))
    np.testing.assert_array_equal(square, expected)
