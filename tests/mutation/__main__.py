"""`python -m tests.mutation [WORD ...] [--jobs N] [--results FILE]`: put each fault into a copy, run its tests, print a
table.

With words, only the faults whose name or file contains one of them. With a file of results, each outcome is added to
it, and a fault that it names is not tried again: an interrupted check goes on. To repeat one, remove its line. Exits 1
where a fault no longer applies or is not caught. 40 faults take about three minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.mutation.faults import FAULTS, NOTICED_BY, Fault

ROOT = Path(__file__).parent.parent.parent
_COPIED = ("simsearch", "tests", "bench", "data", "docs", "pyproject.toml", "README.md", "CONTRIBUTING.md", "Makefile")
_TIMEOUT_S = 1200


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    words = options.words
    known = _read_results(options.results)
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name or word in fault.file for word in words)]
    with tempfile.TemporaryDirectory(prefix="simsearch-mutation-") as folder:
        if (ROOT.parent / "shared").is_dir():
            (Path(folder) / "shared").symlink_to(ROOT.parent / "shared")
        with ThreadPoolExecutor(options.jobs) as pool:
            run = partial(_try_fault, Path(folder), partial(_write_line, options.results))
            outcomes = list(pool.map(lambda fault: known.get(fault.name) or run(fault), chosen))
    n_caught = sum(outcome.startswith("caught") for outcome in outcomes)
    _write_line(None, f"{n_caught} of {len(chosen)} faults caught")
    return 0 if n_caught == len(chosen) else 1


def _try_fault(folder: Path, report: Callable[[str], None], fault: Fault) -> str:
    """Put a fault into a new copy, run its tests, and say what came of it: `caught by TEST`, or a problem."""
    source = (ROOT / "simsearch" / fault.file).read_text(encoding="utf-8")
    if source.count(fault.old) != 1:
        outcome = f"DOES NOT APPLY: {fault.old!r} is there {source.count(fault.old)} times"
    else:
        copy = folder / f"fault-{FAULTS.index(fault)}"
        for name in _COPIED:
            copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy.mkdir(exist_ok=True)
            copied(ROOT / name, copy / name)
        (copy / "simsearch" / fault.file).write_text(source.replace(fault.old, fault.new), encoding="utf-8")
        started = time.monotonic()
        outcome = f"{_run_tests(copy, fault)} | {time.monotonic() - started:.0f} s"
        shutil.rmtree(copy, ignore_errors=True)
    report(f"| {fault.name} | `{fault.file}` | {outcome} |")
    return outcome


def _run_tests(copy: Path, fault: Fault) -> str:
    """Run the test that noticed the fault before; where it is gone or passes, all that may notice it."""
    outcome = _run_pytest(copy, (NOTICED_BY[fault.name],))
    return outcome if outcome.startswith("caught") else _run_pytest(copy, fault.tests)


def _run_pytest(copy: Path, tests: tuple[str, ...]) -> str:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not thorough"]
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [*command, *tests], cwd=copy, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return "caught: the tests do not end"
    if done.returncode == 0:
        return "NOT CAUGHT"
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode != 1 or not failed:
        return f"NO RESULT: {(done.stdout + done.stderr)[-300:]!r}"
    return f"caught by `{failed[0].split()[1].removeprefix('tests/')}`"


def _read_results(file: Path | None) -> dict[str, str]:
    """The outcomes of earlier runs, by the name of the fault."""
    if file is None or not file.is_file():
        return {}
    rows = [line.strip("|").split(" | ", 2) for line in file.read_text(encoding="utf-8").splitlines()]
    return {name.strip(): outcome.strip() for name, _, outcome in rows}


def _write_line(results: Path | None, line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    if results is not None:
        with results.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
