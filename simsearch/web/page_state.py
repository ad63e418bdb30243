"""What a page shows, as its address says it: every state of it has one, and it can be handed on."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from simsearch.errors import UsageError
from simsearch.web.query import MAX_EXAMPLES, MAX_ID, MAX_OFFSET, MAX_WHERE_LENGTH

_UPLOAD_PATTERN = re.compile(r"u-([0-9a-f]{32})")
_ID_PATTERN = re.compile(r"[0-9]{1,19}")
_MAX_NAME_LENGTH = 200

PictureRef = int | str
"""A picture in an address: the id of a stored image, or the name of one that was sent, as `Uploads` gives it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageState:
    """A search as the page's address has it: pictures, a part of the first, and which answers.

    `least` is the least similarity, 0 or less for all; `beside` a second backbone that answers the same.
    """

    like: tuple[PictureRef, ...] = ()
    unlike: tuple[PictureRef, ...] = ()
    crop: str = ""
    where: str = ""
    least: float = -1.0
    backbone: str = ""
    beside: str = ""
    offset: int = 0

    @classmethod
    def parse(cls, query: Iterable[tuple[str, str]]) -> Self:
        """From the names and values of an address. Raises `UsageError`."""
        like: list[PictureRef] = []
        unlike: list[PictureRef] = []
        single = dict.fromkeys(("crop", "where", "min", "backbone", "beside", "from"), "")
        for name, value in query:
            if name in ("like", "unlike"):
                (like if name == "like" else unlike).append(_parse_picture(value))
            elif name in single:
                single[name] = value.strip()
        if len(like) + len(unlike) > MAX_EXAMPLES:
            raise UsageError(f"there are more than {MAX_EXAMPLES} pictures", "ask with fewer")
        if len(single["where"]) > MAX_WHERE_LENGTH or any(
            len(single[name]) > _MAX_NAME_LENGTH for name in ("crop", "backbone", "beside")
        ):
            raise UsageError("the question is too long", "ask something shorter")
        return cls(
            like=tuple(dict.fromkeys(like)), unlike=tuple(dict.fromkeys(unlike)), crop=single["crop"],
            where=single["where"], least=_parse_min_similarity(single["min"]), backbone=single["backbone"],
            beside=single["beside"], offset=_parse_offset(single["from"]),
        )  # fmt: skip

    @property
    def backbones(self) -> tuple[str, ...]:
        """Those that answer, side by side; nothing stands for the default."""
        return (self.backbone, self.beside) if self.beside else (self.backbone,)

    @property
    def is_empty(self) -> bool:
        """Whether there is no picture to ask with."""
        return not self.like

    def address(self, **changes: Any) -> str:
        """Where this is shown, or what differs from it so. Another question begins with the first answer."""
        screen = replace(self, **({"offset": 0} | changes))
        found = [("like", _format_picture(pick)) for pick in screen.like] + [
            ("unlike", _format_picture(pick)) for pick in screen.unlike
        ]
        least = "" if screen.least <= 0 else f"{screen.least:g}"
        named = {"crop": screen.crop, "where": screen.where, "min": least, "backbone": screen.backbone}
        named |= {"beside": screen.beside, "from": str(screen.offset or "")}
        found += [(name, value) for name, value in named.items() if value]
        return "/" + ("?" + urllib.parse.urlencode(found, safe=",") if found else "")

    def asking(self, pick: PictureRef) -> str:
        """Where answers are shown that are like this picture alone."""
        return self.address(like=(pick,), unlike=(), crop="")

    def more_like(self, pick: PictureRef) -> str:
        """Where answers are shown that are like this picture, too."""
        return self.address(like=(*self.like, pick), unlike=_remove_picture(self.unlike, pick))

    def less_like(self, pick: PictureRef) -> str:
        """Where answers are shown that are less like this picture."""
        return self.address(like=_remove_picture(self.like, pick), unlike=(*self.unlike, pick))

    def without(self, pick: PictureRef) -> str:
        """Where answers are shown that have nothing to do with this picture."""
        crop = "" if self.like[:1] == (pick,) else self.crop
        return self.address(like=_remove_picture(self.like, pick), unlike=_remove_picture(self.unlike, pick), crop=crop)

    def fields(self) -> list[tuple[str, str]]:
        """What a form carries on beside what it asks itself: the pictures and the part."""
        found = [("like", _format_picture(pick)) for pick in self.like] + [
            ("unlike", _format_picture(pick)) for pick in self.unlike
        ]
        return [*found, ("crop", self.crop)] if self.crop else found


def _parse_picture(text: str) -> PictureRef:
    if found := _UPLOAD_PATTERN.fullmatch(text):
        return found[1]
    if _ID_PATTERN.fullmatch(text) and 1 <= int(text) <= MAX_ID:
        return int(text)
    raise UsageError("there is no such picture", "begin anew from the first page")


def _format_picture(pick: PictureRef) -> str:
    return str(pick) if isinstance(pick, int) else f"u-{pick}"


def _remove_picture(picks: tuple[PictureRef, ...], pick: PictureRef) -> tuple[PictureRef, ...]:
    return tuple(other for other in picks if other != pick)


def _parse_min_similarity(text: str) -> float:
    try:
        least = float(text or -1)
    except ValueError as error:
        raise UsageError("the least similarity is no number", "give one from -1 to 1") from error
    if not -1 <= least <= 1:
        raise UsageError(f"the least similarity is {least:g}", "it is a cosine: give a number from -1 to 1")
    return least if least > 0 else -1.0


def _parse_offset(text: str) -> int:
    if not (text or "0").isdecimal() or len(text) > 6 or int(text or 0) > MAX_OFFSET:
        raise UsageError("there is no such place among the answers", f"it is a number up to {MAX_OFFSET}")
    return int(text or 0)
