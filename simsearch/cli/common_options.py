"""Options that every command has, or every command that works hard or writes files. Their values hold for one call."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from simsearch.cli.output import set_quiet

_PANEL = "General"


@dataclass(frozen=True, slots=True)
class CommonOption:
    """An option that is no parameter of the function of a command: its type, its default, and what sets its value."""

    annotation: Any
    default: Any
    apply: Callable[[Any], None]


def _set_force(is_on: bool) -> None:
    from simsearch.files import set_overwriting

    set_overwriting(any_file=is_on)


def _set_jobs(n: int | None) -> None:
    from simsearch.machine import limit_cores

    limit_cores(n)


QUIET = CommonOption(
    Annotated[
        bool,
        typer.Option(
            "--quiet",
            help="Print only errors and the data that was asked for: no notes, no progress, not what was done.",
            rich_help_panel=_PANEL,
        ),
    ],
    False,
    set_quiet,
)
FORCE = CommonOption(
    Annotated[
        bool, typer.Option("--force", help="Overwrite files that simsearch did not write, too.", rich_help_panel=_PANEL)
    ],
    False,
    _set_force,
)
JOBS = CommonOption(
    Annotated[
        int | None,
        typer.Option(
            "--jobs",
            metavar="N",
            help="Number of processor cores to use, to decode pictures, run networks, build indexes and compute. "
            "Default: all.",
            rich_help_panel=_PANEL,
        ),
    ],
    None,
    _set_jobs,
)


class _PlainFlags:
    """Shows no type behind flags in the help of a command."""

    def get_params(self, ctx: Any) -> list[Any]:
        """List the parameters, `--help` included."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # of the command that this is mixed into
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters


class FlagCommand(_PlainFlags, TyperCommand):
    """A command whose help shows no type behind flags."""


class FlagGroup(_PlainFlags, TyperGroup):
    """A group of commands whose help shows no type behind flags."""


def add_options(command: Callable[..., None], options: Mapping[str, CommonOption]) -> Callable[..., None]:
    """Return a command with further options, by the names of their parameters. They are set before it runs."""

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, option in options.items():
            option.apply(values.pop(name))
        command(**values)

    signature = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=option.annotation)
        for name, option in options.items()
    ]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in signature.parameters.values()]
    vars(run)["__signature__"] = signature.replace(parameters=[*parameters, *added])
    run.__annotations__ = {one.name: one.annotation for one in (*parameters, *added)}
    for annotation in run.__annotations__.values():
        _prepare_help(annotation)
    run.__doc__ = format_help(command.__doc__ or "")
    return run


def format_help(text: str) -> str:
    """Join the lines of each paragraph, which the terminal wraps by itself, and keep square brackets as they are."""
    paragraphs = [" ".join(line.strip() for line in part.splitlines()) for part in text.strip().split("\n\n")]
    return escape_markup("\n\n".join(paragraphs))


def escape_markup(text: str) -> str:
    """Escape square brackets, which are commands to Rich; one that is escaped already stays so."""
    return re.sub(r"(?<!\\)\[", r"\\[", text)


def _prepare_help(annotation: Any) -> None:
    """Show the help of an option as it is written."""
    if get_origin(annotation) is not Annotated:
        return
    for one in get_args(annotation)[1:]:
        one.help = escape_markup(one.help or "")
