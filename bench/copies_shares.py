"""Copies as 1 %, 50 % and 95 % of a collection: the same recall is wanted in all, and 10,000 images within 60 s.

`python -m bench copies-shares` (about three minutes on two idle cores). The same photographs with the twenty edits of
bench/copies_held_out.py lie among as many others as make the share; those of `BENCH_POOL`, or of ../shared/pool.tar.
At 1 % the collection has 10,000 images (`BENCH_FAMILIES`: other than five edited photographs, 2,000 images each).
"""

from __future__ import annotations

import itertools
import os
import tarfile
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from bench.copies import find_in_new_process
from bench.copies_held_out import EDITS, list_photographs, write_family
from bench.setup import SHARED, format_table

N_FAMILIES = int(os.environ.get("BENCH_FAMILIES", "5"))
SHARES = (0.01, 0.5, 0.95)
POOL = os.environ.get("BENCH_POOL", "")


def measure() -> str:
    """Measure and format the section of the report."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        files = list_photographs(POOL or _extract_pool(work))
        rows = [_measure_share(work / str(share), share, files) for share in SHARES]
    about = (
        f"The same {N_FAMILIES} photographs with {len(EDITS)} edits each in collections of three sizes. Recall: the "
        "edit is in the group of its original. Precision counts the pairs of groups with an edited photograph. The "
        "time is that of the search, after the images were indexed."
    )
    headings = ["copies", "images", "recall", "missed", "precision of pairs", "search", "processor time", "compared"]
    return f"## Copies as a share of the collection\n\n{about}\n\n{format_table(headings, rows)}"


def _extract_pool(work: Path) -> str:
    with tarfile.open(SHARED / "pool.tar") as archive:
        archive.extractall(work, filter="data")
    return str(work / "pool")


def _measure_share(folder: Path, share: float, files: list[Path]) -> list[str]:
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    edited, beside = files[:N_FAMILIES], files[-N_FAMILIES:]
    n_copies = N_FAMILIES * len(EDITS)
    others = files[N_FAMILIES:-N_FAMILIES][: max(0, round(n_copies / share) - n_copies - N_FAMILIES)]
    with ProcessPoolExecutor() as pool:
        write = partial(write_family, pictures)
        list(pool.map(write, range(N_FAMILIES), edited, beside, itertools.repeat(tuple(EDITS))))
        numbers = range(N_FAMILIES, N_FAMILIES + len(others))
        list(pool.map(write, numbers, others, others, itertools.repeat(()), chunksize=50))
    result = find_in_new_process(folder / "collection", pictures)
    n = N_FAMILIES + n_copies + len(others)
    return [f"{n_copies / n:.1%}", f"{n:,}", *_score(result), f"{result['elapsed_s']:.0f} s",
            f"{1e3 * result['processor_s'] / n:.1f} ms an image", f"{result['n_compared']:,} pairs"]  # fmt: skip


def _score(result: Mapping[str, Any]) -> tuple[str, str, str]:
    """Recall, the edits that are not found, and precision; names are <number>_<kind>_<row of the edit>.jpg."""
    found: set[tuple[int, int]] = set()
    n_pairs = n_right = 0
    for group in result["groups"]:
        for a, b in itertools.combinations([name[:-4].split("_") for name in group], 2):
            if min(int(a[0]), int(b[0])) >= N_FAMILIES:
                continue
            n_pairs += 1
            n_right += a[0] == b[0]
            if a[0] == b[0] and "original" in (a[2], b[2]):
                found.add((int(a[0]), int(b[2] if a[2] == "original" else a[2])))
    wanted = set(itertools.product(range(N_FAMILIES), range(len(EDITS))))
    missed = [f"{list(EDITS)[edit]} of {number}" for number, edit in sorted(wanted - found)]
    recall, precision = len(found) / len(wanted), n_right / max(1, n_pairs)
    return f"{recall:.3f}", ", ".join(missed), f"{precision:.4f} of {n_pairs:,}"
