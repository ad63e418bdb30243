"""The memory of a process is the smallest limit around it, in any kind of control group."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from simsearch.machine import detect_memory_bytes, find_thread_limit, limit_cores

MB = 1_000_000
V2 = "30 20 0:27 {top} /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 31 0:30 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


def make_root(root: Path, own: str, mounts: str, limits: dict[str, object]) -> Path:
    """A folder with the files of `/proc` and `/sys/fs/cgroup` that say which limits hold."""
    for name, text in {"proc/self/cgroup": own, "proc/self/mountinfo": mounts, **limits}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n" if not str(text).endswith("\n") else str(text))
    return root


@pytest.mark.parametrize(
    ("own", "mounts", "limits", "expected"),
    [
        ("0::/\n", V2.format(top="/"), {"memory.max": 900 * MB}, 900),
        ("0::/a/b\n", V2.format(top="/"), {"a/b/memory.max": 700 * MB, "a/memory.max": "max"}, 700),
        ("0::/a/b\n", V2.format(top="/"), {"a/b/memory.max": "max", "a/memory.max": 600 * MB}, 600),
        ("0::/docker/x/in\n", V2.format(top="/docker/x"), {"in/memory.max": 500 * MB, "memory.max": 800 * MB}, 500),
        ("0::/../other\n", V2.format(top="/"), {"memory.max": 400 * MB}, 400),
        ("", V2.format(top="/"), {"memory.max": 300 * MB}, 300),
        ("5:cpu,memory:/a\n", V1.format(top="/"), {"memory/a/memory.limit_in_bytes": 200 * MB}, 200),
        (
            "5:memory:/a/b\n0::/a\n",
            V1.format(top="/") + V2.format(top="/"),
            {"memory/a/b/memory.limit_in_bytes": 2**63 - 4096, "memory/a/memory.limit_in_bytes": 100 * MB},
            100,
        ),
    ],
    ids=["v2", "v2 nested, own", "v2 nested, around", "v2 container", "v2 elsewhere", "no group", "v1", "v1 nested"],
)
def test_the_smallest_limit_of_the_control_groups_counts(
    tmp_path: Path, own: str, mounts: str, limits: dict[str, object], expected: int
):
    root = make_root(tmp_path, own, mounts, {f"sys/fs/cgroup/{name}": value for name, value in limits.items()})
    assert detect_memory_bytes(root) == expected * MB


def test_without_limits_it_is_the_memory_of_the_machine(tmp_path: Path):
    unlimited = {"sys/fs/cgroup/memory.max": "max"}
    assert detect_memory_bytes(make_root(tmp_path, "0::/\n", V2.format(top="/"), unlimited)) > 900 * MB
    assert detect_memory_bytes(tmp_path / "nothing") > 900 * MB


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep this limit")
def test_a_limit_of_the_process_counts(tmp_path: Path):
    code = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (800_000_000, 800_000_000))
from simsearch.machine import detect_memory_bytes
print(detect_memory_bytes())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "800000000\n"


@pytest.mark.parametrize(
    ("variable", "limit", "expected"),
    [("", None, None), ("3", None, 3), ("3,2", None, 3), ("0", None, None), ("many", 2, 2), ("3", 2, 2), ("1", 2, 1)],
)
def test_the_threads_of_libraries_are_limited_by_the_variable_and_the_cores(
    monkeypatch: pytest.MonkeyPatch, variable: str, limit: int | None, expected: int | None
):
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    limit_cores(limit)
    try:
        assert find_thread_limit() == expected
    finally:
        limit_cores(None)
