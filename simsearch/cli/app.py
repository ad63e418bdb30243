"""The Typer application: every command, in the order and the groups of `simsearch --help`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.main import get_command

from simsearch import __version__
from simsearch.cli.annotate import annotate
from simsearch.cli.augment import augment
from simsearch.cli.backbones import backbones
from simsearch.cli.benchmark import benchmark
from simsearch.cli.calibrate import calibrate
from simsearch.cli.check import check
from simsearch.cli.clusters import clusters
from simsearch.cli.common_options import FORCE, JOBS, QUIET, FlagCommand, FlagGroup, add_options
from simsearch.cli.compare import compare
from simsearch.cli.default import default
from simsearch.cli.duplicates import duplicates
from simsearch.cli.export import export
from simsearch.cli.features import features
from simsearch.cli.import_ import import_
from simsearch.cli.index import index
from simsearch.cli.learn import learn
from simsearch.cli.list_ import list_
from simsearch.cli.ls import ls
from simsearch.cli.maintenance import info, prune, rebuild, remove, verify
from simsearch.cli.map import map_
from simsearch.cli.mcp import mcp
from simsearch.cli.optional_value import RayCommand
from simsearch.cli.output import PreparationMessages
from simsearch.cli.predict import predict
from simsearch.cli.push import push
from simsearch.cli.query import query
from simsearch.cli.serve import serve
from simsearch.cli.study import study
from simsearch.cli.tune import tune
from simsearch.cli.upgrade import upgrade
from simsearch.cli.watch import watch

app = typer.Typer(
    name="simsearch",
    cls=FlagGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"simsearch {__version__}")
        raise typer.Exit


@app.callback()
def simsearch(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Index folders of images, search them by example, and find the backbone that works best for your images.

    Start with:  simsearch index photos  and  simsearch query example.jpg
    """
    PreparationMessages().listen()


_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Index": (index, watch, annotate),
    "Search": (query, ls, serve, mcp),
    "Explore": (map_, clusters, duplicates, check),
    "Measure": (benchmark, tune, calibrate, learn),
    "Look closer": (predict, features, compare, augment, study),
    "Maintain": (list_, info, default, verify, rebuild, remove, prune, upgrade, backbones),
    "Exchange": (export, import_, push),
}

_WRITING = (query, map_, clusters, duplicates, benchmark, predict, features, compare, study, export)
"""The commands that write files which the user names."""

_HARD = (
    index, watch, import_, rebuild, upgrade, serve,
    duplicates, check, clusters, map_, benchmark, tune, calibrate, learn,
    predict, features, compare, study,
)  # fmt: skip
"""The commands that keep several processor cores busy."""

for panel, commands in _PANELS.items():
    for command in commands:
        options = {
            **({"force": FORCE} if command in _WRITING else {}),
            **({"jobs": JOBS} if command in _HARD else {}),
            "quiet": QUIET,
        }
        kind = RayCommand if command is index else FlagCommand
        name = command.__name__.rstrip("_")
        app.command(name, cls=kind, rich_help_panel=panel)(add_options(command, options))


@functools.cache
def build_command() -> Callable[..., Any]:
    """Build the parser of all commands, once in a process: it takes 20 ms for programs that call `main` again."""
    return get_command(app)
