"""Copies: recall by edit, precision and time, and other tools.

`python -m bench copies` (about ten minutes on two cores). `BENCH_TOOLS_PYTHON` names a Python that has fastdup,
imagehash and imagededup (`pip install --no-deps fastdup imagehash imagededup "sentry-sdk<2.21" PyWavelets` beside
NumPy, SciPy, pandas, OpenCV and Pillow); of imagededup only the hashes are used, so PyTorch is not needed.
"""

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
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.copies_edits import ISSUE_EDITS, OTHER_EDITS
from bench.setup import SHARED, find_weights, format_table, ingest, list_photographs, read_memory_mb, run_child
from simsearch import Collection, ModelChoice

N_EDITED, N_OTHERS = 100, 200
N_CLEAN = 1_000
BACKBONES = ("builtin", "mobilenet_v2")

N_MANY, MANY_EDITS = 500, (
    "JPEG quality 10", "quarter size", "tone", "crop to 50 %", "rotated", "blurred, gray", "overlays",
)  # fmt: skip
"""The photographs with seven edits each that are one collection."""

MAX_HASH_DISTANCE = 8
TOOLS_PYTHON = os.environ.get("BENCH_TOOLS_PYTHON", sys.executable)
"""The Python in which fastdup, imagehash and imagededup are installed, for the bench only."""

EDITS = {**ISSUE_EDITS, **OTHER_EDITS}

_N_DIGITS = 5


def write_family(folder: Path, number: int, photograph: Path, edits: Sequence[str] = tuple(EDITS)) -> None:
    """Write a photograph and its edits, as <number>_<edit>.jpg."""
    random = np.random.default_rng(number)
    data = photograph.read_bytes()
    write_original(folder, number, photograph)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    for name in edits:
        edit, quality = EDITS[name]
        edit(image, random).save(folder / f"{number:0{_N_DIGITS}}_{name}.jpg", quality=quality)


def write_original(folder: Path, number: int, photograph: Path) -> None:
    """Write a photograph without edits, as <number>_original.jpg."""
    shutil.copyfile(photograph, folder / f"{number:0{_N_DIGITS}}_original.jpg")


def list_report_photographs() -> list[Path]:
    """List photographs, three of each kind, whose edits shaped nothing: of Caltech 101 where available, else any."""
    folder = SHARED / "photos" / "caltech101_small"
    if not folder.is_dir():
        return list_photographs()
    return [file for kind in sorted(folder.iterdir()) for file in sorted(kind.glob("*.jpg"))[:10:4]]


def list_other_photographs() -> list[Path]:
    """List the photographs of Caltech 101 that `list_report_photographs` leaves out, of all kinds in turn."""
    used = set(list_report_photographs())
    left = [file for file in list_photographs() if file not in used] or list_photographs()
    return [left[row] for row in np.random.default_rng(0).permutation(len(left))]


def write_collection(
    folder: Path, edited: Sequence[Path], others: Sequence[Path], edits: Sequence[str] = tuple(EDITS)
) -> int:
    """Write photographs with their edits, and others without; returns the number of pictures."""
    folder.mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        write = partial(write_family, folder, edits=edits)
        list(pool.map(write, range(len(edited)), edited, chunksize=10))
        numbers = range(len(edited), len(edited) + len(others))
        list(pool.map(partial(write_original, folder), numbers, others, chunksize=50))
    return len(edited) * (1 + len(edits)) + len(others)


def find_copies(folder: str) -> dict[str, object]:
    """Search a collection for copies in this process: time, memory, and the groups of file names."""
    started, before_s = time.perf_counter(), time.process_time()
    with Collection.open(folder) as collection:
        report = collection.duplicates()
    return {
        "elapsed_s": time.perf_counter() - started,
        "processor_s": time.process_time() - before_s,
        "peak_mb": read_memory_mb(),
        "n_compared": report.n_compared,
        "groups": [[Path(path).name for path in group.paths] for group in report.groups],
    }


def score_pairs(
    pairs: Iterable[tuple[str, str]], n_edited: int = N_EDITED, edits: Iterable[str] = EDITS
) -> tuple[int, int, dict[str, float]]:
    """Count pairs of names, the right ones, and the share of edits of each kind that are paired with their original.

    Pairs of two photographs that were not edited do not count: a data set may hold copies of its own.
    """
    n_pairs = n_right = 0
    found: Counter[str] = Counter()
    for pair in pairs:
        a, b = sorted(pair)
        if min(int(a[:_N_DIGITS]), int(b[:_N_DIGITS])) >= n_edited:
            continue
        n_pairs += 1
        is_right = a[:_N_DIGITS] == b[:_N_DIGITS]
        n_right += is_right
        kinds = [name[_N_DIGITS + 1 : -4] for name in (a, b)]
        if is_right and "original" in kinds:
            found[kinds[0] if kinds[1] == "original" else kinds[1]] += 1
    return n_pairs, n_right, {name: found[name] / n_edited for name in edits}


