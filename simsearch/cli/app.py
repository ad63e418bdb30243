"""Every command, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from simsearch import __version__
from simsearch.cli.annotate import annotate
from simsearch.cli.augment import augment
from simsearch.cli.backbones import backbones
from simsearch.cli.benchmark import benchmark
from simsearch.cli.clusters import clusters
from simsearch.cli.compare import compare
from simsearch.cli.duplicates import duplicates
from simsearch.cli.export import export
from simsearch.cli.features import features
from simsearch.cli.import_ import import_
from simsearch.cli.index import index
from simsearch.cli.maintenance import info, prune, rebuild, remove, verify
from simsearch.cli.map import map_
from simsearch.cli.optional_value import RayCommand
from simsearch.cli.predict import predict
from simsearch.cli.push import push
from simsearch.cli.query import query
from simsearch.cli.serve import serve
from simsearch.cli.study import study
from simsearch.cli.tune import tune
from simsearch.cli.watch import watch

app = typer.Typer(
    name="simsearch",
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
    """Index a folder of images, then find what looks like a picture you hold.

    Start with:  simsearch index photos  and  simsearch query example.jpg
    """


app.command(cls=RayCommand)(index)
for command in (
    watch,
    query,
    annotate,
    benchmark,
    tune,
    info,
    backbones,
    verify,
    rebuild,
    remove,
    prune,
    predict,
    features,
    compare,
    augment,
    study,
    clusters,
    duplicates,
    export,
    push,
    serve,
):
    app.command()(command)
app.command("map")(map_)
app.command("import")(import_)
