"""`simsearch serve`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Annotated

import typer

from simsearch.cli.options import (
    BackboneOption,
    CollectionsOption,
    MaxMegapixelsOption,
    OfflineWeightsOption,
    describe_collections,
    find_collection,
    to_pixels,
)
from simsearch.cli.output import print_message
from simsearch.errors import MissingExtra


def serve(
    in_: CollectionsOption = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. One that other machines can reach requires a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 chooses a free one.")
    ] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", envvar="SIMSEARCH_TOKEN", help="Token that visitors must present. Default: random, if required."
        ),
    ] = None,
    write_token: Annotated[
        str | None,
        typer.Option(
            "--write-token",
            envvar="SIMSEARCH_WRITE_TOKEN",
            help="Token that also allows changes: labels and annotations. Default: changes need no token "
            "where searches need none.",
        ),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option("--cors", metavar="ORIGIN", help="Let pages of this origin use the API. May be repeated."),
    ] = None,
    rate_limit: Annotated[
        float | None,
        typer.Option(
            "--rate-limit",
            metavar="N",
            help="Requests that an address may send each second, and ten times as many at once. Default: no limit.",
        ),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy",
            metavar="ADDRESS",
            help="Believe the X-Forwarded-For of a reverse proxy at this address or network. May be repeated.",
        ),
    ] = None,
    show_paths: Annotated[bool, typer.Option("--show-paths", help="Show visitors the whole paths of files.")] = False,
    backbone: BackboneOption = None,
    allow_url: Annotated[
        bool, typer.Option("--allow-url", help="Allow queries with images at public web addresses.")
    ] = False,
    allow_upload: Annotated[
        str | None,
        typer.Option(
            "--allow-upload",
            metavar="FOLDER",
            help="Let visitors who may write add pictures: they are stored in this folder, and indexed.",
        ),
    ] = None,
    max_upload_gigabytes: Annotated[
        float, typer.Option("--max-upload-gigabytes", min=0, help="The most that added pictures take together.")
    ] = 10.0,
    megapixels: MaxMegapixelsOption = None,
    offline: OfflineWeightsOption = False,
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve a web page for searching with images, and an HTTP API under /api/v1, until Ctrl-C.

    Several collections (--in A --in B) are at /c/A/ and /c/B/, with a list of them at the start.

    Only this machine can connect, unless --host says otherwise; then every visitor needs the token.

    Example:  simsearch serve --in indexes/photos --open
    """
    folders = [find_collection(one) for one in in_] if in_ else [find_collection(None)]
    try:
        from simsearch.web.addresses import draw_qr_code, find_own_address
        from simsearch.web.server import bind_socket, make_token
        from simsearch.web.server import serve as run_server
        from simsearch.web.settings import LOOPBACK_HOSTS, ServerSettings, choose_roots
    except ModuleNotFoundError as error:
        raise MissingExtra("the web server", "web") from error
    settings = ServerSettings(
        collection=folders[0], host=host, port=port, token=token or (None if host in LOOPBACK_HOSTS else make_token()),
        write_token=write_token, cors=tuple(cors or ()), show_paths=show_paths,
        rate_limit=rate_limit, trusted_proxies=tuple(trusted_proxy or ()), backbone=backbone, allow_url=allow_url,
        offline=offline, allow_upload=allow_upload, max_upload_bytes=round(1e9 * max_upload_gigabytes),
    )  # fmt: skip
    if (max_pixels := to_pixels(megapixels)) is not None:
        settings = replace(settings, max_pixels=max_pixels)
    each = choose_roots(settings, folders)
    bound = bind_socket(settings)

    def announce() -> None:
        is_any = host in ("0.0.0.0", "::")
        reachable = find_own_address(host) if is_any else host
        name = f"[{reachable}]" if ":" in reachable else reachable
        address = f"http://{name}:{bound.getsockname()[1]}/"
        entry = address + (f"login?token={settings.token}" if settings.token else "")
        print_message(f"simsearch: serving {describe_collections(folders)} at {entry}  (Ctrl-C stops it)")
        if is_any and sys.stderr.isatty():
            typer.echo(draw_qr_code(entry), err=True)
        if show:
            typer.launch(entry)

    with bound:
        has_ended = run_server(bound, each, announce)
    if not has_ended:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # a thread still decodes or fetches for a request that nobody waits for
