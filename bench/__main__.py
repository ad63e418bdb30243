"""`python -m bench [PART ...]`: measure the parts named; without a part, all of them, into bench/RESULTS.md."""

from __future__ import annotations

import argparse
import datetime
import importlib
from pathlib import Path

from bench.setup import ROOT, describe_machine

PARTS = (
    "ingest",
    "remote",
    "decode",
    "augment",
    "query",
    "growth",
    "vectors",
    "ann",
    "quality",
    "words",
    "clicks",
    "evaluation",
    "copies",
    "copies-shares",
    "candidates",
    "serve",
    "browse",
    "hostile",
    "scale",
)
COLD_START = "cold-start"
"""This part is not in `PARTS`, as it needs another checkout to compare with."""


def main() -> None:
    """Measure the parts named on the command line, or all."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure speed, memory and quality on this machine. Without PART, all but cold-start are measured "
        "and written to bench/RESULTS.md (about an hour).",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join((*PARTS, COLD_START))}")
    parser.add_argument("--against", type=Path, metavar="PATH", help="cold-start: the checkout to compare with")
    options = parser.parse_args()
    parts = options.parts or list(PARTS)
    if unknown := sorted(set(parts) - {*PARTS, COLD_START}):
        parser.error(f"unknown part {', '.join(unknown)}; choose from {', '.join((*PARTS, COLD_START))}")
    if (COLD_START in parts) != (options.against is not None):
        parser.error(f"{COLD_START} and --against PATH belong together")
    sections = []
    for part in parts:
        print(f"== {part}", flush=True)
        arguments = [options.against] if part == COLD_START else []
        sections.append(importlib.import_module(f"bench.{part.replace('-', '_')}").measure(*arguments))
        print(sections[-1], flush=True)
    if parts == list(PARTS):
        head = f"# Measured on {datetime.date.today()}\n\n{describe_machine()}.\nCommand: `make bench`."
        (ROOT / "bench" / "RESULTS.md").write_text("\n\n".join([head, *sections]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
