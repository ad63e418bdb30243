"""The command line: parse, call the library, print. Libraries are imported by the command that needs them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from simsearch.errors import SimsearchError
from simsearch.text import clean_text

_WRONG_WORDS = (ValueError, KeyError)
"""The errors of a wrong word: of an option, a backbone, an id. Others are of files, of the machine, of stores."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    0: success; 1: expected failure; 2: a wrong word, such as an unknown backbone; 130: stopped by the user. `argv` are
    the words after `simsearch`; None takes those of the process. Reports state the command line, so `sys.argv` is set
    for the duration of the call.
    """
    before = sys.argv
    sys.argv = before if argv is None else ["simsearch", *argv]
    _prepare_streams()
    is_json = "--json" in sys.argv
    try:
        return _run_app(None if argv is None else "simsearch", is_json=is_json)
    except SimsearchError as error:
        _print_error(error.message)
        if is_json:
            problem = error.message.removesuffix(f"; {error.advice}")  # with the path of a picture
            _print_error_document(type(error).__name__, problem, error.advice)
        return 2 if isinstance(error, _WRONG_WORDS) else 1
    except FileNotFoundError:
        if _has_current_folder():
            raise
        _print_error("the current folder was deleted; change to another folder")
        return 1
    finally:
        sys.argv = before
        _reset_process()
    return 0


def _reset_process() -> None:
    """Undo what options of one command set for the process, for programs that call `main` and the library."""
    from simsearch.files import set_overwriting
    from simsearch.machine import limit_cores

    set_overwriting(any_file=True)
    limit_cores(None)


def _run_app(name: str | None, *, is_json: bool) -> int:
    """Run the application and return its status. With `is_json` an error of the usage is printed as JSON, too."""
    from simsearch.cli.app import build_command
    from simsearch.cli.output import set_quiet

    set_quiet(False)
    try:
        if not is_json:
            build_command()(prog_name=name)
            return 0
        status = build_command()(prog_name=name, standalone_mode=False)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except Exception as error:
        if not hasattr(error, "format_message"):  # an error of the command line parser, which Typer brings itself
            raise
        _print_error(message := error.format_message())
        _print_error_document("UsageError", message, "see --help")
        return 2
    return status if isinstance(status, int) else 0


def _print_error_document(kind: str, problem: str, advice: str) -> None:
    """Print an error as the JSON document of a command, so that stdout is JSON whatever happens."""
    from simsearch.cli.output import print_json

    print_json({"error": {"type": kind, "problem": problem, "advice": advice or None}})


def _print_error(message: str) -> None:
    print(f"simsearch: {clean_text(message)}", file=sys.stderr)  # noqa: T201 - the one line of an expected failure


def _prepare_streams() -> None:
    """Open the null device in place of standard streams that are closed, as in some services; print any name.

    Without this, the next file that is opened gets the number of a closed stream, and libraries write messages into it.
    A character that the encoding of the terminal does not have is printed as its escape sequence.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number, this one
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open until the process ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _has_current_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True
