"""Duplicates among 10,000 pictures: 1,000 photographs and nine edits of each. Time, memory, precision, recall."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from bench.setup import SHARED, find_weights, format_table, ingest, list_photographs, run_child
from simsearch import ModelChoice

N_PHOTOGRAPHS = 1000
BACKBONES = ("mobilenet_v2", "builtin")

Edit = Callable[[Image.Image, np.random.Generator], Image.Image]


def _crop(share: float, image: Image.Image, random: np.random.Generator) -> Image.Image:
    width, height = (round(length * share) for length in image.size)
    left, top = random.integers(image.width - width + 1), random.integers(image.height - height + 1)
    return image.crop((int(left), int(top), int(left) + width, int(top) + height))


def _rotate(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """By three degrees, with the middle nine tenths of both sides, which has no empty corner."""
    margins = (image.width * 0.05, image.height * 0.05)
    turned = image.rotate(3.0 * float(random.choice([-1, 1])), Image.Resampling.BICUBIC)
    left, top = (round(margin) for margin in margins)
    return turned.crop((left, top, image.width - left, image.height - top))


def _change_brightness(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(float(random.choice([0.75, 1.25])))


def _resize(factor: float, image: Image.Image, _: np.random.Generator) -> Image.Image:
    width, height = (round(length * factor) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


EDITS: dict[str, tuple[Edit, int]] = {
    "quality 50": (lambda image, _: image, 50),
    "quality 25": (lambda image, _: image, 25),
    "half": (partial(_resize, 0.5), 85),
    "larger": (partial(_resize, 1.5), 85),
    "mirrored": (lambda image, _: ImageOps.mirror(image), 90),
    "crop 95": (partial(_crop, 0.95), 90),
    "crop 90": (partial(_crop, 0.90), 90),
    "brightness": (_change_brightness, 90),
    "turned": (_rotate, 90),
}
"""What is done to a photograph, and the JPEG quality it is then stored with."""


def write_family(folder: Path, number: int, photograph: Path) -> None:
    """A photograph and its edits, as <number>_<edit>.jpg."""
    random = np.random.default_rng(number)
    data = photograph.read_bytes()
    (folder / f"{number:04}_original.jpg").write_bytes(data)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    for name, (edit, quality) in EDITS.items():
        edit(image, random).save(folder / f"{number:04}_{name}.jpg", quality=quality)


def list_originals() -> list[Path]:
    """One photograph of each ImageNet class where they are, else what there is: pictures without duplicates."""
    folder = SHARED / "photos" / "imagenet_sample"
    return sorted(folder.glob("*.jpg"))[:N_PHOTOGRAPHS] if folder.is_dir() else list_photographs()


_FIND = """
import json, sys, time
from itertools import combinations
from pathlib import Path
from simsearch import Collection
started = time.perf_counter()
with Collection.open(sys.argv[1]) as collection:
    report = collection.duplicates()
elapsed_s = time.perf_counter() - started
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
pairs = [pair for group in report.groups for pair in combinations(group.paths, 2)]
right = sum(Path(a).name[:4] == Path(b).name[:4] for a, b in pairs)
calibration = report.calibration
print(json.dumps({
    "elapsed_s": elapsed_s, "peak_mb": int(status["VmHWM"].split()[0]) / 1e3, "n_pairs": len(pairs), "n_right": right,
    "n_groups": len(report.groups), "near": calibration.near_similarity, "rate": calibration.false_positive_rate,
    "expected": calibration.recall,
}))
"""


def measure() -> str:
    """The section of the report."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        pictures = Path(name) / "pictures"
        pictures.mkdir()
        found = list_originals()
        with ProcessPoolExecutor() as pool:
            list(pool.map(partial(write_family, pictures), range(len(found)), found, chunksize=50))
        n_true = len(found) * (len(EDITS) + 1) * len(EDITS) // 2
        for backbone in BACKBONES:
            weights = find_weights(backbone) if backbone != "builtin" else None
            collection = Path(name) / backbone
            ingest(collection, [pictures], ModelChoice(backbone=backbone, weights=weights))
            result = json.loads(run_child(_FIND, str(collection)))
            rows.append(
                [
                    backbone, f"{result['elapsed_s']:.1f} s", f"{result['peak_mb']:.0f} MB",
                    f"{result['n_right'] / max(1, result['n_pairs']):.4f}", f"{result['n_right'] / n_true:.3f}",
                    f"{result['n_groups']:,}", f"{result['near']:.3f}", f"{result['rate']:.5f}",
                    f"{result['expected']:.3f}",
                ]
            )  # fmt: skip
    headings = [
        "backbone", "whole search", "peak memory", "precision", "recall", "groups", "threshold", "expected rate",
        "expected recall",
    ]  # fmt: skip
    about = (
        f"{len(found):,} photographs and nine edits of each (JPEG quality 50 and 25, half and 1.5 times the size, "
        "mirrored, cropped to 95 % and 90 %, brightness, turned by 3 degrees), indexed with `--precision auto`. The "
        "whole search, from opening the collection to groups, with default settings in a fresh process. Precision and "
        "recall count pairs of files that stand in one group; the ten pictures of a photograph are 45 pairs. The "
        "expected rate (of images given a wrong partner) and recall (of an edit and its original) are what the "
        "calibration tells the user."
    )
    return f"## Duplicates\n\n{about}\n\n{format_table(headings, rows)}"
