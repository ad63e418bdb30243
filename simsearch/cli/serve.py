"""`simsearch serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from simsearch.cli.options import BackboneOption, CollectionOption, MaxMegapixelsOption, find_collection, to_pixels
from simsearch.cli.output import print_message
from simsearch.errors import MissingExtra


def serve(
    in_: CollectionOption = None,
    host: Annotated[
        str, typer.Option("--host", help="The address to serve at; one that others can reach wants a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="SIMSEARCH_TOKEN", help="What visitors must show; made where one is needed."),
    ] = None,
    backbone: BackboneOption = None,
    allow_url: Annotated[
        bool, typer.Option("--allow-url", help="Fetch pictures from addresses on the open internet.")
    ] = False,
    megapixels: MaxMegapixelsOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never download weights.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
) -> None:
    """Serve a page to search with pictures, and an API under /api/v1, until Ctrl-C.

    On this machine only, unless --host says otherwise; then every visitor needs the token.

    Example:  simsearch serve --in indexes/photos --open
    """
    folder = find_collection(in_)
    try:
        from simsearch.web.server import bind_socket, make_token, serve
        from simsearch.web.settings import LOOPBACK_HOSTS, ServerSettings
    except ModuleNotFoundError as error:
        raise MissingExtra("the web server", "web") from error
    settings = ServerSettings(
        collection=folder, host=host, port=port, token=token or (None if host in LOOPBACK_HOSTS else make_token()),
        backbone=backbone, allow_url=allow_url, offline=offline, **_build_limits(megapixels),
    )  # fmt: skip
    bound = bind_socket(settings)

    def announce() -> None:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{bound.getsockname()[1]}/"
        entry = address + (f"login?token={settings.token}" if settings.token else "")
        print_message(f"simsearch: serving {folder} at {entry}  (Ctrl-C stops it)")
        if show:
            typer.launch(entry)

    serve(bound, settings, announce)


def _build_limits(megapixels: float | None) -> dict[str, int]:
    limit = to_pixels(megapixels)
    return {} if limit is None else {"max_pixels": limit}
