"""On what a benchmark ran."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

_PACKAGES = ("simsearch", "openvino", "tensorflow", "faiss-cpu", "numpy", "pillow")


def describe_machine() -> str:
    """Processor, cores, memory and system in one line."""
    parts = [_read_processor(), f"{os.cpu_count()} cores", _describe_memory(), platform.system()]
    return ", ".join(part for part in parts if part)


def list_versions() -> dict[str, str]:
    """What was installed, by name."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _read_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _describe_memory() -> str:
    try:
        return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    except (AttributeError, ValueError, OSError):  # Windows
        return ""
