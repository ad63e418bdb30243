"""`simsearch serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from simsearch.cli.terminal import Backbone, In, MaxMegapixels, chosen_collection, max_pixels, tell
from simsearch.errors import MissingExtra


def serve(
    in_: In = None,
    host: Annotated[
        str, typer.Option("--host", help="The address to serve at; one that others can reach wants a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="SIMSEARCH_TOKEN", help="What visitors must show; made where one is needed."),
    ] = None,
    backbone: Backbone = None,
    allow_url: Annotated[
        bool, typer.Option("--allow-url", help="Fetch pictures from addresses on the open internet.")
    ] = False,
    megapixels: MaxMegapixels = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never download weights.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
) -> None:
    """Serve a page to search with pictures, and an API under /api/v1, until Ctrl-C.

    On this machine only, unless --host says otherwise; then every visitor needs the token.

    Example:  simsearch serve --in indexes/photos --open
    """
    folder = chosen_collection(in_)
    try:
        from simsearch.web.server import listen, made_token, serve_at
        from simsearch.web.settings import LOOPBACK, Settings
    except ModuleNotFoundError as error:
        raise MissingExtra("the web server", "web") from error
    settings = Settings(
        collection=folder, host=host, port=port, token=token or (None if host in LOOPBACK else made_token()),
        backbone=backbone, allow_url=allow_url, offline=offline, **_limits(megapixels),
    )  # fmt: skip
    taken = listen(settings)

    def announce() -> None:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{taken.getsockname()[1]}/"
        entry = address + (f"login?token={settings.token}" if settings.token else "")
        tell(f"simsearch: serving {folder} at {entry}  (Ctrl-C stops it)")
        if show:
            typer.launch(entry)

    serve_at(taken, settings, announce)


def _limits(megapixels: float | None) -> dict[str, int]:
    limit = max_pixels(megapixels)
    return {} if limit is None else {"max_pixels": limit}
