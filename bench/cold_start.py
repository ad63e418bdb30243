"""Cold starts of the command line: another checkout against this one, side by side.

`python -m bench cold-start --against PATH` (about three minutes). PATH is the root of another checkout, for example
of `git worktree add`; both run with the interpreter and the packages of this one. The commands alternate between the
checkouts, so that both meet the same load of the machine. Each checkout has its own collection and its own cache.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.setup import ROOT, format_table, measure_seconds

N_ROUNDS = 15
_PICTURES = Path("data", "objects")


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout of the project, with a folder for its collection and its cache."""

    root: Path
    folder: Path

    def run(self, *arguments: str) -> None:
        """Run a command of this checkout in a new process; raises `CalledProcessError` with its messages."""
        environment = os.environ | {
            "PYTHONPATH": str(self.root), "SIMSEARCH_CACHE": str(self.folder / "cache"), "PYTHONSAFEPATH": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "simsearch", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)


def measure(against: Path) -> str:
    """Measure and format the section of the report."""
    if not (against / "simsearch" / "__init__.py").is_file():
        raise SystemExit(f"{against} is not a checkout of simsearch; give the folder that contains simsearch/")
    with tempfile.TemporaryDirectory() as name:
        query = Path(name) / "query.jpg"  # content that is in no collection, so that it is embedded
        picture = min((ROOT / _PICTURES).rglob("*.jpg"))
        query.write_bytes(picture.read_bytes() + b"unknown")
        checkouts = [Checkout(root.resolve(), Path(name) / key) for key, root in (("other", against), ("this", ROOT))]
        for checkout in checkouts:
            checkout.folder.mkdir()
            checkout.run(
                "index", str(ROOT / _PICTURES), "--into", str(checkout.folder / "ix"), "--backbone", "builtin",
                "--precision", "f32",
            )  # fmt: skip
        rows = [
            _measure_command(checkouts, "--help"),
            _measure_command(checkouts, "query", "--help"),
            _measure_command(checkouts, "query", str(picture), "--json", "--in"),
            _measure_command(checkouts, "query", str(query), "--json", "--in"),
        ]
    labels = ["`--help`", "`query --help`", "`query`, an indexed picture", "`query`, an unknown picture"]
    headings = ["command, a new process", "other", "this", "median difference", "ratio of medians"]
    return (
        f"## Cold start\n\nMedians of {N_ROUNDS} runs of each checkout in turn, the files in the disk's cache; the "
        "built-in backbone at f32 on the pictures of data/objects. Load of the machine before: "
        f"{os.getloadavg()[0]:.1f}.\n\n"
        + format_table(headings, [[label, *row] for label, row in zip(labels, rows, strict=True)])
    )


def _measure_command(checkouts: list[Checkout], *arguments: str) -> list[str]:
    """Time a command in both checkouts in turn; `--in` at the end is completed with the checkout's collection."""
    seconds: list[list[float]] = [[], []]
    commands = [
        partial(checkout.run, *arguments, *([str(checkout.folder / "ix")] if arguments[-1] == "--in" else []))
        for checkout in checkouts
    ]
    for command in commands:
        command()  # fills the caches of the disk and of the interpreter
    for number in range(N_ROUNDS):
        for at in (0, 1) if number % 2 else (1, 0):
            seconds[at].append(measure_seconds(commands[at]))
    other, this = (statistics.median(times) for times in seconds)
    difference = statistics.median(mine - theirs for theirs, mine in zip(*seconds, strict=True))
    return [f"{1e3 * other:.0f} ms", f"{1e3 * this:.0f} ms", f"{1e3 * difference:+.0f} ms", f"{this / other:.3f}"]
