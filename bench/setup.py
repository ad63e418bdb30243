"""Functions shared by all measurements: description of the machine, test images, timing, tables."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from PIL import Image

from simsearch import Collection, IngestReport, ModelChoice

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
SIMSEARCH = Path(sys.executable).parent / "simsearch"


def describe_machine() -> str:
    """Describe the processor, cores, memory and versions in one line."""
    name = platform.processor() or platform.machine()
    flags = ""
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
        present = next((line for line in lines if line.startswith("flags")), "").split()
        flags = ", ".join(
            flag for flag in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16") if flag in present
        )
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("tensorflow", "openvino", "faiss-cpu", "pillow", "numpy")
    )
    return (
        f"{name}, {os.cpu_count()} cores ({flags}), {memory_gb:.0f} GB; Python {platform.python_version()}, {packages}"
    )


def list_photographs() -> list[Path]:
    """List real photographs where they are available, else the rendered images of the project."""
    folder = SHARED / "photos" / "caltech101_small"
    return sorted((folder if folder.is_dir() else ROOT / "data" / "objects").rglob("*.jpg"))


def find_weights(backbone: str) -> str:
    """Find trained weights, else `random`, which has the same speed."""
    file = SHARED / "weights" / f"{backbone}.weights.h5"
    return str(file) if file.is_file() else "random"


def ingest(
    folder: Path | str, sources: Sequence[Path | str], choice: ModelChoice | None = None, *, ray: str | None = None
) -> IngestReport:
    """Index `sources` into the collection in `folder`, which is created where it is missing."""
    with Collection.open(folder, create=True) as collection:
        return collection.ingest(sources, choice, ray=ray)


def multiply(n: int, folder: Path) -> Path:
    """Fill a folder with n different images: photographs, and ever smaller crops of them."""
    sources = list_photographs()
    folder.mkdir(parents=True, exist_ok=True)

    def write(number: int) -> None:
        source, cut = sources[number % len(sources)], 2 * (number // len(sources))
        file = folder / f"{number:06}.jpg"
        if not cut:
            file.write_bytes(source.read_bytes())
            return
        with Image.open(source) as picture:
            picture.crop((cut, cut, picture.width - cut, picture.height - cut)).save(file, quality=90)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(n)))
    return folder


def measure_seconds(work: Callable[[], object]) -> float:
    """Measure the duration of a call in seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def run_child(module: str, *arguments: str) -> str:
    """Run a module in a new Python process, and return the last line of its output."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{module} {arguments}: {done.stderr[-2000:]}")
    return done.stdout.strip().splitlines()[-1]


def read_memory_mb(line: str = "VmHWM", process: int | str = "self") -> float:
    """Read the peak memory of a process (`VmHWM`), or the current one (`VmRSS`), in MB.

    Not `ru_maxrss`, which includes the memory of the parent process.
    """
    status = dict(text.split(":", 1) for text in Path(f"/proc/{process}/status").read_text().splitlines())
    return int(status[line].split()[0]) / 1e3


def format_table(headings: list[str], rows: list[list[str]]) -> str:
    """Format a Markdown table."""
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
