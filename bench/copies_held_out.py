"""Copies that shaped nothing: other photographs with other edits, found by the commands as a user types them.

`BENCH_POOL=FOLDER python -m bench.copies_held_out` (about 15 minutes on two cores). `BENCH_POOL` names a folder of
photographs of many kinds, from which edited ones and those around them are drawn. `BENCH_KEEP=FOLDER` keeps pictures,
collection and report there, to look at the wrong pairs. Places, angles and strengths are drawn anew for each picture.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import resource
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from bench.copies_edits import recompress
from bench.setup import SHARED, SIMSEARCH, format_table

N_EDITED = int(os.environ.get("BENCH_EDITED", "300"))
N_OTHERS = int(os.environ.get("BENCH_OTHERS", "2000"))
SEED = int(os.environ.get("BENCH_SEED", "1741"))
POOL = os.environ.get("BENCH_POOL", "")
KEEP = os.environ.get("BENCH_KEEP", "")

Edit = Callable[[Image.Image, np.random.Generator, Image.Image], tuple[Image.Image, int]]
"""A function of a picture and another one (for collages) to an edited picture and the JPEG quality to save it with."""

_TUNING_KIND, _N_DIGITS = "imagenet_sample", 5


def _crop(image: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """Crop to a share of the area, anywhere, with the proportions of the picture."""
    width, height = (max(1, round(length * math.sqrt(share))) for length in image.size)
    left, top = int(random.integers(image.width - width + 1)), int(random.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def _draw_degrees(random: np.random.Generator) -> float:
    return float(random.uniform(3, 15) * random.choice([-1, 1]))


def _rotate_and_crop(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Rotate, and keep the largest centered part of the same proportions that has no empty corner."""
    degrees = _draw_degrees(random)
    turned = image.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    sine, cosine = math.sin(math.radians(abs(degrees))), math.cos(math.radians(degrees))
    (width, height), longer, shorter = image.size, max(image.size), min(image.size)
    scale = 1 / (cosine + sine * longer / shorter)
    box = [turned.width / 2 + side * width * scale / 2 for side in (-1, 1)]
    rows = [turned.height / 2 + side * height * scale / 2 for side in (-1, 1)]
    return turned.crop((math.ceil(box[0]), math.ceil(rows[0]), math.floor(box[1]), math.floor(rows[1])))


def _rotate_with_corners(image: Image.Image, random: np.random.Generator, color: str, *, expand: bool) -> Image.Image:
    return image.rotate(_draw_degrees(random), Image.Resampling.BICUBIC, expand=expand, fillcolor=color)


def _change_tone(image: Image.Image, random: np.random.Generator) -> Image.Image:
    gamma, saturation = math.exp(random.uniform(math.log(0.6), math.log(1.6))), float(random.uniform(0.3, 1.8))
    changed = image.point([round(255 * (value / 255) ** gamma) for value in range(256)] * 3)
    return ImageEnhance.Color(changed).enhance(saturation)


