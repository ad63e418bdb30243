"""Made-up pictures with the detail of photographs, and edits of them, for tests of matching and of duplicates."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def draw_scene(seed: int, width: int = 480, height: int = 360) -> Image.Image:
    """A picture of overlapping shapes with texture: each seed gives another one."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), tuple(random.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(70):
        x, y = random.uniform(0, width), random.uniform(0, height)
        color = tuple(random.integers(0, 256, 3).tolist())
        if random.random() < 0.5:
            a, b = random.uniform(8, width / 6, 2)
            draw.ellipse((x - a, y - b, x + a, y + b), color)
        else:
            corners = np.array([x, y]) + random.uniform(-width / 6, width / 6, (int(random.integers(3, 6)), 2))
            draw.polygon([tuple(corner) for corner in corners.tolist()], color)
    noise = random.normal(0, 1, (height // 4, width // 4))
    grain = np.asarray(Image.fromarray(noise.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC))
    textured = np.asarray(image.filter(ImageFilter.GaussianBlur(0.7)), np.float32) + 12 * grain[..., None]
    return Image.fromarray(np.clip(textured, 0, 255).astype(np.uint8))


def recompress(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def cover(image: Image.Image, share: float) -> Image.Image:
    """Cover a share of the width of the picture, over its full height, with one colour."""
    covered = image.copy()
    ImageDraw.Draw(covered).rectangle((0, 0, share * image.width, image.height), (200, 30, 30))
    return covered


def rotate_and_crop(image: Image.Image, degrees: float) -> Image.Image:
    """Rotate counterclockwise, and keep the middle, which has no empty corners at up to 15 degrees."""
    turned = image.rotate(degrees, Image.Resampling.BICUBIC)
    across, down = 0.18 * image.width, 0.18 * image.height
    return turned.crop((round(across), round(down), round(image.width - across), round(image.height - down)))
