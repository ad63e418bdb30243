"""A study as one page that needs nothing else: what stands in study.html."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from simsearch.images.thumbnails import data_address, thumbnail
from simsearch.report.drawing.comparison import FEW_IMAGES
from simsearch.report.drawing.feature_maps import map_grid
from simsearch.report.html import render
from simsearch.report.study.findings import image_names, sensitivity, summary
from simsearch.report.study.pictures import Making, Pieces
from simsearch.study.augmented import AugmentedSimilarities, Separation
from simsearch.study.features import Block, Features
from simsearch.study.study import Study

MOST_PAIRS = 30
"""So many pairs are listed on the page; a table of all images and study.json have the others."""

MOST_VIEWS = 20
"""So many views of an image are shown; study.json has the others."""

_PICTURE_PX, _VIEW_PX, _SEEN_PX = 480, 150, 224
_MAP_COLUMNS, _MAP_PX = 4, 54
_MOST_DOTS = 240


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture of the page; `data` is None where it cannot be read any more."""

    name: str
    path: str
    data: str | None


@dataclass(frozen=True, slots=True)
class Maps:
    """The picture as a network sees it, the file of the whole drawing and its address, blocks with their maps."""

    name: str
    side_px: int
    seen: str
    file: str
    link: str
    blocks: tuple[tuple[Block, str], ...]


@dataclass(frozen=True, slots=True)
class PairLine:
    """Two images: their similarity under each model by name, and of the softmax outputs where a model has them."""

    first: Shown
    second: Shown
    similarities: Mapping[str, float]
    softmax: Mapping[str, float]
    links: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ViewCard:
    """A view: what was done, its similarity to its own image, and by which models another image is more similar."""

    number: int
    data: str | None
    link: str
    done: str
    own: Mapping[str, float]
    nearer: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Strip:
    """The views of an image, and of each model the least, the mean and the greatest similarity to it."""

    image: Shown
    cards: tuple[ViewCard, ...]
    n_views: int
    ranges: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class Grid:
    """A value for each two images, and how strong its colour is, in percent of the grid's range."""

    name: str
    rows: tuple[tuple[tuple[float, int], ...], ...]


@dataclass(frozen=True, slots=True)
class Dots:
    """Similarities of views as places on a line, in percent of it, with the means of both kinds."""

    name: str
    separation: Separation
    own: tuple[float, ...]
    others: tuple[float, ...]
    own_mean: float
    others_mean: float


def study_page(study: Study, folder: Path, pieces: Pieces, making: Making) -> str:
    """The page, in HTML; the pictures of `pieces`, which lie in `folder`, are in it or linked to."""
    comparison = study.comparison
    names = image_names(comparison.paths)
    images = [
        Shown(name, path, thumbnail(path, _PICTURE_PX)) for name, path in zip(names, comparison.paths, strict=True)
    ]
    return render(
        "study.html.j2",
        study=study,
        comparison=comparison,
        making=making,
        title=_title(names),
        summary=summary(study),
        images=images,
        series={name: min(number, 7) for number, name in enumerate(comparison.models)},
        maps=[_maps(name, found, pieces) for name, found in study.features.items()],
        pairs=_pairs(study, images, pieces),
        grids=_pair_grids(study),
        strips=_strips(study, images, folder, pieces),
        view_grids=_view_grids(study),
        dots=_dots(study.separations),
        axis=_axis(study.separations),
        sensitivity=sensitivity,
        most_pairs=MOST_PAIRS,
    )


def _title(names: Sequence[str]) -> tuple[str, tuple[str, ...], int]:
    """What is asked, of which images by name, and of how many more."""
    shown = tuple(names) if len(names) < 4 else tuple(names[:2])
    return ("How alike are" if len(names) > 1 else "What networks see in"), shown, len(names) - len(shown)


def link(file: str) -> str:
    """The address of a file beside the page, whatever bytes are in its name."""
    return quote(os.fsencode(file))


def _maps(name: str, found: Features, pieces: Pieces) -> Maps:
    from PIL import Image

    side = found.model.side_px
    seen = Image.fromarray(found.pixels)
    seen.thumbnail((_SEEN_PX, _SEEN_PX), Image.Resampling.LANCZOS)
    grids = tuple((block, data_address(map_grid(block, _MAP_COLUMNS, _MAP_PX))) for block in found.blocks)
    return Maps(name, side, data_address(seen), pieces.features[name], link(pieces.features[name]), grids)


