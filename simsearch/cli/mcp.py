"""`simsearch mcp`."""

from __future__ import annotations

from typing import Annotated

import typer

from simsearch.cli.options import CollectionOption, OfflineWeightsOption, find_collection
from simsearch.errors import MissingExtra


def mcp(
    in_: CollectionOption = None,
    show_paths: Annotated[
        bool, typer.Option("--show-paths", help="Tell the assistant the whole paths of files.")
    ] = False,
    offline: OfflineWeightsOption = False,
) -> None:
    """Let an assistant search and look at one collection, by the Model Context Protocol on stdin and stdout.

    Its tools read only: search, list_images, facets, get_image, contact_sheet. Name the command in the settings of the
    assistant.

    Example:  simsearch mcp --in indexes/photos
    """
    folder = find_collection(in_)
    try:
        from simsearch.web.mcp_server import serve_by_stdio
    except ModuleNotFoundError as error:
        raise MissingExtra("the MCP server", "mcp") from error
    serve_by_stdio(folder, show_paths=show_paths, offline=offline)
