"""The views of an image that are embedded: the original, and augmented views that are reproducible."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from simsearch.errors import UsageError
from simsearch.images.augmentation import AugmentationRanges, apply_transformation, sample_transformation
from simsearch.images.decode import Pixels
from simsearch.images.resize import InputRule

ORIGINAL, AUGMENTED = "original", "augmented"

PRESETS = {
    "keras": AugmentationRanges(),
    "strong": AugmentationRanges(shear_deg=20, zoom=0.25, channel_shift=40),
}
"""Named ranges. `keras` are the defaults; `strong` slants, zooms and brightens as people edit pictures."""

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
    """The number of augmented views of every image, their seed and their ranges.

    Views are numbered: 0 is the original, 1 to `n_views` are augmented. A larger `n_views` adds views and changes none.
    """

    n_views: int = 0
    seed: int = 0
    ranges: AugmentationRanges = field(default_factory=AugmentationRanges)

    def __post_init__(self) -> None:
        if not 0 <= self.n_views <= _MAX_VIEWS:
            raise UsageError(
                f"invalid number of augmented views {self.n_views}", f"give a number from 0 (none) to {_MAX_VIEWS}"
            )

    @property
    def numbers(self) -> range:
        """The numbers of all views, starting with 0 for the original."""
        return range(self.n_views + 1)

    def has_same_views(self, other: Augmentation) -> bool:
        """Whether both give the same view for the same number."""
        return (self.seed, self.ranges) == (other.seed, other.ranges)

    def render_views(
        self, square: Pixels, digest: str, numbers: Iterable[int], rule: InputRule | None = None
    ) -> Pixels:
        """Render views (n, side, side, 3) of a square (side, side, 3) of the image with this digest.

        With a `rule` the views (n, ...) are of an input that was made by it.
        """

        def render(number: int) -> Pixels:
            transformation = sample_transformation(self.ranges, self.seed, digest, number)
            change = partial(apply_transformation, transformation=transformation)
            return change(square) if rule is None else rule.transform(square, change)

        return np.stack([render(number) if number else square for number in numbers])

    def describe_view(self, digest: str, number: int) -> tuple[str, str]:
        """Return the kind of a view and its parameters as a JSON object, as the catalog stores them."""
        if number == 0:
            return ORIGINAL, "{}"
        drawn = dataclasses.asdict(sample_transformation(self.ranges, self.seed, digest, number))
        return AUGMENTED, json.dumps({"number": number, "seed": self.seed, **drawn}, sort_keys=True)

    def to_json(self) -> str:
        """Serialize as a JSON object for `from_json`."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Augmentation:
        """Parse the text that `to_json` wrote."""
        fields = json.loads(text)
        return cls(fields["n_views"], fields["seed"], AugmentationRanges(**fields["ranges"]))


NO_AUGMENTATION = Augmentation()


@dataclass(frozen=True, slots=True)
class ViewChoice:
    """The fields of `Augmentation` that the user chose. None keeps the model's current value, or the default.

    Raises `UsageError` on an invalid number of views.
    """

    n_views: int | None = None
    seed: int | None = None
    ranges: AugmentationRanges | None = None

    def __post_init__(self) -> None:
        self.apply_to(NO_AUGMENTATION)

    def apply_to(self, current: Augmentation) -> Augmentation:
        """Return `current` with the chosen fields replaced."""
        n_views, seed = (
            present if chosen is None else chosen
            for present, chosen in ((current.n_views, self.n_views), (current.seed, self.seed))
        )
        return Augmentation(n_views, seed, self.ranges or current.ranges)


def parse_ranges(text: str) -> AugmentationRanges:
    """Parse ranges such as `rotation=15,shift=0.2,flip=no` or `strong,flip=no`.

    Names that are left out keep the values of the preset that comes first, `keras` (the defaults) or `strong`. Names:
    rotation and shear (degrees), shift, width-shift, height-shift and zoom (fractions), channel-shift (gray levels),
    flip (yes or no). Raises `UsageError`.
    """
    parts = [part for part in (part.strip() for part in text.split(",")) if part]
    preset = PRESETS[parts.pop(0).lower()] if parts and parts[0].lower() in PRESETS else AugmentationRanges()
    values: dict[str, float] = {}
    flips = preset.horizontal_flip
    for part in parts:
        name, _, value = (word.strip().lower() for word in part.partition("="))
        if name == "flip" and value in ("yes", "no"):
            flips = value == "yes"
            continue
        try:
            values |= dict.fromkeys(_RANGES_BY_NAME[name], float(value))
        except (KeyError, ValueError) as error:
            known = ", ".join([*_RANGES_BY_NAME, "flip=yes|no"])
            advice = f"write NAME=NUMBER with one of {known}, or first a preset: {' or '.join(PRESETS)}"
            raise UsageError(f"invalid range {part!r}", advice) from error
    return replace(preset, **values, horizontal_flip=flips)