def _pairs(study: Study, images: Sequence[Shown], pieces: Pieces) -> list[PairLine]:
    lines = []
    for pair in islice(study.comparison.pairs(), MOST_PAIRS):
        at = (pair.first, pair.second)
        softmax = {name: float(found.similarities[at]) for name, found in study.recognised.items()}
        links = {name: link(file) for name, file in pieces.pairs.get(at, {}).items()}
        lines.append(PairLine(images[pair.first], images[pair.second], pair.similarities, softmax, links))
    return lines


def _pair_grids(study: Study) -> list[Grid]:
    """Where pairs are many, all of them in one table a model."""
    if len(study.comparison.paths) <= FEW_IMAGES:
        return []
    return [_grid(name, matrix) for name, matrix in study.comparison.similarities.items()]


def _grid(name: str, matrix: NDArray[np.float64]) -> Grid:
    low = min(0.0, float(matrix.min()))
    strengths = np.round(100 * (matrix - low) / ((1 - low) or 1)).astype(int)
    pairs = (zip(values, shades, strict=True) for values, shades in zip(matrix, strengths, strict=True))
    return Grid(name, tuple(tuple((float(value), int(shade)) for value, shade in row) for row in pairs))


def _strips(study: Study, images: Sequence[Shown], folder: Path, pieces: Pieces) -> list[Strip]:
    augmented = study.augmented
    if augmented is None:
        return []
    strips = []
    for at, image in enumerate(images):
        card = partial(_card, augmented, images, at)
        files = pieces.views[at][:MOST_VIEWS]
        cards = tuple(card(number, file, folder) for number, file in enumerate(files, start=1))
        own = {name: augmented.own(name)[at] for name in study.comparison.models}
        ranges = {name: (float(of.min()), float(of.mean()), float(of.max())) for name, of in own.items()}
        strips.append(Strip(image, cards, augmented.augmentation.n_views, ranges))
    return strips


def _card(
    augmented: AugmentedSimilarities, images: Sequence[Shown], at: int, number: int, file: str, folder: Path
) -> ViewCard:
    own, nearer = {}, {}
    for name, every in augmented.similarities.items():
        values = every[at, number - 1]
        own[name] = float(values[at])
        others = np.where(augmented.is_other()[at], values, -np.inf)
        if others.max() >= values[at]:
            nearer[name] = images[int(others.argmax())].name
    done = augmented.transformations[at][number - 1].describe()
    return ViewCard(number, thumbnail(str(folder / file), _VIEW_PX), link(file), done, own, nearer)


def _view_grids(study: Study) -> list[Grid]:
    """Of each model the mean similarity of the views of one image (a row) to each image (a column)."""
    if study.augmented is None or len(study.comparison.paths) < 2:
        return []
    return [_grid(name, every.mean(axis=1)) for name, every in study.augmented.similarities.items()]


def _axis(found: Mapping[str, Separation]) -> list[tuple[float, float]]:
    """Marks of the line all models' dots are on: the value, and its place in percent."""
    if not found:
        return []
    low = _least(found)
    steps = np.arange(low, 1.01, 0.2 if 1 - low > 0.5 else 0.1)
    return [(round(float(step), 1), 100 * (float(step) - low) / (1 - low)) for step in steps]


def _least(found: Mapping[str, Separation]) -> float:
    """The least similarity, down to a tenth: where the line begins."""
    least = min(float(min(each.own.min(), each.others.min())) for each in found.values())
    return min(0.8, float(np.floor(10 * least) / 10))


def _dots(found: Mapping[str, Separation]) -> list[Dots]:
    if not found:
        return []
    low = _least(found)

    def places(values: NDArray[np.float64]) -> tuple[float, ...]:
        shown = np.sort(values.ravel())
        shown = shown[np.linspace(0, len(shown) - 1, min(len(shown), _MOST_DOTS)).round().astype(int)]
        return tuple(round(float(100 * (value - low) / (1 - low)), 2) for value in shown)

    dots = []
    for name, each in found.items():
        means = (places(np.array([values.mean()]))[0] for values in (each.own, each.others))
        dots.append(Dots(name, each, places(each.own), places(each.others), *means))
    return dots
