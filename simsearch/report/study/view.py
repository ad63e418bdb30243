"""The view model of a study page: images, feature maps, pairs, augmented views and separation plots."""

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
from PIL import Image

from simsearch.images.thumbnails import encode_data_url, make_thumbnail
from simsearch.report.drawing.comparison import MAX_IMAGES_WITHOUT_HEAT_MAP
from simsearch.report.drawing.feature_maps import draw_map_grid
from simsearch.report.study.findings import name_images
from simsearch.study.augmented import AugmentedSimilarities, Separation
from simsearch.study.features import ImageFeatures, LayerFeatures
from simsearch.study.study import StudyPictures, StudyResult

MAX_LISTED_PAIRS = 30
"""The page shows the first pairs; the tables and study.json have all."""

MAX_VIEWS = 20
"""The page shows the first views of an image; study.json has all."""

_PICTURE_PX, _VIEW_PX, _INPUT_PX = 480, 150, 224
_MAP_COLUMNS, _MAP_PX = 4, 54
_MAX_DOTS = 240
_MAX_COLORS = 7


@dataclass(frozen=True, slots=True)
class StudyPicture:
    """An image of the page; `data` is a data URL, None where the file cannot be read."""

    name: str
    path: str
    data: str | None


@dataclass(frozen=True, slots=True)
class FeatureMapPanel:
    """The feature maps of one network.

    `input_image` is the resized input as a data URL, `file` the drawing of all maps and `link` its URL. `layers` have
    their first maps as a data URL.
    """

    name: str
    side_px: int
    input_image: str
    file: str
    link: str
    layers: tuple[tuple[LayerFeatures, str], ...]


@dataclass(frozen=True, slots=True)
class PairCard:
    """Two images with their similarities by model name: of features, and of softmax outputs if any."""

    first: StudyPicture
    second: StudyPicture
    similarities: Mapping[str, float]
    softmax: Mapping[str, float]
    links: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ViewCard:
    """An augmented view with its similarity to its own image by model name.

    `nearer_images` names, for the models under which another image is at least as similar, the most similar one.
    """

    number: int
    data: str | None
    link: str
    transformation: str
    own: Mapping[str, float]
    nearer_images: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ViewStrip:
    """The views of an image; `ranges` are the lowest, mean and highest similarity to it by model name."""

    image: StudyPicture
    cards: tuple[ViewCard, ...]
    n_views: int
    ranges: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class SimilarityGrid:
    """The similarities of all images under one model, each with the strength of its color in percent."""

    name: str
    rows: tuple[tuple[tuple[float, int], ...], ...]


@dataclass(frozen=True, slots=True)
class SeparationPlot:
    """The similarities of views as positions on an axis, in percent of its length.

    `own` are similarities to the view's own image, `others` to other images.
    """

    name: str
    separation: Separation
    own: tuple[float, ...]
    others: tuple[float, ...]
    own_mean: float
    others_mean: float


@dataclass(frozen=True, slots=True)
class StudyProvenance:
    """The command, the machine and the time of a study; the field names are keys of study.json."""

    command: str
    machine: str
    versions: Mapping[str, str]
    made_at: str


@dataclass(frozen=True, slots=True)
class StudyTitle:
    """The title of the page: a question, the names of the first images, and the number of the other images."""

    question: str
    names: tuple[str, ...]
    n_more: int


@dataclass(frozen=True, slots=True)
class StudyView:
    """What the template of a study shows.

    `series` numbers the colors of the models. `axis` has the marks of all separation plots: value, and position in
    percent.
    """

    study: StudyResult
    provenance: StudyProvenance
    title: StudyTitle
    summary: tuple[str, ...]
    images: tuple[StudyPicture, ...]
    series: Mapping[str, int]
    panels: tuple[FeatureMapPanel, ...]
    pairs: tuple[PairCard, ...]
    pair_grids: tuple[SimilarityGrid, ...]
    strips: tuple[ViewStrip, ...]
    view_grids: tuple[SimilarityGrid, ...]
    separation_plots: tuple[SeparationPlot, ...]
    axis: tuple[tuple[float, float], ...]


def build_view(
    study: StudyResult, folder: Path, pictures: StudyPictures, provenance: StudyProvenance, summary: tuple[str, ...]
) -> StudyView:
    """Build the view model; the files of `pictures` are in `folder`."""
    comparison = study.comparison
    names = name_images(comparison.paths)
    images = tuple(
        StudyPicture(name, path, make_thumbnail(path, _PICTURE_PX))
        for name, path in zip(names, comparison.paths, strict=True)
    )
    return StudyView(
        study=study,
        provenance=provenance,
        title=_build_title(names),
        summary=summary,
        images=images,
        series={name: min(number, _MAX_COLORS) for number, name in enumerate(comparison.models)},
        panels=tuple(_build_panel(name, found, pictures) for name, found in study.features.items()),
        pairs=tuple(_build_pair_cards(study, images, pictures)),
        pair_grids=tuple(_build_pair_grids(study)),
        strips=tuple(_build_strips(study, images, folder, pictures)),
        view_grids=tuple(_build_view_grids(study)),
        separation_plots=tuple(_build_separation_plots(study.separations)),
        axis=tuple(_build_axis(study.separations)),
    )


