"""`simsearch index`."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from simsearch.cli.options import (
    AcceptLicenseOption,
    AugmentOption,
    BackboneOption,
    BroadSourceOption,
    ExcludeOption,
    IncludeOption,
    IndexKindOption,
    JsonOption,
    LayerOption,
    MaxMegapixelsOption,
    MilvusUriOption,
    NewCollectionOption,
    OfflineWeightsOption,
    PoolingOption,
    PrecisionOption,
    RangesOption,
    RecallOption,
    ResizeOption,
    SafeLinksOption,
    SeedOption,
    StoreOption,
    UserPlaceOption,
    WeightsOption,
    check_sources_are_narrow,
    choose_new_collection,
    to_pixels,
)
from simsearch.cli.output import (
    ProgressBar,
    format_path,
    print_json,
    print_line,
    print_message,
    print_notes,
    print_skips,
    print_summary,
)
from simsearch.text import count

if TYPE_CHECKING:
    from simsearch.ingest.run import IngestPreview, IngestReport

_MAX_PATHS_SHOWN = 20
EngineName = Literal["auto", "openvino", "tensorflow"]


def index(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Folders, images, text files with one path per line, or - for such a list on stdin. Also in an object "
            "store: s3://bucket/folder, gs://, az://, with the credentials of its own tools (AWS_PROFILE, "
            "AWS_ENDPOINT_URL, ...); also images and lists on the web: https://host/list.txt.",
        ),
    ],
    into: NewCollectionOption = None,
    backbone: BackboneOption = None,
    weights: WeightsOption = None,
    layer: LayerOption = None,
    pooling: PoolingOption = None,
    resize: ResizeOption = None,
    precision: PrecisionOption = "auto",
    engine: Annotated[EngineName, typer.Option("--engine", help="Library that runs the network.")] = "auto",
    augment: AugmentOption = None,
    ranges: RangesOption = None,
    seed: SeedOption = None,
    megapixels: MaxMegapixelsOption = None,
    offline: OfflineWeightsOption = False,
    accept_license: AcceptLicenseOption = False,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="[ADDRESS]",
            help="Embed on the workers of a Ray cluster: host:port, auto (the cluster of this machine) or local (a "
            "cluster for this run). Without an address: $RAY_ADDRESS, otherwise local. Every machine needs the same "
            "version of simsearch.",
        ),
    ] = None,
    kind: IndexKindOption = None,
    recall: RecallOption = None,
    store: StoreOption = None,
    milvus_uri: MilvusUriOption = None,
    safe_links: SafeLinksOption = False,
    rehash: Annotated[
        bool,
        typer.Option("--rehash", help="Read every file again, also where size and modification time are unchanged."),
    ] = False,
    user: UserPlaceOption = False,
    make_default: Annotated[
        bool,
        typer.Option(
            "--make-default", help="Make this backbone the default of queries; otherwise the first one stays."
        ),
    ] = False,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say which files would be read and which would leave the results.")
    ] = False,
    yes: BroadSourceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Index images. Run it again to update the collection: unchanged files are not read again.

    All backbones of the collection are brought up to date, unless --backbone names one. An interrupted run resumes
    when the same command is run again.

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

    check_sources_are_narrow(sources, is_confirmed=yes)
    if ray == "":
        ray = os.environ.get("RAY_ADDRESS") or "local"
    choice = ModelChoice.from_options(
        backbone=backbone, weights=weights, layer=layer, pooling=pooling, resize=resize,
        precision=precision, engine=engine, offline=offline, accept_license=accept_license,
    )  # fmt: skip
    views = ViewChoice(augment, seed, None if ranges is None else parse_ranges(ranges))
    store_choice, kind_choice = StoreChoice.from_options(store, milvus_uri), IndexKindChoice.from_options(kind, recall)
    folder = choose_new_collection(into, sources, user=user)
    stdin = sys.stdin.buffer.read() if "-" in sources else b""
    is_new = not os.path.exists(os.path.join(folder, "catalog.db"))
    if dry_run:
        with Collection.open(folder, create=True) as collection:
            preview = collection.preview_ingest(
                sources, choice, stdin=stdin, safe_links=safe_links, rehash=rehash, include=include or (),
                exclude=exclude or (),
            )  # fmt: skip
        _print_preview(preview, as_json=as_json)
        return
    try:
        with Collection.open(folder, create=True) as collection, ProgressBar() as bar:
            report = collection.ingest(
                sources, choice, augment=views, stdin=stdin, max_pixels=to_pixels(megapixels), progress=bar,
                ray=ray, store=store_choice, kind=kind_choice, safe_links=safe_links, rehash=rehash,
                make_default=make_default, include=include or (), exclude=exclude or (),
            )  # fmt: skip
    except KeyboardInterrupt:
        print_message(f"simsearch: stopped; {folder} keeps what was indexed, and the same command resumes")
        raise typer.Exit(130) from None
    print_notes(report.notes)
    if as_json:
        print_json(report.to_dict())
        return
    _print_report(report)
    if is_new and sys.stderr.isatty():
        place = shlex.quote(format_path(folder))
        print_message(f"next: simsearch query IMAGE --in {place}, or simsearch serve --in {place}")


def _print_preview(preview: IngestPreview, *, as_json: bool) -> None:
    if as_json:
        print_json(preview.to_dict())
        return
    for word, paths in (("read", (*preview.new, *preview.changed)), ("gone", preview.gone)):
        for path in paths[:_MAX_PATHS_SHOWN]:
            print_line(f"  {word} {format_path(path)}")
        if len(paths) > _MAX_PATHS_SHOWN:
            print_line(f"  and {len(paths) - _MAX_PATHS_SHOWN:,} more to {word}; all of them: --json")
    counts = f"{len(preview.new):,} new, {len(preview.changed):,} changed, {len(preview.gone):,} gone"
    print_line(f"{preview.collection}: {counts}, {preview.n_unchanged:,} unchanged; nothing was written")
    print_skips(preview.skips)


def _print_report(report: IngestReport) -> None:
    name = report.backbone if report.precision == "f32" else f"{report.backbone} {report.precision}"
    if report.n_views > report.n_images:
        name += f", {count(report.n_views, 'view')}"
    parts = [f"{report.n_embedded:,} embedded", f"{report.n_reused:,} unchanged or moved"]
    if report.n_gone:
        parts.append(f"{report.n_gone:,} gone")
    if report.skips:
        parts.append(f"{len(report.skips):,} skipped")
    rate = f", {report.images_per_s:.0f} images/s" if report.n_embedded else ""
    print_summary(
        f"{report.collection}: {count(report.n_images, 'image')} in {count(report.n_files, 'file')}, {name} "
        f"({', '.join(parts)}; {report.elapsed_s:.1f} s{rate})"
    )
    if report.agreement is not None:
        print_summary(
            f"  {report.agreement.precision} against f32: mean cosine {report.agreement.cosine:.4f}, "
            f"{report.agreement.top_10:.0%} of the ten nearest images in common"
        )
    for other in report.others:
        print_summary(f"  {other.backbone}: {count(other.n_images, 'image')}, {other.n_embedded:,} embedded")
    if report.default and report.default != report.backbone:
        print_summary(f"  queries use {report.default}; `simsearch default {report.backbone}` changes it")
    print_skips(report.skips, full_list=f"simsearch info --in {report.collection} --json")
