"""`simsearch backbones`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simsearch.cli.options import JsonOption
from simsearch.cli.output import make_table, print_json, print_message

if TYPE_CHECKING:
    from simsearch.models.choice import BackboneInfo

_MIN_WIDTH_FOR_PAPERS = 120


def backbones(as_json: JsonOption = False) -> None:
    """List the available backbones, and whether their weights are on this machine.

    Example:  simsearch backbones
    """
    from simsearch.models.choice import list_backbones

    rows = list_backbones()
    if as_json:
        print_json({"backbones": [row.to_dict() for row in rows]})
        return
    _print_backbones(rows)
    print_message(
        "Model files work too: .keras, .onnx or a SavedModel folder, with a JSON file of settings next to it."
    )


def _print_backbones(rows: list[BackboneInfo]) -> None:
    from rich.console import Console

    console = Console()
    table = make_table()
    headings = ["name", "side", "width", "parameters", "weights", "licence"]
    if console.width >= _MIN_WIDTH_FOR_PAPERS:
        headings.append("paper")
    for heading in headings:
        is_number = heading in ("side", "width", "parameters")
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=True)
    for row in rows:
        weights = "local" if row.weights_path else "download" if row.weights_url else "not needed"
        size = f"{row.parameters / 1e6:.1f} M"
        cells = [row.name, str(row.side_px), str(row.width), size, weights, row.license, row.paper]
        table.add_row(*cells[: len(headings)])
    console.print(table)
