"""Pictures in a row with their captions, as a piece of HTML: what a notebook shows of an answer."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simsearch.images.thumbnails import thumbnail

_SIDE_PX = 112
_ROW = "display:flex;flex-wrap:wrap;gap:10px;margin:4px 0 12px"
_CARD = f"margin:0;width:{_SIDE_PX}px;font-size:12px;line-height:1.35"
_FRAME = f"height:{_SIDE_PX}px;display:flex;align-items:center;justify-content:center;background:#8881"
_NAME = "overflow-wrap:anywhere;opacity:.7"


@dataclass(frozen=True, slots=True)
class Card:
    """A picture and what is said of it in bold; its file's name is said anyway."""

    path: str
    caption: str = ""


def gallery(title: str, cards: Sequence[Card]) -> str:
    """The pictures, whole and 112 px at most, below a title; one that cannot be read any more has its name alone.

    Everything is escaped, and styles stand in the elements: a notebook has no place of its own for them. Of a path only
    the file's name and its folder's are told: notebooks are shared.
    """
    shown = "".join(_figure(card) for card in cards)
    return f'<p style="margin:6px 0">{_text(title)}</p><div style="{_ROW}">{shown}</div>'


def _figure(card: Card) -> str:
    picture = thumbnail(card.path, _SIDE_PX)
    image = f'<img src="{picture}" alt="" style="margin:0">' if picture else "not there any more"
    bold = f"<b>{_text(card.caption)}</b><br>" if card.caption else ""
    name = _text(os.path.join(*Path(card.path).parts[-2:]) if card.path else "")
    caption = f'<figcaption>{bold}<span style="{_NAME}">{name}</span></figcaption>'
    return f'<figure style="{_CARD}"><div style="{_FRAME}">{image}</div>{caption}</figure>'


def _text(text: str) -> str:
    """Escaped; bytes of a name that are no UTF-8 become U+FFFD."""
    return html.escape(os.fsencode(text).decode("utf-8", "replace"))