def _cover_with_boxes(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Three boxes, each of 4 to 12 % of the area."""
    covered = image.copy()
    draw = ImageDraw.Draw(covered)
    for _ in range(3):
        share, stretch = random.uniform(0.04, 0.12), math.exp(random.uniform(-0.4, 0.4))
        width = min(image.width - 1, round(image.width * math.sqrt(share) * stretch))
        height = min(image.height - 1, round(image.height * math.sqrt(share) / stretch))
        left, top = int(random.integers(image.width - width)), int(random.integers(image.height - height))
        draw.rectangle((left, top, left + width, top + height), fill=tuple(random.integers(0, 256, 3).tolist()))
    return covered


def _quarter(image: Image.Image) -> Image.Image:
    return image.resize((max(1, image.width // 4), max(1, image.height // 4)), Image.Resampling.LANCZOS)


def _make_collage(image: Image.Image, random: np.random.Generator, other: Image.Image) -> Image.Image:
    """The picture and another one of its height side by side, in either order."""
    beside = other.resize((max(1, round(other.width * image.height / other.height)), image.height))
    pair = [image, beside] if random.random() < 0.5 else [beside, image]
    canvas = Image.new("RGB", (image.width + beside.width, image.height))
    canvas.paste(pair[0], (0, 0))
    canvas.paste(pair[1], (pair[0].width, 0))
    return canvas


def _print_and_scan(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A print on a desk: perspective, a light gradient, a paper tint, noise."""
    width, height = image.size
    inset = random.uniform(-0.05, 0.05, 8) * np.array([width, height] * 4)
    corners = np.array([0, 0, 0, height, width, height, width, 0]) + inset
    seen = image.transform(image.size, Image.Transform.QUAD, tuple(corners), Image.Resampling.BICUBIC, fillcolor="gray")
    light = np.linspace(random.uniform(0.75, 1.0), random.uniform(0.75, 1.0), width, dtype=np.float32)[None, :, None]
    paper = np.asarray(seen, np.float32) * light * np.array([1.0, 0.97, 0.9], np.float32)
    noisy = 20 + 0.85 * paper + random.normal(0, 5, (height, width, 1))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def _write_text(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A meme: two lines with outlines at the top, one at the bottom."""
    meme = image.copy()
    draw = ImageDraw.Draw(meme)
    for top in (0.01, 0.13, 0.85):
        words = "".join(chr(int(code)) for code in random.integers(65, 91, int(random.integers(8, 15))))
        place = (image.width * float(random.uniform(0.02, 0.2)), image.height * top)
        draw.text(place, words, "white", font_size=image.height * 0.11, stroke_width=2, stroke_fill="black")
    return meme


def _take_screenshot(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A dark player with the picture in the middle, a caption and buttons below."""
    width, height = round(image.width * random.uniform(1.0, 1.25)), round(image.height * random.uniform(1.3, 1.8))
    screen = Image.new("RGB", (width, height), (18, 18, 20))
    draw = ImageDraw.Draw(screen)
    top = (height - image.height) // 2
    screen.paste(image, ((width - image.width) // 2, top))
    draw.text((8, top * 0.4), "Photos   12:4" + str(random.integers(10)), "white", font_size=max(8, top * 0.25))
    for number in range(4):
        middle, size = width * (2 * number + 1) / 8, max(2, top // 6)
        draw.ellipse((middle - size, height - top / 2 - size, middle + size, height - top / 2 + size), fill="gray")
    return screen


def _add_grid(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Slanted words in a grid, of a third of full opacity."""
    side = 2 * max(image.size)
    layer = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(layer)
    size = min(image.size) * 0.08
    for top in np.arange(0, side, size * 3):
        for left in np.arange(0, side, size * 6):
            draw.text((float(left), float(top)), "PREVIEW", (255, 255, 255, 90), font_size=size)
    turned = layer.rotate(float(random.uniform(20, 40)))
    corner = ((side - image.width) // 2, (side - image.height) // 2)
    turned = turned.crop((*corner, corner[0] + image.width, corner[1] + image.height))
    return Image.alpha_composite(image.convert("RGBA"), turned).convert("RGB")


def _blur_and_gray(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return ImageOps.grayscale(image.filter(ImageFilter.GaussianBlur(random.uniform(1.5, 3)))).convert("RGB")


EDITS: Mapping[str, Edit] = {
    "JPEG quality 8 to 12": lambda image, random, _: (image, int(random.integers(8, 13))),
    "quarter size": lambda image, *_: (_quarter(image), 88),
    "tone": lambda image, random, _: (_change_tone(image, random), 88),
    "mirrored": lambda image, *_: (ImageOps.mirror(image), 88),
    "crop to 50 %": lambda image, random, _: (_crop(image, 0.5, random), 88),
    "crop to 25 %": lambda image, random, _: (_crop(image, 0.25, random), 88),
    "mirrored crop to 50 %": lambda image, random, _: (ImageOps.mirror(_crop(image, 0.5, random)), 88),
    "rotated, cropped": lambda image, random, _: (_rotate_and_crop(image, random), 88),
    "rotated, black corners": lambda image, random, _: (_rotate_with_corners(image, random, "black", expand=False), 88),
    "rotated, white corners": lambda image, random, _: (_rotate_with_corners(image, random, "white", expand=True), 88),
    "blurred, gray": lambda image, random, _: (_blur_and_gray(image, random), 88),
    "three boxes": lambda image, random, _: (_cover_with_boxes(image, random), 88),
    "meme": lambda image, random, _: (_write_text(image, random), 80),
    "screenshot": lambda image, random, _: (_take_screenshot(image, random), 80),
    "watermarks": lambda image, random, _: (_add_grid(image, random), 80),
    "collage of two": lambda image, random, other: (_make_collage(image, random, other), 80),
    "print and scan": lambda image, random, _: (_print_and_scan(image, random), 80),
    "crop to 70 %, JPEG 20": lambda image, random, _: (_crop(image, 0.7, random), 20),
    "tone, quarter size": lambda image, random, _: (_quarter(_change_tone(image, random)), 80),
    "crop to 60 %, then JPEG 50 and 30": lambda image, random, _: (recompress(_crop(image, 0.6, random), 50), 30),
}


def list_photographs(folder: str = POOL) -> list[Path]:
    """List photographs of a folder and of Caltech 101 in turn, each in an order drawn at random."""
    random = np.random.default_rng(SEED)
    caltech = sorted((SHARED / "photos" / "caltech101_small").rglob("*.jpg"))
    pool = [file for file in sorted(Path(folder).rglob("*.jpg")) if _TUNING_KIND not in file.parts] if folder else []
    kinds = defaultdict[Path, list[Path]](list)
    for row in random.permutation(len(pool)):
        kinds[pool[row].parent].append(pool[row])
    mixed = [file for group in itertools.zip_longest(*kinds.values()) for file in group if file]
    drawn = [caltech[row] for row in random.permutation(len(caltech))]
    return [file for pair in itertools.zip_longest(mixed, drawn) for file in pair if file]


def write_family(folder: Path, number: int, photograph: Path, other: Path, edits: Sequence[str]) -> None:
    """Write a photograph as <number>_<kind>_original.jpg, and its edits as <number>_<kind>_<row of the edit>.jpg."""
    image = Image.open(photograph).convert("RGB")
    kind = "caltech" if "caltech101_small" in photograph.parts else "pool"
    stem = f"{number:0{_N_DIGITS}}_{kind}"
    (folder / f"{stem}_original.jpg").write_bytes(photograph.read_bytes())
    for row, name in enumerate(edits):
        edited, quality = EDITS[name](
            image, np.random.default_rng([SEED, number, row]), Image.open(other).convert("RGB")
        )
        edited.save(folder / f"{stem}_{row}.jpg", quality=quality)


def run(*arguments: str) -> str:
    """Run the command line; returns what it prints."""
    done = subprocess.run([str(SIMSEARCH), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"simsearch {' '.join(arguments)}: {done.stderr[-2000:]}")
    return done.stdout


def measure() -> str:
    """Measure and format the section of the report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(KEEP or name)
        pictures = folder / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        files = list_photographs()
        edited, others = files[:N_EDITED], files[N_EDITED : N_EDITED + N_OTHERS]
        write = partial(write_family, pictures)
        with ProcessPoolExecutor() as pool:
            beside = files[-N_EDITED:]
            list(pool.map(write, range(N_EDITED), edited, beside, itertools.repeat(tuple(EDITS)), chunksize=10))
            numbers = range(N_EDITED, N_EDITED + len(others))
            list(pool.map(write, numbers, others, others, itertools.repeat(()), chunksize=50))
        run("index", str(pictures), "--into", str(folder / "collection"))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        document = run("duplicates", "--in", str(folder / "collection"), "--json")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        (folder / "duplicates.json").write_text(document)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return format_report(json.loads(document), len(list(pictures.iterdir())), seconds)


def format_report(document: Mapping[str, Any], n_images: int, seconds: float) -> str:
    """Format recall by edit, and the pairs that are wrong."""
    groups = [[Path(file["path"]).name for member in group["members"] for file in member["files"]]
              for group in document["groups"]]  # fmt: skip
    found: dict[str, Counter[str]] = {"caltech": Counter(), "pool": Counter()}
    n_edited: Counter[str] = Counter()
    n_pairs, wrong, unedited = 0, [], []
    for group in groups:
        for a, b in itertools.combinations(sorted(group), 2):
            if int(a[:_N_DIGITS]) >= N_EDITED and int(b[:_N_DIGITS]) >= N_EDITED:
                unedited.append((a, b))
                continue
            n_pairs += 1
            if a[:_N_DIGITS] != b[:_N_DIGITS]:
                wrong.append((a, b))
            elif (a + b).count("original"):
                edit, kind = (b if "original" in a else a).split("_")[2][:-4], a.split("_")[1]
                found[kind][list(EDITS)[int(edit)]] += 1
    n_edited.update(kind for _, kind in zip(range(N_EDITED), itertools.cycle(["pool", "caltech"]), strict=False))
    rows = [[name, *(f"{found[kind][name] / max(1, n_edited[kind]):.3f}" for kind in found),
             f"{sum(of[name] for of in found.values()) / N_EDITED:.3f}"] for name in EDITS]  # fmt: skip
    rights = n_pairs - len(wrong)
    about = (
        f"{N_EDITED} photographs with {len(EDITS)} edits each among {N_OTHERS:,} others: {n_images:,} images, "
        f"{seconds:.0f} s of processor time ({1e3 * seconds / n_images:.1f} ms an image), {len(groups):,} groups. "
        f"Of {n_pairs:,} pairs in groups that have an edited photograph {rights:,} are right: precision "
        f"{rights / max(1, n_pairs):.4f}. Pairs of photographs without edits: {len(unedited)}."
    )
    lists = [f"{kind}: {some}" for kind, some in (("wrong", wrong), ("without edits", unedited))]
    return "\n\n".join([about, format_table(["edit", *found, "all"], rows), *lists])


if __name__ == "__main__":
    print(measure())
