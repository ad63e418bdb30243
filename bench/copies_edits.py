"""Edits of photographs for the bench of copies: those of the tuning set, and others that shaped nothing."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

Edit = Callable[[Image.Image, np.random.Generator], Image.Image]
"""A function from an RGB picture to an edited one."""


def recompress(image: Image.Image, quality: int) -> Image.Image:
    """Save as JPEG and open again."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def _shrink(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))


def _change_tone(image: Image.Image, random: np.random.Generator) -> Image.Image:
    gamma, saturation = random.choice([0.6, 1.6]), random.choice([0.4, 1.7])
    changed = image.point([round(255 * (value / 255) ** gamma) for value in range(256)] * 3)
    return ImageEnhance.Color(changed).enhance(float(saturation))


def _build_crop(share: float) -> Edit:
    """Build a crop to a share of the area, at a random place, with slightly other proportions."""

    def edit(image: Image.Image, random: np.random.Generator) -> Image.Image:
        stretch = math.exp(random.uniform(-0.15, 0.15))
        width = min(image.width, round(image.width * math.sqrt(share) * stretch))
        height = min(image.height, round(image.height * math.sqrt(share) / stretch))
        left, top = int(random.integers(image.width - width + 1)), int(random.integers(image.height - height + 1))
        return image.crop((left, top, left + width, top + height))

    return edit


def _rotate(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Rotate by 6 to 15 degrees, and keep the largest part without empty corners."""
    degrees = float(random.uniform(6, 15) * random.choice([-1, 1]))
    sine, cosine = math.sin(math.radians(abs(degrees))), math.cos(math.radians(degrees))
    width, height = image.size
    share = min(width / (width * cosine + height * sine), height / (width * sine + height * cosine))
    across, down = width * (1 - share) / 2, height * (1 - share) / 2
    turned = image.rotate(degrees, Image.Resampling.BICUBIC)
    return turned.crop((math.ceil(across), math.ceil(down), math.floor(width - across), math.floor(height - down)))


def _blur_and_gray(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return ImageOps.grayscale(image.filter(ImageFilter.GaussianBlur(random.uniform(1.5, 3)))).convert("RGB")


def _overlay(image: Image.Image, random: np.random.Generator) -> Image.Image:
    covered = image.copy()
    draw = ImageDraw.Draw(covered)
    for _ in range(3):
        width, height = int(image.width * random.uniform(0.2, 0.4)), int(image.height * random.uniform(0.15, 0.35))
        left, top = int(random.integers(image.width - width + 1)), int(random.integers(image.height - height + 1))
        color = tuple(int(value) for value in random.integers(0, 256, 3))
        draw.rectangle((left, top, left + width, top + height), fill=color)
    return covered


def _chain_uploads(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Three services, each with a size and a quality of its own."""
    for quality in (60, 45, 30):
        image = recompress(_shrink(image, float(random.uniform(0.75, 1.1))), quality)
    return image


def _take_screenshot(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A phone's screen: bars above and below, the picture between white margins."""
    width, height = round(image.width * 1.12), round(image.height * 1.5)
    screen = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(screen)
    draw.rectangle((0, 0, width, height // 12), fill=(30, 30, 34))
    draw.rectangle((0, height - height // 9, width, height), fill=(240, 240, 242))
    for row in range(4):
        top = height - height // 10 + row * height // 45
        draw.line((10, top, int(random.uniform(0.3, 0.9) * width), top), fill="black")
    screen.paste(image, ((width - image.width) // 2, height // 6))
    return screen


def _make_meme(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Text with an outline over the upper and lower fifth."""
    meme = image.copy()
    draw = ImageDraw.Draw(meme)
    for top in (0.02, 0.82):
        text = "".join(chr(int(code)) for code in random.integers(65, 91, 14))
        place = (image.width * 0.04, image.height * top)
        draw.text(place, text, "white", font_size=image.height * 0.13, stroke_width=2, stroke_fill="black")
    return meme


def _mirror_and_crop(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return _build_crop(0.6)(ImageOps.mirror(image), random)


def _print_and_scan(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Seen slightly from the side, blurred, with less contrast and with noise."""
    width, height = image.size
    moved = random.uniform(0, 0.06, 8) * np.array([width, height] * 4)
    corners = (moved[0], moved[1], moved[2], height - moved[3], width - moved[4], height - moved[5], width - moved[6],
               moved[7])  # fmt: skip
    seen = image.transform(image.size, Image.Transform.QUAD, corners, Image.Resampling.BICUBIC)
    seen = ImageEnhance.Contrast(seen.filter(ImageFilter.GaussianBlur(1))).enhance(0.75)
    noisy = np.asarray(seen, np.float32) + random.normal(0, 6, (height, width, 1))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def _add_watermarks(image: Image.Image, _: np.random.Generator) -> Image.Image:
    layer = Image.new("RGBA", image.size)
    draw = ImageDraw.Draw(layer)
    for top in np.arange(0, image.height, image.height / 5):
        for left in np.arange(0, image.width, image.width / 3):
            draw.text((float(left), float(top)), "sample", (255, 255, 255, 110), font_size=image.height * 0.07)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


ISSUE_EDITS: Mapping[str, tuple[Edit, int]] = {
    "JPEG quality 10": (lambda image, _: image, 10),
    "quarter size": (lambda image, _: _shrink(image, 0.25), 85),
    "tone": (_change_tone, 85),
    "mirrored": (lambda image, _: ImageOps.mirror(image), 85),
    "crop to 50 %": (_build_crop(0.5), 85),
    "crop to 25 %": (_build_crop(0.25), 85),
    "rotated": (_rotate, 85),
    "blurred, gray": (_blur_and_gray, 85),
    "overlays": (_overlay, 85),
}
"""Edits whose recall was a target, each with the JPEG quality of the result."""

OTHER_EDITS: Mapping[str, tuple[Edit, int]] = {
    "three uploads": (_chain_uploads, 60),
    "screenshot": (_take_screenshot, 80),
    "meme": (_make_meme, 80),
    "mirrored crop": (_mirror_and_crop, 80),
    "print and scan": (_print_and_scan, 80),
    "watermarks": (_add_watermarks, 80),
}
"""Edits that were not used to choose any threshold."""
