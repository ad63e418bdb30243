"""Pictures in a row with their captions, as a piece of HTML: what a notebook shows of an answer."""

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
    """A picture and what is said of it in bold; its file's name is said anyway."""

    path: str
    caption: str = ""


def render_gallery(title: str, cards: Sequence[GalleryItem]) -> str:
    """The pictures, whole and 112 px at most, below a title; one that cannot be read any more has its name alone.

    Everything is escaped, and styles stand in the elements: a notebook has no place of its own for them. Of a path only
    the file's name and its folder's are told: notebooks are shared.
    """
    shown = "".join(_render_figure(card) for card in cards)
    return f'<p style="margin:6px 0">{_escape(title)}</p><div style="{_ROW_STYLE}">{shown}</div>'


def _render_figure(card: GalleryItem) -> str:
    picture = make_thumbnail(card.path, _SIDE_PX)
    image = f'<img src="{picture}" alt="" style="margin:0">' if picture else "not there any more"
    bold = f"<b>{_escape(card.caption)}</b><br>" if card.caption else ""
    name = _escape(os.path.join(*Path(card.path).parts[-2:]) if card.path else "")
    caption = f'<figcaption>{bold}<span style="{_NAME_STYLE}">{name}</span></figcaption>'
    return f'<figure style="{_CARD_STYLE}"><div style="{_FRAME_STYLE}">{image}</div>{caption}</figure>'


def _escape(text: str) -> str:
    """Escaped; bytes of a name that are no UTF-8 become U+FFFD."""
    return html.escape(replace_invalid_unicode(text))
