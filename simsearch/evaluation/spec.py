"""What a benchmark is asked: of which pictures, by which labels, and what is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

from simsearch.collection import Progress
from simsearch.errors import UsageError
from simsearch.evaluation.label_file import from_file
from simsearch.evaluation.labels import Groups, Lists, by_folder, by_fours, by_pattern
from simsearch.evaluation.protocol import Item, Task, leave_one_out, listed, query_against_database
from simsearch.images.views import Augmentation
from simsearch.models.choice import BUILTIN, ModelChoice, list_backbones
from simsearch.rerank.method import Method

__all__ = ["Method", "Question", "Truths", "Watching", "combinations", "default_backbones"]

PROTOCOLS = ("leave-one-out", "ukbench")
DEFAULT_METHODS = ("none", "pca", "pca+dba", "pca+dba+aqe")
BASELINE = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Truths:
    """Where labels come from: folders, unless one of these says otherwise.

    `pattern` is a regular expression on paths, `file` names labels or lists of answers, `protocol` one of
    `PROTOCOLS`; `queries` is a folder of pictures to ask with, among those of the source.

    Raises `UsageError` when more than one is named, or there is no such protocol.
    """

    pattern: str | None = None
    file: str | None = None
    queries: str | None = None
    protocol: str = PROTOCOLS[0]

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise UsageError(f"there is no protocol {self.protocol!r}", f"choose one of {', '.join(PROTOCOLS)}")
        sources = [self.pattern is not None, self.file is not None, self.protocol == "ukbench"]
        if sum(sources) > 1:
            raise UsageError(
                "labels come from one place", "name one of --labels, --group-by and --protocol ukbench, not several"
            )
        if self.protocol == "ukbench" and self.queries is not None:
            raise UsageError("ukbench asks with every picture", "leave out --queries")

    def task(
        self, items: Sequence[Item], source: str, *, asked: Sequence[Item] = (), broken: Sequence[str] = ()
    ) -> Task:
        """The task of those images; `asked` are those of the folder of queries, where there is one.

        `broken` are pictures of the source that take no part; in UKBench they keep their place among the fours.
        Raises `UsageError` where nothing can be measured.
        """
        files = _paths(items)
        labels = by_fours([*files, *broken]) if self.protocol == "ukbench" else self._labels(files, source)
        if self.queries is None:
            return listed(items, labels) if isinstance(labels, Lists) else leave_one_out(items, labels, self.protocol)
        own = labels if isinstance(labels, Lists) else self._labels(_paths(asked), self.queries)
        if isinstance(labels, Lists) or isinstance(own, Lists):
            raise UsageError("the lists name their queries themselves", "leave out --queries")
        return query_against_database(asked, own, items, labels)

    def _labels(self, files: Sequence[str], source: str) -> Groups | Lists:
        if self.pattern is not None:
            return by_pattern(files, source, self.pattern)
        if self.file is not None:
            return from_file(self.file, files, source)
        return by_folder(files, source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A whole benchmark. Every model is measured with every number of augmented views and every method.

    `n_queries` None asks with all; `n_robustness` images are changed in every way (0: that part is left out).
    """

    source: str
    into: str
    choices: tuple[ModelChoice, ...]
    truths: Truths = field(default_factory=Truths)
    view_counts: tuple[int, ...] = (0,)
    methods: tuple[Method, ...] = (Method(),)
    n_queries: int | None = None
    n_robustness: int = 100
    seed: int = 0
    max_pixels: int | None = None
    command: str = ""

    def __post_init__(self) -> None:
        for what, number, least in (("--sample", self.n_queries, 1), ("--robustness", self.n_robustness, 0)):
            if number is not None and number < least:
                raise UsageError(f"{what} is {number}", f"give {least} or more")
        for count in self.view_counts:
            Augmentation(count)  # refuses a number that cannot be


@dataclass(frozen=True, slots=True)
class Watching:
    """Whom to tell how far it is: what is being done, and how an ingest goes on."""

    on_stage: Callable[[str], None] = lambda _: None
    on_ingest: Callable[[Progress], None] = lambda _: None


def default_backbones() -> tuple[str, ...]:
    """The baseline, the one that ships with the package, and every network whose weights are here."""
    return (BASELINE, BUILTIN, *(row["name"] for row in list_backbones() if row["weights_path"] and row["layer"]))


def combinations(
    backbones: Sequence[str], precisions: Sequence[str], layers: Sequence[str | None], poolings: Sequence[str | None],
    *, weights: str | None, offline: bool,
) -> tuple[ModelChoice, ...]:  # fmt: skip
    """A choice for each combination. A backbone that is complete as it is has one for each precision only.

    Raises `UsageError`.
    """
    if weights is not None and len(backbones) > 1:
        raise UsageError("--weights is for one backbone", "put the files into a folder and name it $SIMSEARCH_WEIGHTS")
    for pooling in poolings:
        ModelChoice.checked(pooling=pooling)  # also where no backbone takes it
    return tuple(
        dict.fromkeys(
            ModelChoice.checked(
                backbone=backbone, precision=precision, weights=weights, offline=offline,
                layer=None if backbone in (BUILTIN, BASELINE) else layer,
                pooling=None if backbone in (BUILTIN, BASELINE) else pooling,
            )
            for backbone, precision, layer, pooling in product(backbones, precisions, layers, poolings)
        )
    )  # fmt: skip


def _paths(items: Sequence[Item]) -> list[str]:
    return [path for item in items for path in item.paths]
