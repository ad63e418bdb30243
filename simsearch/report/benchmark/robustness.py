"""The robustness results as a table: a row for each change of the image, a column for each model and measure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simsearch.evaluation.results import BenchmarkResult, RobustnessResult
from simsearch.text import clean_text

ImageChange = tuple[str, str]
"""A kind of change and its strength."""


_CHANGES = {
    "rotation": "turned by {}",
    "shear": "slanted by {}",
    "shift": "moved right and down by {}",
    "zoom in": "enlarged {}, edges cut off",
    "brightness": "brightness {} of 255",
    "flip": "mirrored",
    "all at once": "all of these a little, at random",
}


def describe_change(change: ImageChange) -> str:
    """Describe a change of an image in plain words, such as `turned by 10°`."""
    kind, strength = change
    return _CHANGES.get(kind, f"{kind} {strength}").format(strength.replace(" deg", "°").replace("-", "\N{MINUS SIGN}"))


@dataclass(frozen=True, slots=True)
class RobustnessColumn:
    """A measure of a model: similarity if `views` is None, else the share that is found first (hit@1) with that many
    augmented views per image.
    """

    model: str
    views: int | None

    @property
    def title(self) -> str:
        """The name of the measure, without the model."""
        if self.views is None:
            return "similarity to the original"
        return f"found first, {self.views} augmented views in the index" if self.views else "found first"


@dataclass(frozen=True, slots=True)
class RobustnessGrid:
    """The results by change and column; `names` are the display names of the models, in order."""

    changes: tuple[ImageChange, ...]
    columns: tuple[RobustnessColumn, ...]
    names: dict[str, str]
    cells: dict[tuple[str, str, str], RobustnessResult]

    def find_value(self, change: ImageChange, column: RobustnessColumn) -> float:
        """Find the value of a cell, in [-1, 1]; NaN where nothing was measured."""
        result = self.cells.get((column.model, *change))
        if result is None:
            return math.nan
        return result.similarity if column.views is None else result.hit_at_1.get(column.views, math.nan)

    def list_columns(self, model: str) -> tuple[RobustnessColumn, ...]:
        """List the columns of a model."""
        return tuple(column for column in self.columns if column.model == model)


def build_robustness_grid(benchmark: BenchmarkResult) -> RobustnessGrid:
    """Build the table; changes and models are in the order of measurement."""
    results = benchmark.robustness
    views: dict[str, set[int]] = {}
    for result in results:
        views.setdefault(result.model, set()).update(result.hit_at_1)
    columns = [RobustnessColumn(model, count) for model, counts in views.items() for count in (None, *sorted(counts))]
    changes = dict.fromkeys((result.kind, result.strength) for result in results)
    cells = {(result.model, result.kind, result.strength): result for result in results}
    return RobustnessGrid(tuple(changes), tuple(columns), name_models(benchmark, list(views)), cells)


def name_models(benchmark: BenchmarkResult, models: list[str]) -> dict[str, str]:
    """Name models by backbone, and by precision too where a backbone has several."""
    rows = {row.model: row for row in benchmark.rows}
    backbones = [row.backbone for row in rows.values()]
    names = {}
    for model in models:
        row = rows.get(model)
        several = row is not None and backbones.count(row.backbone) > 1
        name = model if row is None else f"{row.backbone} {row.precision}" if several else row.backbone
        names[model] = clean_text(name)
    return names
