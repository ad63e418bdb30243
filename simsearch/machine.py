"""The machine that this process runs on: cores, memory, processor, versions of packages."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from simsearch.errors import UsageError

_MAX_CORES = 1024
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",  # FAISS, and everything else with OpenMP
    "OPENBLAS_NUM_THREADS",  # NumPy, SciPy
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
"""What libraries read, when they are imported, about the number of their own threads."""
_PACKAGES = ("simsearch", "openvino", "tensorflow", "faiss-cpu", "numpy", "pillow")


class _Cores:
    """The limit on processor cores, for all threads of this process; None: all are used."""

    limit: int | None = None
    former_environment: Mapping[str, str | None] = {}
    """The values that the thread variables had before the limit; None where one was not set."""


def count_cores() -> int:
    """The number of logical processor cores to use, at least 1: all of them, or the limit of `limit_cores`."""
    return min(os.cpu_count() or 1, _Cores.limit or _MAX_CORES)


def limit_cores(n: int | None) -> None:
    """Use at most n processor cores in this process and its children from now on; None: as without a limit.

    The limit holds for decoding, OpenVINO, and the libraries with threads of their own that are imported from now on
    (FAISS, NumPy, TensorFlow). Raises `UsageError` below 1.
    """
    if n is not None and n < 1:
        raise UsageError(f"the number of processor cores is {n}", "give --jobs 1 or more")
    for name, value in _Cores.former_environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _Cores.limit = n
    _Cores.former_environment = {} if n is None else {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    for name, value in _Cores.former_environment.items():
        is_less = value is not None and value.isdecimal() and 0 < int(value) < (n or 0)
        if not is_less:
            os.environ[name] = str(n)


def find_core_limit() -> int | None:
    """The limit of `limit_cores`; None without one."""
    return _Cores.limit


def find_thread_limit() -> int | None:
    """The most threads of a library that computes: the less of `limit_cores` and OMP_NUM_THREADS; None without both.

    FAISS and NumPy read the variable themselves; OpenVINO does not.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # one number for each level of nesting
    wanted = int(first) if first.isdecimal() and int(first) > 0 else None
    return min((n for n in (wanted, _Cores.limit) if n is not None), default=None)


def detect_memory_bytes(root: Path = Path("/")) -> int:
    """Detect the memory that this process may use; 0 where it is unknown.

    That is the smallest of the memory of this machine, the limits of this process (`ulimit -v`, `-d`), and those of
    its control group and the groups around it (cgroup v1 and v2). `root` is where `proc` and the control groups lie.
    """
    limits = [_detect_installed_bytes(), *_read_process_limits(), *_read_cgroup_limits(root)]
    return min((limit for limit in limits if limit > 0), default=0)


def _read_process_limits() -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        yield resource.getrlimit(kind)[0]  # -1 where there is none


def _read_cgroup_limits(root: Path) -> Iterator[int]:
    """Yield the memory limits of the control group of this process and of all groups around it that can be seen."""
    fields = [line.split(":", 2) for line in _read_lines(root / "proc/self/cgroup")]
    groups = {controllers: group for _, controllers, group in (one for one in fields if len(one) == 3)}
    for line in _read_lines(root / "proc/self/mountinfo"):
        mount, _, source = line.partition(" - ")
        kind, *_, options = source.split() or ["", ""]
        if kind == "cgroup2":
            name, group = "memory.max", groups.get("", "/")
        elif kind == "cgroup" and "memory" in options.split(","):
            name = "memory.limit_in_bytes"
            group = next((groups[names] for names in groups if "memory" in names.split(",")), "/")
        else:
            continue
        top, place = mount.split()[3:5]  # the group that is the root of this mount, and the folder it is mounted at
        parts = _list_inner_groups(group, top)
        for depth in range(len(parts), -1, -1):
            with contextlib.suppress(OSError, ValueError):  # not there, or "max"
                file = (root / place.lstrip("/")).joinpath(*parts[:depth], name)
                yield int(file.read_text(encoding="ascii"))


def _list_inner_groups(group: str, top: str) -> list[str]:
    """List the names of the groups from `top` down to `group`; none where `group` lies elsewhere."""
    parts, tops = ([part for part in path.split("/") if part] for path in (group, top))
    return parts[len(tops) :] if parts[: len(tops)] == tops and ".." not in parts else []


def _read_lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


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


@contextlib.contextmanager
def block_import(name: str) -> Iterator[None]:
    """Make the import of a module fail, for packages that import it only where they can; a loaded module stays."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # documented: the import then raises ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules[name]
