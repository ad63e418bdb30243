"""The evidence that two pictures are copies of one picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

CopyKind = Literal["exact", "re-encoded", "resized", "tone", "mirrored", "rotated", "crop of", "overlay"]
"""How one picture of a pair differs from the other.

`exact`: the same bytes. `re-encoded`: the same picture, other bytes. `resized`: another number of pixels. `tone`: other
brightness, contrast or colours. `mirrored`, `rotated`: as named, by at least 3 degrees. `crop of`: one picture is a
part of the other, or the other has a border. `overlay`: something covers a part of one picture.
"""

COPY_KINDS: tuple[CopyKind, ...] = get_args(CopyKind)

Box = tuple[float, float, float, float]
"""A rectangle as shares of the width and the height of a picture: left, top, right, bottom, each in [0, 1]."""

Side = Literal["a", "b"]


@dataclass(frozen=True, slots=True)
class PairEvidence:
    """The result of a comparison that found two pictures, a and b, to be copies of one picture.

    `kinds` are all differences, the most important first. `n_inliers` counts the local features that fit the geometric
    model; 0 where the pictures were compared as they are. `agreement` is the share of the compared blocks with detail
    that show the same, in [0, 1]. `whole` is the picture that shows more, and `box` the part of it that the other
    one shows. `rotation_deg` is the rotation from a to b, in (-180, 180]. `overlap` is the share of the other picture
    that lies in the whole. `is_framed`: the whole shows the other picture with a border or another picture around it.
    """

    kinds: tuple[CopyKind, ...]
    n_inliers: int
    agreement: float
    whole: Side
    box: Box
    rotation_deg: float
    overlap: float = 1.0
    is_framed: bool = False

    @property
    def kind(self) -> CopyKind:
        """The most important difference."""
        return self.kinds[0]

    @property
    def box_share(self) -> float:
        """The area of the box as a share of the picture it lies in."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)

    def to_dict(self) -> dict[str, Any]:
        """The evidence as in JSON reports."""
        return {
            "kind": self.kind,
            "kinds": list(self.kinds),
            "inliers": self.n_inliers,
            "agreement": round(self.agreement, 4),
            "whole": self.whole,
            "box": [round(edge, 4) for edge in self.box],
            "rotation_deg": round(self.rotation_deg, 1),
            "overlap": round(self.overlap, 4),
            "framed": self.is_framed,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PairEvidence:
        """The inverse of `to_dict`, but for rounding."""
        return cls(
            kinds=tuple(values["kinds"]),
            n_inliers=values["inliers"],
            agreement=values["agreement"],
            whole=values["whole"],
            box=(values["box"][0], values["box"][1], values["box"][2], values["box"][3]),
            rotation_deg=values["rotation_deg"],
            overlap=values["overlap"],
            is_framed=values["framed"],
        )
