"""The pool of unlabeled pictures, decoded once into a single memory-mapped file."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class PicturePool:
    """Decoded pictures. `names` and `sources` are (n,) str; the shorter side of a picture is 144 px."""

    names: NDArray[np.str_]
    sources: NDArray[np.str_]
    sizes: NDArray[np.int64]
    starts: NDArray[np.int64]
    data: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.names)

    def load_pixels(self, index: int) -> NDArray[np.uint8]:
        """Load picture `index`, (h, w, 3) uint8."""
        height, width = self.sizes[index]
        start = self.starts[index]
        return self.data[start : start + height * width * 3].reshape(height, width, 3)


def unpack_pool(tar: Path, run: Path) -> PicturePool:
    """Decode `pool.tar` into `run/pool.u8` and `run/pool.npz`, sorted by name, so that indexes are stable."""
    if not (run / "pool.npz").exists():
        names, sizes = [], []
        with tarfile.open(tar) as archive, (run / "pool.u8").open("wb") as out:
            members = sorted((m for m in archive.getmembers() if m.isfile()), key=lambda m: m.name)
            for member in members:
                file = archive.extractfile(member)
                if file is None:
                    continue
                pixels = np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))
                out.write(pixels.tobytes())
                names.append(member.name.removeprefix("pool/"))
                sizes.append(pixels.shape[:2])
        np.savez(run / "pool.npz", names=np.array(names), sizes=np.array(sizes, np.int64))
    stored = np.load(run / "pool.npz")
    n_bytes = stored["sizes"].prod(1) * 3
    return PicturePool(
        names=stored["names"],
        sources=np.array([name.split("/")[0] for name in stored["names"]]),
        sizes=stored["sizes"],
        starts=np.concatenate([[0], n_bytes.cumsum()[:-1]]),
        data=np.memmap(run / "pool.u8", np.uint8, "r"),
    )


def read_dropped_names(run: Path) -> set[str]:
    """Read the names of the pictures that overlap.py found in the test sets."""
    path = run / "dropped.txt"
    return set(path.read_text().split()) if path.exists() else set()
