"""`simsearch index`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.options import (
    BackboneOption,
    IndexKindOption,
    JsonOption,
    MaxMegapixelsOption,
    MilvusUriOption,
    RangesOption,
    RecallOption,
    SeedOption,
    StoreOption,
    derive_collection_folder,
    to_pixels,
)
from simsearch.cli.output import ProgressBar, print_json, print_message, print_skips

if TYPE_CHECKING:
    from simsearch.ingest.run import IngestReport


def index(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Folders, pictures, text files that list paths, or - for a list on stdin. Also such in a store: "
            "s3://bucket/folder, gs://, az://, with the credentials that its own tools use (AWS_PROFILE, "
            "AWS_ENDPOINT_URL, ...); and pictures and lists on the web: https://host/list.txt.",
        ),
    ],
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="DIR", help="The collection; default: indexes/<name of the source>."),
    ] = None,
    backbone: BackboneOption = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="PATH", help="A weights file, or `random` (to measure speed)."),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="NAME", help="Any layer of the network, such as fc2 of vgg16."),
    ] = None,
    pooling: Annotated[str | None, typer.Option("--pooling", help="avg, max or gem.")] = None,
    resize: Annotated[
        str | None, typer.Option("--resize", help="How pictures become square: squash, crop, pad or nearest.")
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="auto (fastest that changes no answer much), f32, bf16 or int8.")
    ] = "auto",
    engine: Annotated[str, typer.Option("--engine", help="auto, openvino or tensorflow.")] = "auto",
    augment: Annotated[
        int | None,
        typer.Option("--augment", metavar="N", help="Embed N augmented views of every image too; 0 removes them."),
    ] = None,
    ranges: RangesOption = None,
    seed: SeedOption = None,
    megapixels: MaxMegapixelsOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never download weights.")] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="[ADDRESS]",
            help="Embed with the workers of a Ray cluster: host:port, auto (the one of this machine) or local (one "
            "started for this run); without an address: $RAY_ADDRESS, else local. Every machine needs this simsearch.",
        ),
    ] = None,
    kind: IndexKindOption = None,
    recall: RecallOption = None,
    store: StoreOption = None,
    milvus_uri: MilvusUriOption = None,
    as_json: JsonOption = False,
) -> None:
    """Index pictures. Run it again to bring the collection up to date: what is unchanged costs nothing.

    A run that is stopped, or killed, goes on where it was when the same command is given again.

    Example:  simsearch index ~/photos --backbone resnet50

    Example:  simsearch index ~/photos --ray head-node:6379

    Example:  simsearch index ~/photos --store milvus --milvus-uri http://localhost:19530

    Example:  simsearch index s3://bucket/photos
    """
    from simsearch.collection import Collection
    from simsearch.images.views import ViewChoice, parse_ranges
    from simsearch.index.kinds import IndexKindChoice
    from simsearch.index.milvus.config import StoreChoice
    from simsearch.models.choice import ModelChoice

    if ray == "":
        ray = os.environ.get("RAY_ADDRESS") or "local"
    choice = ModelChoice.from_options(
        backbone=backbone, weights=weights, layer=layer, pooling=pooling, resize=resize,
        precision=precision, engine=engine, offline=offline,
    )  # fmt: skip
    views = ViewChoice(augment, seed, None if ranges is None else parse_ranges(ranges))
    searched, asked_kind = StoreChoice.from_options(store, milvus_uri), IndexKindChoice.from_options(kind, recall)
    folder = into or derive_collection_folder(sources[0])
    stdin = sys.stdin.buffer.read() if "-" in sources else b""
    try:
        with Collection.open(folder, create=True) as collection, ProgressBar() as bar:
            report = collection.ingest(
                sources, choice, augment=views, stdin=stdin, max_pixels=to_pixels(megapixels), progress=bar,
                ray=ray, store=searched, kind=asked_kind,
            )  # fmt: skip
    except KeyboardInterrupt:
        print_message(f"simsearch: stopped; what was indexed is safe in {folder}, the same command goes on from there")
        raise typer.Exit(130) from None
    for note in report.notes:
        print_message(f"simsearch: {note}")
    if as_json:
        print_json(build_ingest_document(report))
    else:
        _print_report(report)


def build_ingest_document(report: IngestReport) -> dict[str, object]:
    """What a run did, as scripts read it."""
    return {
        "collection": report.collection,
        "model": report.model,
        "backbone": report.backbone,
        "precision": report.precision,
        "agreement": report.agreement and {"cosine": report.agreement.cosine, "top_10": report.agreement.top_10},
        "files": report.n_files,
        "images": report.n_images,
        "embedded": report.n_embedded,
        "reused": report.n_reused,
        "gone": report.n_gone,
        "views": report.n_views,
        "skipped": [{"path": skip.path, "reason": skip.reason} for skip in report.skips],
        "seconds": round(report.elapsed_s, 3),
        "images_per_second": round(report.n_embedded / report.elapsed_s, 1),
        "stages": {stage: round(seconds, 3) for stage, seconds in report.stages.items()},
        "notes": list(report.notes),
    }


def _print_report(report: IngestReport) -> None:
    name = report.backbone if report.precision == "f32" else f"{report.backbone} {report.precision}"
    if report.n_views > report.n_images:
        name += f", {report.n_views:,} views"
    parts = [f"{report.n_embedded:,} embedded", f"{report.n_reused:,} unchanged or moved"]
    if report.n_gone:
        parts.append(f"{report.n_gone:,} gone")
    if report.skips:
        parts.append(f"{len(report.skips):,} skipped")
    rate = f", {report.n_embedded / report.elapsed_s:.0f} images/s" if report.n_embedded else ""
    typer.echo(
        f"{report.collection}: {report.n_images:,} images in {report.n_files:,} files, {name} "
        f"({', '.join(parts)}; {report.elapsed_s:.1f} s{rate})"
    )
    if report.agreement is not None:
        typer.echo(
            f"  {report.agreement.precision} agrees with f32 here: mean cosine {report.agreement.cosine:.4f}, "
            f"{report.agreement.top_10:.0%} of the ten nearest in common"
        )
    print_skips(report.skips, report.collection)
