"""`simsearch tune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.options import BackboneOption, CollectionOption, JsonOption, find_collection
from simsearch.cli.output import print_json

if TYPE_CHECKING:
    from simsearch.evaluation.tuning import TuningResult


def tune(
    in_: CollectionOption = None,
    backbone: BackboneOption = None,
    reranks: Annotated[
        list[str] | None,
        typer.Option("--rerank", metavar="METHOD", help="What to try instead of the usual nine; may be repeated."),
    ] = None,
    sample: Annotated[int, typer.Option("--sample", metavar="N", help="How many queries to try with.")] = 500,
    seed: Annotated[int, typer.Option("--seed", help="For the sample.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the table; queries go on as they were.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Try re-ranking methods on a collection, and make the best its default.

    Folders are taken for classes; without them, changed pictures must find their originals. Of methods that do not
    differ significantly the simplest is chosen. `simsearch query --rerank none` asks without it.

    Example:  simsearch tune --in indexes/photos
    """
    from simsearch.evaluation.tuning import TUNED_METHODS
    from simsearch.evaluation.tuning import tune as tune_collection

    found = tune_collection(
        find_collection(in_), backbone, methods=reranks or TUNED_METHODS, n_queries=sample, seed=seed, keep=not dry_run
    )
    if as_json:
        print_json(found.to_dict() | {"kept": not dry_run})
    else:
        _print_trials(found, is_kept=not dry_run)


def _print_trials(found: TuningResult, *, is_kept: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    typer.echo(
        f"{found.collection}, {found.backbone}: {found.n_queries:,} queries among {found.n_images:,} images, "
        f"judged by {found.judged_by}"
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("method", "mAP", "95 % interval", "P@1", "p", "answer ms"):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    for trial in sorted(found.trials, key=lambda trial: -trial.mean_average_precision.mean):
        score = trial.mean_average_precision
        table.add_row(
            f"{trial.method}  <- chosen" if trial.method == found.chosen else trial.method,
            f"{score.mean:.3f}", f"{score.low:.3f}-{score.high:.3f}", f"{trial.precision_at_1:.3f}",
            "" if trial.p_value is None else f"{trial.p_value:.3f}", f"{trial.answer_ms:.1f}",
            style="bold" if trial.method == found.chosen else "",
        )  # fmt: skip
    Console().print(table)
    typer.echo("p: paired randomisation test against the best, Holm-corrected; the simplest of those with p >= 0.05.")
    if is_kept:
        typer.echo(f"Queries of {found.collection} use {found.chosen} from now on; --rerank says otherwise.")
