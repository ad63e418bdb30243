"""The machine that this process runs on: cores, memory, processor, versions of packages."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

_PACKAGES = ("simsearch", "openvino", "tensorflow", "faiss-cpu", "numpy", "pillow")


def count_cores() -> int:
    """The number of logical processor cores, at least 1."""
    return os.cpu_count() or 1


def detect_memory_bytes() -> int:
    """The memory of this machine, or the limit of this process's control group; 0 where it is unknown."""
    installed = _detect_installed_bytes()
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            return min(installed, int(file.read()))
    except (OSError, ValueError):  # no control group, or no limit in it
        return installed


def read_cpu_info() -> str:
    """The content of `/proc/cpuinfo`; empty on systems that have none."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def describe_machine() -> str:
    """Processor, cores, memory and operating system in one line."""
    memory_bytes = _detect_installed_bytes()
    memory = f"{memory_bytes / 2**30:.0f} GiB" if memory_bytes else ""
    parts = [_find_processor_name(), f"{os.cpu_count()} cores", memory, platform.system()]
    return ", ".join(part for part in parts if part)


def list_versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on, by name."""
    import importlib.metadata  # 0.02 s that a query does not need

    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _detect_installed_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return 0


def _find_processor_name() -> str:
    names = [line.partition(":")[2].strip() for line in read_cpu_info().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@contextlib.contextmanager
def silence_stderr() -> Iterator[None]:
    """Redirect file descriptor 2 to the null device, for libraries that write to it before they can be configured."""
    if sys.stderr is None:  # closed, or a Python without a console
        yield
        return
    sys.stderr.flush()
    saved = os.dup(2)
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(devnull)
