"""The command line: parse, call the library, print. Libraries are imported by the command that needs them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from simsearch.errors import SimsearchError, UsageError
from simsearch.text import replace_invalid_unicode


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    0: success; 1: expected failure; 2: wrong usage; 130: stopped by the user. `argv` are the words after `simsearch`;
    None takes those of the process. Reports state the command line, so `sys.argv` is set for the duration of the call.
    """
    from simsearch.cli.app import app

    before = sys.argv
    sys.argv = before if argv is None else ["simsearch", *argv]
    try:
        app(prog_name=None if argv is None else "simsearch")
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except SimsearchError as error:
        line = replace_invalid_unicode(str(error))
        print(f"simsearch: {line}", file=sys.stderr)  # noqa: T201 - the one line of an expected failure
        return 2 if isinstance(error, UsageError) else 1
    finally:
        sys.argv = before
    return 0
