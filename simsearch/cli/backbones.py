"""`simsearch backbones`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.options import AcceptLicenseOption, JsonOption, OfflineWeightsOption
from simsearch.cli.output import make_table, print_json, print_line, print_message, print_table
from simsearch.errors import UsageError

if TYPE_CHECKING:
    from simsearch.evaluation.model_check import ModelCheck
    from simsearch.models.choice import BackboneInfo

_MIN_WIDTH_FOR_SIZES, _MIN_WIDTH_FOR_PAPERS = 100, 170
_DEFAULT_IMAGES = os.path.join("data", "objects")


def backbones(
    check: Annotated[
        str | None,
        typer.Option(
            "--check",
            metavar="NAME",
            help="Download this backbone, embed the pictures of --images, print retrieval, speed and lengths of the "
            "vectors, and mark it as verified on this machine.",
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option("--images", metavar="FOLDER", help="Pictures in one subfolder per class. Default: data/objects."),
    ] = None,
    accept_license: AcceptLicenseOption = False,
    offline: OfflineWeightsOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the available backbones, and whether their weights are on this machine; or check one of them.

    Example:  simsearch backbones

    Example:  simsearch backbones --check dinov2_small --images ~/photos-by-class
    """
    if check is not None:
        _check_backbone(check, images, accept_license, offline, as_json)
        return
    from simsearch.models.choice import list_backbones

    rows = list_backbones()
    if as_json:
        print_json({"backbones": [row.to_dict() for row in rows]})
        return
    _print_backbones(rows)
    print_message(
        "Other models: hf:owner/repository with an ONNX export, its folder, .onnx and .keras files, SavedModel folders."
    )
    print_message(
        "License *: limits the use; download with --accept-license. Verified: run with its real weights, by this "
        "project or on this machine (--check)."
    )


def _check_backbone(name: str, images: str | None, accept_license: bool, offline: bool, as_json: bool) -> None:
    from simsearch.cli.options import trust_backbone
    from simsearch.evaluation.model_check import check_model
    from simsearch.models.choice import ModelChoice

    if images is None and not os.path.isdir(_DEFAULT_IMAGES):
        raise UsageError(f"no folder {_DEFAULT_IMAGES} here", "name pictures with --images FOLDER")
    choice = ModelChoice(backbone=trust_backbone(name), offline=offline, accept_license=accept_license)
    result = check_model(choice, images or _DEFAULT_IMAGES)
    if as_json:
        print_json(result.to_dict())
    else:
        _print_check(result)


def _print_check(check: ModelCheck) -> None:
    print_line(f"{check.backbone}: {check.n_images:,} pictures, vectors of length {check.width}")
    figures = (check.precision_at_1, check.precision_at_10, check.mean_average_precision)
    print_line("P@1 {:.3f}, P@10 {:.3f}, mAP {:.3f} (leave-one-out)".format(*figures))
    print_line(f"{check.images_per_s:.0f} images/s embedded at f32")
    print_line(
        f"norms {check.min_norm:.4f} to {check.max_norm:.4f}, mean cosine of different pictures {check.mean_cosine:.3f}"
    )
    print_line(f"model {check.fingerprint}")


def _print_backbones(rows: list[BackboneInfo]) -> None:
    from rich.console import Console

    console_width = Console().width
    headings = ["name", "width", "text", "weights", "verified", "license"]
    if console_width >= _MIN_WIDTH_FOR_SIZES:
        headings[1:1] = ["side", "parameters"]
    if console_width >= _MIN_WIDTH_FOR_PAPERS:
        headings.append("paper")
    table = make_table()
    for heading in headings:
        is_number = heading in ("side", "width", "parameters")
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=True)
    for row in rows:
        size = f" {row.size_bytes / 1e6:.0f} MB" if row.size_bytes else ""
        cells = {
            "name": row.name,
            "side": str(row.side_px),
            "parameters": f"{row.parameters / 1e6:.1f} M",
            "width": str(row.width),
            "text": "yes" if row.has_text else "",
            "weights": "local" if row.weights_path else f"download{size}" if row.weights_url else "not needed",
            "verified": "yes" if row.is_verified else "no",
            "license": f"{row.license} *" if row.is_restricted else row.license,
            "paper": row.paper,
        }
        table.add_row(*(cells[heading] for heading in headings))
    print_table(table)
