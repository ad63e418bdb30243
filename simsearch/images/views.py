"""Which views of an image are embedded: the original, and augmented ones that are the same whenever they are made."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from simsearch.errors import UsageError
from simsearch.images.augmentation import AugmentationRanges, apply_transformation, sample_transformation
from simsearch.images.decode import Pixels

ORIGINAL, AUGMENTED = "original", "augmented"

_MAX_VIEWS = 1000
_RANGES_BY_NAME = {
    "rotation": ["rotation_deg"],
    "shift": ["width_shift", "height_shift"],
    "width-shift": ["width_shift"],
    "height-shift": ["height_shift"],
    "shear": ["shear_deg"],
    "zoom": ["zoom"],
    "channel-shift": ["channel_shift"],
}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How many augmented views of every image there are, from which seed, and how far they may go.

    Views are numbered: 0 is the original, 1 to `n_views` are augmented. Raising `n_views` adds views and changes none.
    """

    n_views: int = 0
    seed: int = 0
    ranges: AugmentationRanges = field(default_factory=AugmentationRanges)

    def __post_init__(self) -> None:
        if not 0 <= self.n_views <= _MAX_VIEWS:
            raise UsageError(
                f"{self.n_views} augmented views of every image", f"give a number from 0 (none) to {_MAX_VIEWS}"
            )

    @property
    def numbers(self) -> range:
        """The numbers of all views, the original's 0 first."""
        return range(self.n_views + 1)

    def has_same_views(self, other: Augmentation) -> bool:
        """Whether both give the same view under the same number."""
        return (self.seed, self.ranges) == (other.seed, other.ranges)

    def render_views(self, square: Pixels, digest: str, numbers: Iterable[int]) -> Pixels:
        """Those views (n, side, side, 3) of a square picture (side, side, 3) of that content."""
        return np.stack(
            [
                apply_transformation(square, sample_transformation(self.ranges, self.seed, digest, number))
                if number
                else square
                for number in numbers
            ]
        )

    def describe_view(self, digest: str, number: int) -> tuple[str, str]:
        """Kind and parameters (a JSON object) of a view, as the catalog keeps them."""
        if number == 0:
            return ORIGINAL, "{}"
        drawn = dataclasses.asdict(sample_transformation(self.ranges, self.seed, digest, number))
        return AUGMENTED, json.dumps({"number": number, "seed": self.seed, **drawn}, sort_keys=True)

    def to_json(self) -> str:
        """A JSON object that `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Augmentation:
        """What `to_json` wrote."""
        fields = json.loads(text)
        return cls(fields["n_views"], fields["seed"], AugmentationRanges(**fields["ranges"]))


NO_AUGMENTATION = Augmentation()


@dataclass(frozen=True, slots=True)
class ViewChoice:
    """What a user asks for of `Augmentation`. None keeps what a model has in its collection, else the default.

    Raises `UsageError` on a number of views that cannot be.
    """

    n_views: int | None = None
    seed: int | None = None
    ranges: AugmentationRanges | None = None

    def __post_init__(self) -> None:
        self.apply_to(NO_AUGMENTATION)

    def apply_to(self, current: Augmentation) -> Augmentation:
        """What is asked for, and the rest as it is."""
        n_views, seed = (
            was if asked is None else asked
            for was, asked in ((current.n_views, self.n_views), (current.seed, self.seed))
        )
        return Augmentation(n_views, seed, self.ranges or current.ranges)


def parse_ranges(text: str) -> AugmentationRanges:
    """Ranges from text such as `rotation=15,shift=0.2,flip=no`; what is not named has its default.

    Names: rotation and shear (degrees), shift, width-shift, height-shift and zoom (fractions), channel-shift (grey
    levels), flip (yes or no). Raises `UsageError`.
    """
    values: dict[str, float] = {}
    flips = True
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (word.strip().lower() for word in part.partition("="))
        if name == "flip" and value in ("yes", "no"):
            flips = value == "yes"
            continue
        try:
            values |= dict.fromkeys(_RANGES_BY_NAME[name], float(value))
        except (KeyError, ValueError) as error:
            known = ", ".join([*_RANGES_BY_NAME, "flip=yes|no"])
            raise UsageError(f"{part!r} is no range", f"write name=number with one of {known}") from error
    return AugmentationRanges(**values, horizontal_flip=flips)
