"""Browsing a collection of 100,000 images: the page of all images, counts, further pages, and the server's memory."""

from __future__ import annotations

import datetime
import os
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.serve import run_server
from bench.setup import format_table
from simsearch.images.metadata import ExifMetadata
from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.sources.scan import FoundFile
from simsearch.store.catalog import EmbeddedView, FileEntry, ImageProperties
from simsearch.store.writer import CatalogWriter

N_IMAGES = 100_000
N_FOLDERS = 200
WIDTH = 384
REPEATS = 20
_FIRST_DAY = datetime.datetime(2015, 1, 1)
_FORMATS = ("JPEG", "PNG", "HEIF", "WEBP")

REQUESTS = (
    ("`/browse`, all images", "/browse"),
    ("`/browse`, sorted by date, descending", "/browse?sort=date&order=descending"),
    ("`/browse`, filtered: `width >= 2000 and taken > 2020`", "/browse?where=width+%3E%3D+2000+and+taken+%3E+2020"),
    ("`/api/v1/facets`", "/api/v1/facets"),
    ("`/api/v1/facets`, filtered", "/api/v1/facets?where=width+%3E%3D+2000"),
    ("`/api/v1/images`, a page of 200", "/api/v1/images?limit=200&brief=true&start={start}"),
    ("`/`, the start page", "/"),
)
"""What is measured; `{start}` is another position in every repetition."""


def measure() -> str:
    """Measure and format the section of the report."""
    with tempfile.TemporaryDirectory() as folder:
        collection = Path(folder) / "made-up"
        make_collection(collection)
        with run_server(collection) as (port, process):
            started_mb = _read_resident_mb(process.pid)
            rows = [_measure_request(port, process.pid, name, path) for name, path in REQUESTS]
            rows.append(_measure_after_a_change(collection, port, process.pid))
            ended_mb = _read_resident_mb(process.pid)
    heads = ["request", "first, ms", "median, ms", "processor time, ms"]
    return (
        f"## Browsing\n\n{N_IMAGES:,} made-up images of {WIDTH} numbers in {N_FOLDERS} folders, with dates, cameras "
        f"and a column; each request {REPEATS} times. Load average before: {os.getloadavg()[0]:.1f}.\n\n"
        f"{format_table(heads, rows)}\n\n"
        f"Memory of the server: {started_mb:.0f} MB after its start, {ended_mb:.0f} MB at the end."
    )


def make_collection(folder: Path) -> None:
    """Make a collection whose images have no files: names, sizes, dates, cameras and random vectors."""
    random, model = np.random.default_rng(0), resolve_model(ModelChoice())
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        stored = writer.add_model(model, WIDTH, model.fingerprint)
        writer.record_files(_make_entries(random), stored.id)
        writer.end_run(writer.begin_run(stored.id, ["made up"]), embedded=N_IMAGES, reused=0)
        writer.annotate((image_id, "label", f"kind {image_id % 30}") for image_id in range(1, N_IMAGES, 3))


def _make_entries(random: np.random.Generator) -> Iterator[FileEntry]:
    for number in range(N_IMAGES):
        row = random.standard_normal(WIDTH).astype(np.float32)
        row /= np.linalg.norm(row)
        taken = _FIRST_DAY + datetime.timedelta(minutes=int(random.integers(0, 5_000_000)))
        camera = None if number % 5 == 0 else f"Maker {number % 7}"
        properties = ImageProperties(
            int(random.integers(400, 6000)), int(random.integers(400, 4000)), _FORMATS[number % 4],
            ExifMetadata(taken.isoformat(), camera),
        )  # fmt: skip
        path = f"/pictures/{number % N_FOLDERS:03}/IMG_{number:07}.jpg"
        file = FoundFile(path, 100_000 + number, number * 1_000_000_000)
        yield FileEntry(file, f"{number:032x}", properties, [EmbeddedView("original", "{}", row)])


def _measure_request(port: int, pid: int, name: str, path: str) -> list[str]:
    first_s = _request(port, path.format(start=0))
    cpu_before = _read_cpu_s(pid)
    times = [_request(port, path.format(start=1_000 * number)) for number in range(REPEATS)]
    cpu_s = (_read_cpu_s(pid) - cpu_before) / REPEATS
    return [name, f"{1e3 * first_s:.0f}", f"{1e3 * float(np.median(times)):.1f}", f"{1e3 * cpu_s:.1f}"]


def _measure_after_a_change(collection: Path, port: int, pid: int) -> list[str]:
    """The first page after each of some changes of the collection, when its table is read again."""
    cpu_s, times = 0.0, []
    for number in range(5):
        with CatalogWriter.open(collection) as writer, writer.transaction():
            writer.annotate([(1, "label", f"new {number}")])
        before = _read_cpu_s(pid)
        times.append(_request(port, "/browse"))
        cpu_s += _read_cpu_s(pid) - before
    median_s = float(np.median(times))
    return ["`/browse`, after a change", f"{1e3 * times[0]:.0f}", f"{1e3 * median_s:.1f}", f"{1e3 * cpu_s / 5:.1f}"]


def _request(port: int, path: str) -> float:
    started = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{urllib.parse.quote(path, '/?&=+%')}", timeout=60) as answer:
        assert answer.status == 200
        answer.read()
    return time.perf_counter() - started


def _read_cpu_s(pid: int) -> float:
    """Processor time of a process, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _read_resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
