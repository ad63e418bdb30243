"""Step 2. Find pool pictures that also appear in the test sets, to exclude them from training.

Each picture, whole and squashed, gets the MobileNetV2 teacher's features (int8) and a 16 x 16 gray thumbnail. A pool
picture is dropped when its features or its thumbnail, upright or mirrored, are close to those of a test picture.
Writes `dropped.txt`, and `overlap.jpg` with the closest pairs for inspection.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pool import PicturePool, unpack_pool
from targets import BATCH, TEACHER_SIDE_PX, Teacher, quantize_teacher

FEATURE_COSINE = 0.90
THUMBNAIL_COSINE = 0.94
N_SHOWN = 60


def squash(path: Path, side_px: int) -> NDArray[np.uint8]:
    """Load a picture, squashed to (side, side, 3) uint8."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((side_px, side_px), Image.Resampling.BILINEAR))


def make_thumbnails(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Make gray thumbnails: (n, side, side, 3) to (n, 256) unit rows of zero mean."""
    gray = pictures.astype(np.float32).mean(3)
    n, side = gray.shape[:2]
    small = gray.reshape(n, 16, side // 16, 16, side // 16).mean((2, 4)).reshape(n, 256)
    small -= small.mean(1, keepdims=True)
    return small / (np.linalg.norm(small, axis=1, keepdims=True) + 1e-3)


def describe(
    pictures: Sequence[Any], teacher: Teacher, load: Callable[[Any], NDArray[np.uint8]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute unit features and thumbnails of pictures, which `load` opens."""
    features, thumbs = [], []
    with ThreadPoolExecutor(2) as threads:
        for start in range(0, len(pictures), 1024):
            squares = np.stack(list(threads.map(load, pictures[start : start + 1024])))
            for nth, first in enumerate(range(0, len(squares), BATCH)):
                teacher.start(squares[first : first + BATCH], nth)
            features.append(teacher.finish())
            thumbs.append(make_thumbnails(squares))
    rows = np.concatenate(features)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), np.concatenate(thumbs)


def mirror(thumbs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mirror thumbnails left to right."""
    return thumbs.reshape(-1, 16, 16)[:, :, ::-1].reshape(-1, 256)


def draw_pairs(pairs: list[tuple[Path, NDArray[np.uint8]]], path: Path) -> None:
    """Draw pairs side by side on one sheet."""
    sheet = Image.new("RGB", (12 * 84, -(-len(pairs) // 6) * 84))
    for nth, (measured, pooled) in enumerate(pairs):
        left, top = nth % 6 * 168, nth // 6 * 84
        sheet.paste(Image.fromarray(squash(measured, 80)), (left, top))
        sheet.paste(Image.fromarray(pooled).resize((80, 80)), (left + 80, top))
    sheet.save(path)


def load_square(pool: PicturePool, index: int) -> NDArray[np.uint8]:
    """Load a pool picture, squashed to the teachers' side."""
    return np.asarray(
        Image.fromarray(pool.load_pixels(index)).resize((TEACHER_SIDE_PX,) * 2, Image.Resampling.BILINEAR)
    )


def main() -> None:
    """Run this step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True, help="pool.tar")
    parser.add_argument("--run", type=Path, required=True, help="folder for everything this training writes")
    parser.add_argument("--photos", type=Path, required=True, help="folder of the test sets")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    pool = unpack_pool(arguments.pool, arguments.run)
    teacher = Teacher(quantize_teacher(arguments.run, "mobilenet_v2", pool), arguments.threads)
    measured = sorted(path for path in arguments.photos.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    seen, seen_thumbs = describe(measured, teacher, lambda path: squash(path, TEACHER_SIDE_PX))
    rows, thumbs = describe(list(range(len(pool))), teacher, lambda index: load_square(pool, index))
    by_features = rows @ seen.T
    by_thumbs = np.maximum(thumbs @ seen_thumbs.T, mirror(thumbs) @ seen_thumbs.T)
    # Simple pictures (one shape on white) have equal thumbnails without being the same: the features must agree too.
    close = (by_features > FEATURE_COSINE) | ((by_thumbs > THUMBNAIL_COSINE) & (by_features > 0.6))
    gone = np.flatnonzero(close.any(1))
    (arguments.run / "dropped.txt").write_text("".join(f"{pool.names[i]}\n" for i in gone))
    score = np.maximum(by_features, np.where(by_features > 0.6, by_thumbs, 0) - THUMBNAIL_COSINE + FEATURE_COSINE)
    order = np.argsort(-score.max(1))[:N_SHOWN]
    draw_pairs([(measured[score[i].argmax()], pool.load_pixels(i)) for i in order], arguments.run / "overlap.jpg")
    print(f"{len(gone)} of {len(pool)} pool pictures dropped; scores of the closest pairs:")
    print(np.sort(score.max(1))[::-1][:N_SHOWN].round(3))


if __name__ == "__main__":
    main()
