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

from simsearch.images.thumbnails import encode_data_url, make_thumbnail
from simsearch.report.drawing.comparison import MAX_IMAGES_WITHOUT_HEAT_MAP
from simsearch.report.drawing.feature_maps import draw_map_grid
from simsearch.report.html import render_page
from simsearch.report.study.findings import format_sensitivity, name_images, summarize_study
from simsearch.report.study.pictures import StudyProvenance
from simsearch.study.augmented import AugmentedSimilarities, Separation
from simsearch.study.features import ImageFeatures, LayerFeatures
from simsearch.study.study import StudyPictures, StudyResult

MAX_LISTED_PAIRS = 30
"""So many pairs are listed on the page; a table of all images and study.json have the others."""

MAX_VIEWS = 20
"""So many views of an image are shown; study.json has the others."""

_PICTURE_PX, _VIEW_PX, _INPUT_PX = 480, 150, 224
_MAP_COLUMNS, _MAP_PX = 4, 54
_MAX_DOTS = 240


@dataclass(frozen=True, slots=True)
class StudyPicture:
    """A picture of the page; `data` is None where it cannot be read any more."""

    name: str
    path: str
    data: str | None


@dataclass(frozen=True, slots=True)
class FeatureMapPanel:
    """The picture as a network sees it, the file of the whole drawing and its address, blocks with their maps."""

    name: str
    side_px: int
    input_image: str
    file: str
    link: str
    blocks: tuple[tuple[LayerFeatures, str], ...]


@dataclass(frozen=True, slots=True)
class PairCard:
    """Two images: their similarity under each model by name, and of the softmax outputs where a model has them."""

    first: StudyPicture
    second: StudyPicture
    similarities: Mapping[str, float]
    softmax: Mapping[str, float]
    links: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ViewCard:
    """A view: what was done, its similarity to its own image, and by which models another image is more similar."""

    number: int
    data: str | None
    link: str
    transformation: str
    own: Mapping[str, float]
    nearer_images: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ViewStrip:
    """The views of an image, and of each model the least, the mean and the greatest similarity to it."""

    image: StudyPicture
    cards: tuple[ViewCard, ...]
    n_views: int
    ranges: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class SimilarityGrid:
    """A value for each two images, and how strong its colour is, in percent of the grid's range."""

    name: str
    rows: tuple[tuple[tuple[float, int], ...], ...]


@dataclass(frozen=True, slots=True)
class SeparationPlot:
    """Similarities of views as places on a line, in percent of it, with the means of both kinds."""

    name: str
    separation: Separation
    own: tuple[float, ...]
    others: tuple[float, ...]
    own_mean: float
    others_mean: float


def render_study(study: StudyResult, folder: Path, pieces: StudyPictures, making: StudyProvenance) -> str:
    """The page, in HTML; the pictures of `pieces`, which lie in `folder`, are in it or linked to."""
    comparison = study.comparison
    names = name_images(comparison.paths)
    images = [
        StudyPicture(name, path, make_thumbnail(path, _PICTURE_PX))
        for name, path in zip(names, comparison.paths, strict=True)
    ]
    return render_page(
        "study.html.j2",
        study=study,
        comparison=comparison,
        making=making,
        title=_build_title(names),
        summary=summarize_study(study),
        images=images,
        series={name: min(number, 7) for number, name in enumerate(comparison.models)},
        maps=[_build_panel(name, found, pieces) for name, found in study.features.items()],
        pairs=_build_pair_cards(study, images, pieces),
        grids=_build_pair_grids(study),
        strips=_build_strips(study, images, folder, pieces),
        view_grids=_build_view_grids(study),
        dots=_build_separation_plots(study.separations),
        axis=_build_axis(study.separations),
        sensitivity=format_sensitivity,
        most_pairs=MAX_LISTED_PAIRS,
    )


def _build_title(names: Sequence[str]) -> tuple[str, tuple[str, ...], int]:
    """What is asked, of which images by name, and of how many more."""
    shown = tuple(names) if len(names) < 4 else tuple(names[:2])
    return ("How alike are" if len(names) > 1 else "What networks see in"), shown, len(names) - len(shown)


def make_link(file: str) -> str:
    """The address of a file beside the page, whatever bytes are in its name."""
    return quote(os.fsencode(file))


def _build_panel(name: str, found: ImageFeatures, pieces: StudyPictures) -> FeatureMapPanel:
    from PIL import Image

    side = found.model.side_px
    seen = Image.fromarray(found.pixels)
    seen.thumbnail((_INPUT_PX, _INPUT_PX), Image.Resampling.LANCZOS)
    grids = tuple((block, encode_data_url(draw_map_grid(block, _MAP_COLUMNS, _MAP_PX))) for block in found.layers)
    return FeatureMapPanel(
        name, side, encode_data_url(seen), pieces.features[name], make_link(pieces.features[name]), grids
    )


