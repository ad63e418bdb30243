"""The state of the search page. Every state has a URL, so that a visitor can bookmark and share it."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from simsearch.errors import UsageError
from simsearch.web.query import MAX_ID, MAX_OFFSET, MAX_TEXT_LENGTH, MAX_WHERE_LENGTH, check_example_count

_UPLOAD_PATTERN = re.compile(r"u-([0-9a-f]{32})")
_ID_PATTERN = re.compile(r"[0-9]{1,19}")
_MAX_NAME_LENGTH = 200

PictureRef = int | str
"""A picture in a URL: the id of a stored image, or the name of an upload in the `UploadCache`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageState:
    """A search in the URL of the page: query pictures and texts, a crop, filters, and the position in the results.

    `min_similarity` is a cosine; a value of 0 or less shows all results. `beside` is a second backbone whose results
    are shown side by side. `verify` compares the first results with the pixels of the query. `root` is what the
    addresses of the collection begin with.
    """

    like: tuple[PictureRef, ...] = ()
    unlike: tuple[PictureRef, ...] = ()
    text: str = ""
    unlike_text: str = ""
    crop: str = ""
    where: str = ""
    min_similarity: float = -1.0
    backbone: str = ""
    beside: str = ""
    verify: bool = False
    offset: int = 0
    root: str = ""

    @classmethod
    def parse(cls, parameters: Iterable[tuple[str, str]], root: str = "") -> Self:
        """Parse the names and values of a URL's query string. Raises `UsageError`."""
        pictures: dict[str, list[PictureRef]] = {"like": [], "unlike": []}
        names = ("text", "unlike_text", "crop", "where", "min", "backbone", "beside", "verify", "from")
        single = dict.fromkeys(names, "")
        for name, value in parameters:
            if name in pictures:
                pictures[name].append(_parse_picture(value))
            elif name in single:
                single[name] = value.strip()
        check_example_count(sum(map(len, pictures.values())) + bool(single["text"]) + bool(single["unlike_text"]))
        limits = dict.fromkeys(("text", "unlike_text"), MAX_TEXT_LENGTH) | {"where": MAX_WHERE_LENGTH}
        limits |= dict.fromkeys(("crop", "backbone", "beside"), _MAX_NAME_LENGTH)
        for name, limit in limits.items():
            if len(single[name]) > limit:
                raise UsageError(f"the parameter '{name}' is too long", f"use at most {limit} characters")
        return cls(
            like=tuple(dict.fromkeys(pictures["like"])), unlike=tuple(dict.fromkeys(pictures["unlike"])),
            text=single["text"], unlike_text=single["unlike_text"], crop=single["crop"], where=single["where"],
            min_similarity=_parse_min_similarity(single["min"]), backbone=single["backbone"], beside=single["beside"],
            verify=single["verify"] == "1", offset=_parse_offset(single["from"]), root=root,
        )  # fmt: skip

    @property
    def backbones(self) -> tuple[str, ...]:
        """The backbones to search with, one or two; an empty name is the default backbone."""
        return (self.backbone, self.beside) if self.beside else (self.backbone,)

    @property
    def is_empty(self) -> bool:
        """Whether there is no query picture and no text."""
        return not (self.like or self.text)

    def build_url(self, **changes: Any) -> str:
        """Build the URL of this state with some fields changed. The offset becomes 0 unless it is among them."""
        state = replace(self, **({"offset": 0} | changes))
        min_similarity = "" if state.min_similarity <= 0 else f"{state.min_similarity:g}"
        single = {
            "text": state.text,
            "unlike_text": state.unlike_text,
            "crop": state.crop,
            "where": state.where,
            "min": min_similarity,
            "backbone": state.backbone,
            "beside": state.beside,
            "verify": "1" if state.verify else "",
            "from": str(state.offset or ""),
        }
        parameters = state._list_pictures() + [(name, value) for name, value in single.items() if value]
        return f"{self.root}/" + ("?" + urllib.parse.urlencode(parameters, safe=",") if parameters else "")

    def build_search_url(self, picture: PictureRef) -> str:
        """Build the URL of a search with this picture alone."""
        return self.build_url(like=(picture,), unlike=(), text="", unlike_text="", crop="")

    def build_more_like_url(self, picture: PictureRef) -> str:
        """Build the URL of this search with the picture as a further positive example."""
        return self.build_url(like=(*self.like, picture), unlike=_remove_picture(self.unlike, picture))

    def build_less_like_url(self, picture: PictureRef) -> str:
        """Build the URL of this search with the picture as a negative example."""
        return self.build_url(like=_remove_picture(self.like, picture), unlike=(*self.unlike, picture))

    def build_removal_url(self, picture: PictureRef) -> str:
        """Build the URL of this search without the picture."""
        like, unlike = _remove_picture(self.like, picture), _remove_picture(self.unlike, picture)
        return self.build_url(like=like, unlike=unlike, crop="" if self.like[:1] == (picture,) else self.crop)

    def move_to(self, root: str) -> Self:
        """The same search in another collection: with the texts and the uploaded pictures.

        Stored images, filters and backbones are those of this collection.
        """
        like = tuple(picture for picture in self.like if isinstance(picture, str))
        unlike = tuple(picture for picture in self.unlike if isinstance(picture, str))
        crop = self.crop if like[:1] == self.like[:1] else ""
        return type(self)(
            like=like, unlike=unlike, text=self.text, unlike_text=self.unlike_text, crop=crop,
            min_similarity=self.min_similarity, root=root,
        )  # fmt: skip

    def list_hidden_fields(self) -> list[tuple[str, str]]:
        """List the hidden fields of the filter form: the pictures and the crop."""
        return self._list_pictures() + ([("crop", self.crop)] if self.crop else [])

    def _list_pictures(self) -> list[tuple[str, str]]:
        like = [("like", _format_picture(picture)) for picture in self.like]
        return like + [("unlike", _format_picture(picture)) for picture in self.unlike]


def _parse_picture(text: str) -> PictureRef:
    if found := _UPLOAD_PATTERN.fullmatch(text):
        return found[1]
    if _ID_PATTERN.fullmatch(text) and 1 <= int(text) <= MAX_ID:
        return int(text)
    raise UsageError("the URL does not name a picture", "start again from the start page")


def _format_picture(picture: PictureRef) -> str:
    return str(picture) if isinstance(picture, int) else f"u-{picture}"


def _remove_picture(pictures: tuple[PictureRef, ...], picture: PictureRef) -> tuple[PictureRef, ...]:
    return tuple(other for other in pictures if other != picture)


def _parse_min_similarity(text: str) -> float:
    try:
        minimum = float(text or -1)
    except ValueError as error:
        raise UsageError("the minimum similarity is not a number", "give a number from -1 to 1") from error
    if not -1 <= minimum <= 1:
        raise UsageError(f"the minimum similarity is {minimum:g}", "it is a cosine: give a number from -1 to 1")
    return minimum if minimum > 0 else -1.0


def _parse_offset(text: str) -> int:
    if not (text or "0").isdecimal() or len(text) > 6 or int(text or 0) > MAX_OFFSET:
        raise UsageError("the position in the results is invalid", f"give a number from 0 to {MAX_OFFSET}")
    return int(text or 0)
