"""The command line: parse, call, print. Nothing is imported before a command needs it."""

from __future__ import annotations

import sys

from simsearch.errors import SimsearchError, UsageError
from simsearch.text import replace_invalid_unicode


def main() -> None:
    """Run a command. Exit 0 fine, 1 expected failure, 2 usage, 130 stopped by the user."""
    from simsearch.cli.app import app

    try:
        app()
    except SimsearchError as error:
        line = replace_invalid_unicode(str(error))
        print(f"simsearch: {line}", file=sys.stderr)  # noqa: T201 - the one line an expected failure gets
        sys.exit(2 if isinstance(error, UsageError) else 1)
