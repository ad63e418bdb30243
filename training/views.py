"""Views of pool pictures: crops and mixtures for teacher and student, perturbations for the student only.

All views are drawn from a seed. A view is a row of numbers, and is rendered at any side when it is needed.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from pool import PicturePool

# Views per picture: few for sources with few kinds of pictures, more for sources with many.
VIEWS_PER_PICTURE = {
    "imagenette": 4, "intel_scenes": 4, "afhq_wild": 3, "catsdogs": 3, "clothing": 4, "houses_rooms": 4,
    "camvid_street": 2, "pacs_photo": 9, "hm_clothes": 9, "products": 14, "web_events": 8,
    "voc_subset": 12, "websearch_mixed": 6, "caltech_background_google": 16, "coco_small": 16, "coco_small2": 16,
}  # fmt: skip
MIXED_SHARE = 0.25
VIEW = np.dtype([
    ("picture", np.int32), ("box", np.float32, 4),
    ("partner", np.int32), ("partner_box", np.float32, 4),
    ("share", np.float32), ("window", np.float32, 4),
])  # fmt: skip
WHOLE = (0.0, 0.0, 1.0, 1.0)


def plan_views(pool: PicturePool, dropped: set[str], seed: int) -> NDArray[np.void]:
    """Draw all views, shuffled. The first view of a picture is the whole picture; a quarter of the others are mixtures.

    `box` and `window` are (left, top, right, bottom) as fractions. `partner` is -1 for a plain crop; `share` is the
    weight of the first picture in a blend (mixup), or 1 where the partner is pasted into `window` (CutMix).
    """
    rng = np.random.default_rng(seed)
    kept = [i for i in range(len(pool)) if pool.names[i] not in dropped]
    counts = np.array([VIEWS_PER_PICTURE[pool.sources[i]] for i in kept])
    partners = np.repeat(kept, counts)
    views = np.zeros(counts.sum(), VIEW)
    row = 0
    for picture, count in zip(kept, counts, strict=True):
        for nth in range(count):
            views[row]["picture"] = picture
            views[row]["partner"] = -1
            views[row]["share"] = 1
            views[row]["box"] = WHOLE if nth == 0 else draw_crop_box(rng)
            if nth > 0 and rng.random() < MIXED_SHARE:
                mix(views[row], int(rng.choice(partners)), rng)
            row += 1
    return views[rng.permutation(len(views))]


def draw_crop_box(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Draw a crop of 30 to 100 % of the area; its aspect ratio is the picture's times 3/4 to 4/3."""
    area = rng.uniform(0.3, 1.0)
    stretch = np.exp(rng.uniform(np.log(0.75), np.log(4 / 3)))
    width, height = min(1.0, np.sqrt(area * stretch)), min(1.0, np.sqrt(area / stretch))
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return left, top, left + width, top + height


def mix(view: np.void, partner: int, rng: np.random.Generator) -> None:
    """Turn a view into a mixture: blend it with a crop of another picture, or paste such a crop into it."""
    view["partner"] = partner
    view["partner_box"] = draw_crop_box(rng)
    if rng.random() < 0.5:
        view["share"] = rng.uniform(0.4, 0.8)
    else:
        width, height = rng.uniform(0.35, 0.75, 2)
        left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        view["window"] = (left, top, left + width, top + height)


def render(pool: PicturePool, view: np.void, side_px: int) -> NDArray[np.uint8]:
    """Render a view, squashed to (side, side, 3) uint8."""
    picture = crop(pool.load_pixels(view["picture"]), view["box"], side_px)
    if view["partner"] < 0:
        return picture
    partner = crop(pool.load_pixels(view["partner"]), view["partner_box"], side_px)
    share = float(view["share"])
    if share < 1:
        return (share * picture + (1 - share) * partner + 0.5).astype(np.uint8)
    left, top, right, bottom = (view["window"] * side_px).round().astype(int)
    pasted = picture.copy()
    pasted[top:bottom, left:right] = partner[top:bottom, left:right]
    return pasted


def crop(pixels: NDArray[np.uint8], box: NDArray[np.float32], side_px: int) -> NDArray[np.uint8]:
    """Crop a box of a picture, squashed to a square."""
    height, width = pixels.shape[:2]
    edges = np.clip(box * (width, height, width, height), 0, (width, height, width, height))
    square = Image.fromarray(pixels).resize((side_px, side_px), Image.Resampling.BILINEAR, box=tuple(map(float, edges)))
    return np.asarray(square)


def perturb(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Apply changes that must not change the vector: mirror, and at most one of rotation, JPEG, low detail or light."""
    image = Image.fromarray(pixels)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    kind = rng.random()
    if kind < 0.15:
        image = rotate(image, rng)
    elif kind < 0.25:
        image = recompress(image, rng)
    elif kind < 0.32:
        image = lose_detail(image, rng)
    elif kind < 0.52:
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.7, 1.3))
        image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.7, 1.3))
        image = ImageEnhance.Color(image).enhance(rng.uniform(0.6, 1.4))
    return np.asarray(image)


def rotate(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Rotate by up to 20 degrees; the corners are black, white or the picture's mean."""
    mean = tuple(int(value) for value in np.asarray(image).mean((0, 1)))
    fill = [(0, 0, 0), (255, 255, 255), mean][int(rng.choice(3, p=[0.5, 0.2, 0.3]))]
    return image.rotate(rng.uniform(-20, 20), Image.Resampling.BILINEAR, fillcolor=fill)


def recompress(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Encode as JPEG of quality 8 to 60, and decode."""
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=int(rng.integers(8, 60)))
    return Image.open(buffer).convert("RGB")


def lose_detail(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Resize down to 40 to 90 px and up again."""
    small = int(rng.integers(40, 90))
    return image.resize((small, small), Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BILINEAR)