def _build_pair_cards(study: StudyResult, images: Sequence[StudyPicture], pieces: StudyPictures) -> list[PairCard]:
    lines = []
    for pair in islice(study.comparison.iterate_pairs(), MAX_LISTED_PAIRS):
        at = (pair.first, pair.second)
        softmax = {name: float(found.similarities[at]) for name, found in study.classifications.items()}
        links = {name: make_link(file) for name, file in pieces.pairs.get(at, {}).items()}
        lines.append(PairCard(images[pair.first], images[pair.second], pair.similarities, softmax, links))
    return lines


def _build_pair_grids(study: StudyResult) -> list[SimilarityGrid]:
    """Where pairs are many, all of them in one table a model."""
    if len(study.comparison.paths) <= MAX_IMAGES_WITHOUT_HEAT_MAP:
        return []
    return [_build_grid(name, matrix) for name, matrix in study.comparison.similarities.items()]


def _build_grid(name: str, matrix: NDArray[np.float64]) -> SimilarityGrid:
    low = min(0.0, float(matrix.min()))
    strengths = np.round(100 * (matrix - low) / ((1 - low) or 1)).astype(int)
    pairs = (zip(values, shades, strict=True) for values, shades in zip(matrix, strengths, strict=True))
    return SimilarityGrid(name, tuple(tuple((float(value), int(shade)) for value, shade in row) for row in pairs))


def _build_strips(
    study: StudyResult, images: Sequence[StudyPicture], folder: Path, pieces: StudyPictures
) -> list[ViewStrip]:
    augmented = study.augmented
    if augmented is None:
        return []
    strips = []
    for at, image in enumerate(images):
        card = partial(_build_view_card, augmented, images, at)
        files = pieces.views[at][:MAX_VIEWS]
        cards = tuple(card(number, file, folder) for number, file in enumerate(files, start=1))
        own = {name: augmented.select_own(name)[at] for name in study.comparison.models}
        ranges = {name: (float(of.min()), float(of.mean()), float(of.max())) for name, of in own.items()}
        strips.append(ViewStrip(image, cards, augmented.augmentation.n_views, ranges))
    return strips


def _build_view_card(
    augmented: AugmentedSimilarities, images: Sequence[StudyPicture], at: int, number: int, file: str, folder: Path
) -> ViewCard:
    own, nearer = {}, {}
    for name, every in augmented.similarities.items():
        values = every[at, number - 1]
        own[name] = float(values[at])
        others = np.where(augmented.is_other()[at], values, -np.inf)
        if others.max() >= values[at]:
            nearer[name] = images[int(others.argmax())].name
    done = augmented.transformations[at][number - 1].describe()
    return ViewCard(number, make_thumbnail(str(folder / file), _VIEW_PX), make_link(file), done, own, nearer)


def _build_view_grids(study: StudyResult) -> list[SimilarityGrid]:
    """Of each model the mean similarity of the views of one image (a row) to each image (a column)."""
    if study.augmented is None or len(study.comparison.paths) < 2:
        return []
    return [_build_grid(name, every.mean(axis=1)) for name, every in study.augmented.similarities.items()]


def _build_axis(found: Mapping[str, Separation]) -> list[tuple[float, float]]:
    """Marks of the line all models' dots are on: the value, and its place in percent."""
    if not found:
        return []
    low = _find_axis_start(found)
    steps = np.arange(low, 1.01, 0.2 if 1 - low > 0.5 else 0.1)
    return [(round(float(step), 1), 100 * (float(step) - low) / (1 - low)) for step in steps]


def _find_axis_start(found: Mapping[str, Separation]) -> float:
    """The least similarity, down to a tenth: where the line begins."""
    least = min(float(min(each.own.min(), each.others.min())) for each in found.values())
    return min(0.8, float(np.floor(10 * least) / 10))


def _build_separation_plots(found: Mapping[str, Separation]) -> list[SeparationPlot]:
    if not found:
        return []
    low = _find_axis_start(found)

    def place_dots(values: NDArray[np.float64]) -> tuple[float, ...]:
        shown = np.sort(values.ravel())
        shown = shown[np.linspace(0, len(shown) - 1, min(len(shown), _MAX_DOTS)).round().astype(int)]
        return tuple(round(float(100 * (value - low) / (1 - low)), 2) for value in shown)

    dots = []
    for name, each in found.items():
        means = (place_dots(np.array([values.mean()]))[0] for values in (each.own, each.others))
        dots.append(SeparationPlot(name, each, place_dots(each.own), place_dots(each.others), *means))
    return dots
