"""`python -m bench [PART...]`: measure; with no part named, all of them, into bench/RESULTS.md."""

from __future__ import annotations

import datetime
import importlib
import sys

from bench.setup import ROOT, describe_machine

PARTS = (
    "ingest",
    "remote",
    "decode",
    "augment",
    "query",
    "growth",
    "ann",
    "quality",
    "evaluation",
    "duplicates",
    "serve",
    "scale",
)


def main() -> None:
    """Measure the parts named, or all."""
    named = sys.argv[1:] or list(PARTS)
    sections = []
    for part in named:
        print(f"== {part}", flush=True)
        sections.append(importlib.import_module(f"bench.{part}").measure())
        print(sections[-1], flush=True)
    if named == list(PARTS):
        head = f"# Measured on {datetime.date.today()}\n\n{describe_machine()}.\nCommand: `make bench`."
        (ROOT / "bench" / "RESULTS.md").write_text("\n\n".join([head, *sections]) + "\n", encoding="utf-8")


main()
