"""Copies in collections with half and almost only copies: recall by edit, precision, time, and other tools."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from bench.copies_edits import ISSUE_EDITS, OTHER_EDITS
from bench.setup import SHARED, find_weights, format_table, ingest, list_photographs, read_memory_mb, run_child
from simsearch import Collection, ModelChoice

N_EDITED = 100
N_CLEAN = 1_000
BACKBONES = ("builtin", "mobilenet_v2")
SHARES = (0.5, 0.95)
"""The shares of edited copies in the collections."""

MAX_HASH_DISTANCE = 8
TOOLS_PYTHON = os.environ.get("BENCH_TOOLS_PYTHON", sys.executable)
"""The Python in which fastdup, imagehash and imagededup are installed, for the bench only."""

EDITS = {**ISSUE_EDITS, **OTHER_EDITS}


def write_family(folder: Path, number: int, photograph: Path) -> None:
    """Write a photograph and its edits, as <number>_<edit>.jpg."""
    random = np.random.default_rng(number)
    data = photograph.read_bytes()
    write_original(folder, number, photograph)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    for name, (edit, quality) in EDITS.items():
        edit(image, random).save(folder / f"{number:04}_{name}.jpg", quality=quality)


def write_original(folder: Path, number: int, photograph: Path) -> None:
    """Write a photograph without edits, as <number>_original.jpg."""
    shutil.copyfile(photograph, folder / f"{number:04}_original.jpg")


def list_report_photographs() -> list[Path]:
    """List photographs, three of each kind, whose edits shaped nothing: of Caltech 101 where available, else any."""
    folder = SHARED / "photos" / "caltech101_small"
    if not folder.is_dir():
        return list_photographs()
    return [file for kind in sorted(folder.iterdir()) for file in sorted(kind.glob("*.jpg"))[:10:4]]


def write_collection(folder: Path, photographs: Sequence[Path], share: float) -> None:
    """Write families and single photographs, so that a share of all pictures are edited copies."""
    edited = photographs[:N_EDITED]
    n_copies = len(edited) * len(EDITS)
    n_others = max(0, round(n_copies / share) - n_copies - len(edited))
    others = photographs[N_EDITED : N_EDITED + n_others]
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(write_family, folder), range(len(edited)), edited, chunksize=10))
        numbers = range(len(edited), len(edited) + len(others))
        list(pool.map(partial(write_original, folder), numbers, others, chunksize=50))


def find_copies(folder: str) -> dict[str, object]:
    """Search a collection for copies in this process: time, memory, and the groups of file names."""
    started = time.perf_counter()
    with Collection.open(folder) as collection:
        report = collection.duplicates()
    return {
        "elapsed_s": time.perf_counter() - started,
        "peak_mb": read_memory_mb(),
        "n_compared": report.n_compared,
        "groups": [[Path(path).name for path in group.paths] for group in report.groups],
    }


def score_pairs(pairs: Iterable[tuple[str, str]]) -> tuple[int, int, dict[str, float]]:
    """Count pairs of names, the right ones, and the share of edits of each kind that are paired with their original."""
    n_pairs = n_right = 0
    found: Counter[str] = Counter()
    for pair in pairs:
        a, b = sorted(pair)
        n_pairs += 1
        n_right += a[:4] == b[:4]
        kinds = [name[5:-4] for name in (a, b)]
        if a[:4] == b[:4] and "original" in kinds:
            found[kinds[0] if kinds[1] == "original" else kinds[1]] += 1
    return n_pairs, n_right, {name: found[name] / N_EDITED for name in EDITS}


def pair_by_hash(folder: Path, compute: str) -> list[tuple[str, str]]:
    """Pair pictures by a 64-bit hash of another library, at most 8 bits apart, in a process of its own."""
    command = [TOOLS_PYTHON, "-c", _HASH_SCRIPT, str(folder), compute, str(MAX_HASH_DISTANCE)]
    return [(a, b) for a, b in json.loads(subprocess.run(command, capture_output=True, check=True).stdout)]


_HASH_SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
folder, kind, limit = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
files = sorted(folder.glob("*.jpg"))
if kind == "imagehash":
    import imagehash
    from PIL import Image
    hashes = [int(str(imagehash.phash(Image.open(file))), 16) for file in files]
else:
    from imagededup.methods import PHash
    hashes = [int(PHash(verbose=False).encode_image(image_file=file), 16) for file in files]
codes = np.array(hashes, np.uint64)
bits = np.unpackbits(codes[:, None].view(np.uint8), axis=1).astype(np.int16)
pairs = []
for row in range(len(files)):
    near = np.flatnonzero((bits[row + 1:] != bits[row]).sum(1) <= limit) + row + 1
    pairs += [(files[row].name, files[other].name) for other in near]
print(json.dumps(pairs))
"""