def pair_by_hash(folder: Path, compute: str) -> list[tuple[str, str]]:
    """Pair pictures by a 64-bit hash of another library, at most 8 bits apart, in a process of its own."""
    command = [TOOLS_PYTHON, "-c", _HASH_SCRIPT, str(folder), compute, str(MAX_HASH_DISTANCE)]
    return [(a, b) for a, b in json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)]


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
    import importlib.util, types
    root = Path(importlib.util.find_spec("imagededup").origin).parent
    for name in ("methods", "utils"):  # these packages import the networks, too, which need PyTorch; hashes do not
        package = sys.modules["imagededup." + name] = types.ModuleType("imagededup." + name)
        package.__path__ = [str(root / name)]
    from imagededup.methods.hashing import PHash
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
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        edits, many = _measure_edits(work / "edits"), _measure_many(work / "many")
        parts = [edits, many, _measure_clean(work / "clean")]
    about = (
        "Recall by edit: the edit and its original are in one group (other tools: a pair). Precision counts all pairs "
        "of a group in which an edited photograph or one of its edits is."
    )
    return "\n\n".join(["## Copies", about, *parts])


def _measure_edits(folder: Path) -> str:
    photographs = list_report_photographs()
    pictures = folder / "pictures"
    n = write_collection(pictures, photographs[:N_EDITED], photographs[N_EDITED : N_EDITED + N_OTHERS])
    rows = []
    for backbone in BACKBONES:
        weights = find_weights(backbone) if backbone != "builtin" else None
        result = find_in_new_process(folder / backbone, pictures, ModelChoice(backbone=backbone, weights=weights))
        rows.append(_format_row(f"simsearch, {backbone}", *_score(result), _format_cost(result, n)))
    rows += _measure_others(pictures, folder)
    about = (
        f"{N_EDITED} photographs of Caltech 101 with {len(EDITS)} edits each, among {N_OTHERS} other photographs of "
        f"it ({n:,} images)."
    )
    return f"{about}\n\n{format_table(['tool', 'pairs', 'precision', *EDITS, 'cost'], rows)}"


def _measure_many(folder: Path) -> str:
    n = write_collection(folder / "pictures", list_other_photographs()[:N_MANY], [], MANY_EDITS)
    result = find_in_new_process(folder / "collection", folder / "pictures")
    row = _format_row(f"{n:,} images", *_score(result, N_MANY, MANY_EDITS), _format_cost(result, n))
    about = f"{N_MANY} other photographs of Caltech 101 with {len(MANY_EDITS)} edits each in one collection."
    return f"{about}\n\n{format_table(['', 'pairs', 'precision', *MANY_EDITS, 'cost'], [row])}"


def find_in_new_process(collection: Path, pictures: Path, choice: ModelChoice | None = None) -> dict[str, Any]:
    """Index pictures, and search them for copies in a process of its own."""
    ingest(collection, [pictures], choice or ModelChoice(backbone="builtin"))
    return dict(json.loads(run_child("bench.copies", str(collection))))


def _score(
    result: Mapping[str, Any], n_edited: int = N_EDITED, edits: Iterable[str] = EDITS
) -> tuple[int, int, dict[str, float]]:
    pairs = (pair for group in result["groups"] for pair in itertools.combinations(group, 2))
    return score_pairs(pairs, n_edited, edits)


def _format_cost(result: Mapping[str, Any], n: int) -> str:
    return (
        f"{result['elapsed_s']:.0f} s, {1e3 * result['processor_s'] / n:.1f} ms of processor time an image, "
        f"{result['n_compared']:,} pairs compared, {result['peak_mb']:.0f} MB"
    )


def _measure_clean(folder: Path) -> str:
    """List the groups that are found among photographs without edits, for a person to look at."""
    ingest(folder, list_photographs()[:N_CLEAN], ModelChoice(backbone="builtin"))
    result = json.loads(run_child("bench.copies", str(folder)))
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
        except subprocess.CalledProcessError as failure:
            reason = failure.stderr.strip().splitlines()[-1] if failure.stderr.strip() else "no message"
            rows.append([tool, f"did not run: {reason}", *[""] * (len(EDITS) + 2)])
            continue
        rows.append(_format_row(tool, *score_pairs(pairs), f"{time.perf_counter() - started:.0f} s"))
    return rows


def _format_row(tool: str, n_pairs: int, n_right: int, recalls: Mapping[str, float], cost: str) -> list[str]:
    values = (f"{value:.3f}" for value in recalls.values())
    return [tool, f"{n_pairs:,}", f"{n_right / max(1, n_pairs):.4f}", *values, cost]


if __name__ == "__main__":
    print(json.dumps(find_copies(sys.argv[1])))