def _build_title(names: Sequence[str]) -> StudyTitle:
    shown = tuple(names) if len(names) < 4 else tuple(names[:2])
    question = "How similar are" if len(names) > 1 else "What do networks see in"
    return StudyTitle(question, shown, len(names) - len(shown))


def make_link(file: str) -> str:
    """Build the relative URL of a file, with any bytes in its name."""
    return quote(os.fsencode(file))


def _build_panel(name: str, found: ImageFeatures, pictures: StudyPictures) -> FeatureMapPanel:
    side = found.model.side_px
    input_image = Image.fromarray(found.pixels)
    input_image.thumbnail((_INPUT_PX, _INPUT_PX), Image.Resampling.LANCZOS)
    grids = tuple((layer, encode_data_url(draw_map_grid(layer, _MAP_COLUMNS, _MAP_PX))) for layer in found.layers)
    return FeatureMapPanel(
        name, side, encode_data_url(input_image), pictures.features[name], make_link(pictures.features[name]), grids
    )


def _build_pair_cards(study: StudyResult, images: Sequence[StudyPicture], pictures: StudyPictures) -> list[PairCard]:
    cards = []
    for pair in islice(study.comparison.iterate_pairs(), MAX_LISTED_PAIRS):
        at = (pair.first, pair.second)
        softmax = {name: float(found.similarities[at]) for name, found in study.classifications.items()}
        links = {name: make_link(file) for name, file in pictures.pairs.get(at, {}).items()}
        cards.append(PairCard(images[pair.first], images[pair.second], pair.similarities, softmax, links))
    return cards


def _build_pair_grids(study: StudyResult) -> list[SimilarityGrid]:
    """Build a table of all pairs for each model, where there are too many pairs to show as cards."""
    if len(study.comparison.paths) <= MAX_IMAGES_WITHOUT_HEAT_MAP:
        return []
    return [_build_grid(name, matrix) for name, matrix in study.comparison.similarities.items()]


def _build_grid(name: str, matrix: NDArray[np.float64]) -> SimilarityGrid:
    low = min(0.0, float(matrix.min()))
    strengths = np.round(100 * (matrix - low) / ((1 - low) or 1)).astype(int)
    pairs = (zip(values, shades, strict=True) for values, shades in zip(matrix, strengths, strict=True))
    return SimilarityGrid(name, tuple(tuple((float(value), int(shade)) for value, shade in row) for row in pairs))


def _build_strips(
    study: StudyResult, images: Sequence[StudyPicture], folder: Path, pictures: StudyPictures
) -> list[ViewStrip]:
    augmented = study.augmented
    if augmented is None:
        return []
    strips = []
    for at, image in enumerate(images):
        card = partial(_build_view_card, augmented, images, at)
        files = pictures.views[at][:MAX_VIEWS]
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
    transformation = augmented.transformations[at][number - 1].describe()
    return ViewCard(number, make_thumbnail(str(folder / file), _VIEW_PX), make_link(file), transformation, own, nearer)


def _build_view_grids(study: StudyResult) -> list[SimilarityGrid]:
    """Build, for each model, the mean similarity of the views of an image (row) to each image (column)."""
    if study.augmented is None or len(study.comparison.paths) < 2:
        return []
    return [_build_grid(name, every.mean(axis=1)) for name, every in study.augmented.similarities.items()]


def _build_axis(found: Mapping[str, Separation]) -> list[tuple[float, float]]:
    """Build the marks of the common axis: value, and position in percent."""
    if not found:
        return []
    low = _find_axis_start(found)
    steps = np.arange(low, 1.01, 0.2 if 1 - low > 0.5 else 0.1)
    return [(round(float(step), 1), 100 * (float(step) - low) / (1 - low)) for step in steps]


def _find_axis_start(found: Mapping[str, Separation]) -> float:
    """Find where the axis begins: the lowest similarity, rounded down to a tenth, 0.8 at most."""
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

    plots = []
    for name, each in found.items():
        means = (place_dots(np.array([values.mean()]))[0] for values in (each.own, each.others))
        plots.append(SeparationPlot(name, each, place_dots(each.own), place_dots(each.others), *means))
    return plots
