"""Running commands: in this process where a process is not the point, or in one of their own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from simsearch.cli import main


def run(
    *arguments: object, cwd: Path, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, with streams, folder and environment of its own, as `simsearch` would run it."""
    out, err = io.BytesIO(), io.BytesIO()
    streams = (
        io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8", errors="surrogateescape"),
        io.TextIOWrapper(out, encoding="utf-8", write_through=True),
        io.TextIOWrapper(err, encoding="utf-8", errors="backslashreplace", write_through=True),
    )
    with contextlib.chdir(cwd), _use_environment(env or {}), _use_streams(*streams):
        status = main([os.fspath(word) if isinstance(word, Path) else str(word) for word in arguments])
    return subprocess.CompletedProcess(list(arguments), status, out.getvalue().decode(), err.getvalue().decode())


def run_process(
    *arguments: object, cwd: Path, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "simsearch", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, env=_make_environment(env or {}))
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def read_document(*arguments: object, cwd: Path, **options: Any) -> dict[str, Any]:
    """The JSON document, without its version, of a command that must succeed and print no message."""
    done = run(*arguments, "--json", cwd=cwd, **options)
    assert (done.returncode, done.stderr) == (0, "")
    document: dict[str, Any] = json.loads(done.stdout)
    assert document.pop("schema_version") == 1
    return document


def make_unmeasured_environment() -> dict[str, str]:
    """The environment of a process that `make coverage` does not measure: measuring imports and writes more."""
    return {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}


def _make_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """The environment without the user's own settings of simsearch, and with `changes`."""
    own = {key for key in os.environ if key.startswith("SIMSEARCH_")} - {"SIMSEARCH_CACHE"}
    return {key: value for key, value in os.environ.items() if key not in own} | dict(changes)


@contextlib.contextmanager
def _use_environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    wanted = _make_environment(changes)
    for key in before.keys() - wanted.keys():
        del os.environ[key]
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _use_streams(stdin: io.TextIOWrapper, stdout: io.TextIOWrapper, stderr: io.TextIOWrapper) -> Iterator[None]:
    before = sys.stdin
    sys.stdin = stdin
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            yield
    finally:
        sys.stdin = before
