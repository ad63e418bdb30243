"""The robustness results as a grid: changes of the picture downwards, models and measures across."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simsearch.evaluation.results import BenchmarkResult, RobustnessResult
from simsearch.text import clean_text

ImageChange = tuple[str, str]
"""A kind of change and its strength."""


@dataclass(frozen=True, slots=True)
class RobustnessColumn:
    """A measure of a model: similarity where `views` is None, else hit@1 with that many views of every image."""

    model: str
    views: int | None

    @property
    def title(self) -> str:
        """The measure, without the model."""
        if self.views is None:
            return "similarity"
        return f"hit@1, {self.views or 'no'} views"


@dataclass(frozen=True, slots=True)
class RobustnessGrid:
    """Values by change and column, NaN where nothing was measured; `names` are what to call the models, in order."""

    changes: tuple[ImageChange, ...]
    columns: tuple[RobustnessColumn, ...]
    names: dict[str, str]
    cells: dict[tuple[str, str, str], RobustnessResult]

    def find_value(self, change: ImageChange, column: RobustnessColumn) -> float:
        """A cell, in [-1, 1]."""
        found = self.cells.get((column.model, *change))
        if found is None:
            return math.nan
        return found.similarity if column.views is None else found.hit_at_1.get(column.views, math.nan)

    def list_columns(self, model: str) -> tuple[RobustnessColumn, ...]:
        """The columns of a model."""
        return tuple(column for column in self.columns if column.model == model)


def build_robustness_grid(benchmark: BenchmarkResult) -> RobustnessGrid:
    """The grid; changes and models in the order in which they were measured."""
    found = benchmark.robustness
    views: dict[str, set[int]] = {}
    for one in found:
        views.setdefault(one.model, set()).update(one.hit_at_1)
    columns = [RobustnessColumn(model, count) for model, counts in views.items() for count in (None, *sorted(counts))]
    changes = dict.fromkeys((one.kind, one.strength) for one in found)
    cells = {(one.model, one.kind, one.strength): one for one in found}
    return RobustnessGrid(tuple(changes), tuple(columns), _name_models(benchmark, list(views)), cells)


def _name_models(benchmark: BenchmarkResult, models: list[str]) -> dict[str, str]:
    """Models by their backbone, and by their precision, too, where a backbone has several."""
    rows = {row.model: row for row in benchmark.rows}
    backbones = [row.backbone for row in rows.values()]
    names = {}
    for model in models:
        row = rows.get(model)
        several = row is not None and backbones.count(row.backbone) > 1
        name = model if row is None else f"{row.backbone} {row.precision}" if several else row.backbone
        names[model] = clean_text(name)
    return names
