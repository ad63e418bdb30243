"""Processes whose system calls fail, by strace."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_STRACE = ("strace", "-f", "-qq", "-o", os.devnull, "--seccomp-bpf")


def run_with_fault(
    calls: str, error: str, *arguments: object, cwd: Path, file: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, while each of the `calls` (`fsync,fdatasync`) fails with `error` (`EIO`).

    With `file` only calls on that file fail.
    """
    if (problem := _find_problem()) is not None:
        pytest.skip(problem)
    faults = ["-e", f"trace={calls}", "-e", f"inject={calls}:error={error}", *(["-P", str(file)] if file else [])]
    command = [*_STRACE, *faults, sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


@functools.cache
def _find_problem() -> str | None:
    if shutil.which("strace") is None:
        return "strace is not installed, with which system calls are made to fail"
    tried = subprocess.run([*_STRACE, "-e", "trace=fsync", "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"strace cannot be used here: {tried.stderr.strip()}"
