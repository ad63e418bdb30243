"""The HTML that a notebook shows for a search answer: a row of pictures with captions."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simsearch.images.thumbnails import make_thumbnail
from simsearch.text import replace_invalid_unicode

_SIDE_PX = 112
_ROW_STYLE = "display:flex;flex-wrap:wrap;gap:10px;margin:4px 0 12px"
_CARD_STYLE = f"margin:0;width:{_SIDE_PX}px;font-size:12px;line-height:1.35"
_FRAME_STYLE = f"height:{_SIDE_PX}px;display:flex;align-items:center;justify-content:center;background:#8881"
_NAME_STYLE = "overflow-wrap:anywhere;opacity:.7"


@dataclass(frozen=True, slots=True)
class GalleryItem:
    """A picture with a caption in bold; the name of its file is always shown below."""

    path: str
    caption: str = ""


def render_gallery(title: str, items: Sequence[GalleryItem]) -> str:
    """Render pictures of at most 112 px below a title; a picture that cannot be read has only its name.

    All text is escaped. Styles are inline, as a notebook has no style sheet for them. Of a path only the names of the
    file and its folder are shown, as notebooks are shared.
    """
    shown = "".join(_render_figure(item) for item in items)
    return f'<p style="margin:6px 0">{_escape(title)}</p><div style="{_ROW_STYLE}">{shown}</div>'


def _render_figure(item: GalleryItem) -> str:
    picture = make_thumbnail(item.path, _SIDE_PX)
    image = f'<img src="{picture}" alt="" style="margin:0">' if picture else "not readable"
    bold = f"<b>{_escape(item.caption)}</b><br>" if item.caption else ""
    name = _escape(os.path.join(*Path(item.path).parts[-2:]) if item.path else "")
    caption = f'<figcaption>{bold}<span style="{_NAME_STYLE}">{name}</span></figcaption>'
    return f'<figure style="{_CARD_STYLE}"><div style="{_FRAME_STYLE}">{image}</div>{caption}</figure>'


def _escape(text: str) -> str:
    """Escape text for HTML; bytes of a name that are not UTF-8 become U+FFFD."""
    return html.escape(replace_invalid_unicode(text))
