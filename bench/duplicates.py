"""Duplicates among 10,000 images, 1,000 photographs and nine edits of each: time, memory, precision, recall."""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from bench.setup import SHARED, find_weights, format_table, ingest, list_photographs, read_memory_mb, run_child
from simsearch import Collection, ModelChoice

N_PHOTOGRAPHS = 1000
BACKBONES = ("mobilenet_v2", "builtin")

Edit = Callable[[Image.Image, np.random.Generator], Image.Image]


def _crop(share: float, image: Image.Image, random: np.random.Generator) -> Image.Image:
    width, height = (round(length * share) for length in image.size)
    left, top = random.integers(image.width - width + 1), random.integers(image.height - height + 1)
    return image.crop((int(left), int(top), int(left) + width, int(top) + height))


def _rotate(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Rotate by three degrees and keep the middle nine tenths of both sides, which have no empty corners."""
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
"""The edits of a photograph, each with the JPEG quality of the result."""


def write_family(folder: Path, number: int, photograph: Path) -> None:
    """Write a photograph and its edits, as <number>_<edit>.jpg."""
    random = np.random.default_rng(number)
    data = photograph.read_bytes()
    (folder / f"{number:04}_original.jpg").write_bytes(data)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    for name, (edit, quality) in EDITS.items():
        edit(image, random).save(folder / f"{number:04}_{name}.jpg", quality=quality)


def list_originals() -> list[Path]:
    """List photographs without duplicates: one of each ImageNet class where they are available, else any."""
    folder = SHARED / "photos" / "imagenet_sample"
    return sorted(folder.glob("*.jpg"))[:N_PHOTOGRAPHS] if folder.is_dir() else list_photographs()


def measure() -> str:
    """Measure and format the section of the report."""
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
            result = json.loads(run_child("bench.duplicates", str(collection)))
            rows.append(
                [
                    backbone, f"{result['elapsed_s']:.1f} s", f"{result['peak_mb']:.0f} MB",
                    f"{result['n_right'] / max(1, result['n_pairs']):.4f}", f"{result['n_right'] / n_true:.3f}",
                    f"{result['n_groups']:,}", f"{result['near']:.3f}", f"{result['rate']:.5f}",
                    f"{result['expected']:.3f}",
                ]
            )  # fmt: skip
    headings = [
        "backbone", "complete search", "peak memory", "precision", "recall", "groups", "threshold", "expected rate",
        "expected recall",
    ]  # fmt: skip
    about = (
        f"{len(found):,} photographs and nine edits of each (JPEG quality 50 and 25, half and 1.5 times the size, "
        "mirrored, cropped to 95 % and 90 %, brightness, rotated by 3 degrees), indexed with `--precision auto`. The "
        "complete search goes from opening the collection to groups, with default settings in a new process. Precision "
        "and recall count pairs of files in one group; ten images of a photograph are 45 pairs. The expected rate (of "
        "images with a wrong partner) and recall (of an edit and its original) are those of the calibration."
    )
    return f"## Duplicates\n\n{about}\n\n{format_table(headings, rows)}"


def find_duplicates(folder: str) -> dict[str, float]:
    """Search a collection of families for duplicates in this process: time, memory, and the pairs found."""
    started = time.perf_counter()
    with Collection.open(folder) as collection:
        report = collection.duplicates()
    elapsed_s = time.perf_counter() - started
    pairs = [pair for group in report.groups for pair in combinations(group.paths, 2)]
    calibration = report.calibration
    assert calibration is not None  # near duplicates were searched
    return {
        "elapsed_s": elapsed_s, "peak_mb": read_memory_mb(), "n_pairs": len(pairs),
        "n_right": sum(Path(a).name[:4] == Path(b).name[:4] for a, b in pairs), "n_groups": len(report.groups),
        "near": calibration.near_similarity, "rate": calibration.false_positive_rate, "expected": calibration.recall,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(find_duplicates(sys.argv[1])))