_FASTDUP_SCRIPT = """
import json, sys
from pathlib import Path
import fastdup
work = fastdup.create(work_dir=sys.argv[2], input_dir=sys.argv[1])
work.run(threshold=0.85, overwrite=True, verbose=False, num_threads=2)
found = work.similarity()
print(json.dumps([(Path(a).name, Path(b).name) for a, b in zip(found["filename_from"], found["filename_to"])]))
"""


def pair_by_fastdup(folder: Path, work: Path) -> list[tuple[str, str]]:
    """Pair pictures by fastdup at a cosine of 0.85; each pair once."""
    command = [TOOLS_PYTHON, "-c", _FASTDUP_SCRIPT, str(folder), str(work)]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    return sorted({(min(a, b), max(a, b)) for a, b in json.loads(lines[-1]) if a != b})


def measure() -> str:
    """Measure and format the section of the report."""
    photographs = list_report_photographs()
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as name:
        for share in SHARES:
            pictures = Path(name) / f"pictures_{share}"
            pictures.mkdir()
            write_collection(pictures, photographs, share)
            n_pictures = len(list(pictures.iterdir()))
            for backbone in BACKBONES:
                weights = find_weights(backbone) if backbone != "builtin" else None
                collection = Path(name) / f"{backbone}_{share}"
                ingest(collection, [pictures], ModelChoice(backbone=backbone, weights=weights))
                result = json.loads(run_child("bench.copies", str(collection)))
                pairs = [pair for group in result["groups"] for pair in itertools.combinations(group, 2)]
                tool = f"simsearch, {backbone}, {n_pictures:,} images, {share:.0%} copies"
                rows.append(_format_row(tool, pairs, f"{result['elapsed_s']:.0f} s"))
        rows += _measure_others(pictures, Path(name))
        clean = _measure_clean(Path(name))
    headings = ["tool", "pairs", "precision", *EDITS, "time"]
    about = (
        f"{N_EDITED} photographs of Caltech 101 with {len(EDITS)} edits each, among other photographs of it. "
        "The rule was fixed on other photographs and other edits. "
        "Recall by edit: the edit and its original are in one group (other tools: a pair). "
        "Precision counts all pairs of a group."
    )
    return f"## Copies\n\n{about}\n\n{format_table(headings, rows)}\n\n{clean}"


def _measure_clean(folder: Path) -> str:
    """List the groups that are found among photographs without edits, for a person to look at."""
    ingest(folder / "clean", list_photographs()[:N_CLEAN], ModelChoice(backbone="builtin"))
    result = json.loads(run_child("bench.copies", str(folder / "clean")))
    groups = "; ".join(" = ".join(group) for group in result["groups"])
    return (
        f"{N_CLEAN:,} of the photographs alone, {result['elapsed_s']:.0f} s: {len(result['groups'])} groups: {groups}"
    )


def _measure_others(pictures: Path, work: Path) -> list[list[str]]:
    """Measure the other tools that are installed."""
    rows = []
    for tool in ("imagehash", "imagededup", "fastdup"):
        started = time.perf_counter()
        try:
            pairs = pair_by_fastdup(pictures, work / "fastdup") if tool == "fastdup" else pair_by_hash(pictures, tool)
        except subprocess.CalledProcessError:
            rows.append([tool, "not installed", *[""] * (len(EDITS) + 2)])
            continue
        rows.append(_format_row(tool, pairs, f"{time.perf_counter() - started:.0f} s"))
    return rows


def _format_row(tool: str, pairs: Sequence[tuple[str, str]], elapsed: str) -> list[str]:
    n_pairs, n_right, recalls = score_pairs(pairs)
    return [
        tool, f"{n_pairs:,}", f"{n_right / max(1, n_pairs):.4f}", *(f"{value:.2f}" for value in recalls.values()),
        elapsed,
    ]  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(find_copies(sys.argv[1])))
