"""What a benchmark is asked: of which pictures, by which labels, and what is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

from simsearch.errors import UsageError
from simsearch.evaluation.label_file import read_label_file
from simsearch.evaluation.labels import LabelGroups, RelevanceLists, group_by_folder, group_by_fours, group_by_pattern
from simsearch.evaluation.protocol import (
    RetrievalTask,
    TaskImage,
    build_leave_one_out_task,
    build_list_task,
    build_query_folder_task,
)
from simsearch.images.views import Augmentation
from simsearch.ingest.pipeline import Progress
from simsearch.models.choice import BUILTIN, ModelChoice, list_backbones
from simsearch.rerank.method import RerankMethod

__all__ = [
    "BenchmarkCallbacks",
    "BenchmarkSpec",
    "LabelSource",
    "RerankMethod",
    "combine_choices",
    "list_default_backbones",
]

PROTOCOLS = ("leave-one-out", "ukbench")
DEFAULT_METHODS = ("none", "pca", "pca+dba", "pca+dba+aqe")
BASELINE = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSource:
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

    def build_task(
        self,
        items: Sequence[TaskImage],
        source: str,
        *,
        query_images: Sequence[TaskImage] = (),
        broken: Sequence[str] = (),
    ) -> RetrievalTask:
        """The task of those images; `asked` are those of the folder of queries, where there is one.

        `broken` are pictures of the source that take no part; in UKBench they keep their place among the fours.
        Raises `UsageError` where nothing can be measured.
        """
        files = _list_paths(items)
        labels = group_by_fours([*files, *broken]) if self.protocol == "ukbench" else self._find_labels(files, source)
        if self.queries is None:
            return (
                build_list_task(items, labels)
                if isinstance(labels, RelevanceLists)
                else build_leave_one_out_task(items, labels, self.protocol)
            )
        own = (
            labels if isinstance(labels, RelevanceLists) else self._find_labels(_list_paths(query_images), self.queries)
        )
        if isinstance(labels, RelevanceLists) or isinstance(own, RelevanceLists):
            raise UsageError("the lists name their queries themselves", "leave out --queries")
        return build_query_folder_task(query_images, own, items, labels)

    def _find_labels(self, files: Sequence[str], source: str) -> LabelGroups | RelevanceLists:
        if self.pattern is not None:
            return group_by_pattern(files, source, self.pattern)
        if self.file is not None:
            return read_label_file(self.file, files, source)
        return group_by_folder(files, source)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkSpec:
    """A whole benchmark. Every model is measured with every number of augmented views and every method.

    `n_queries` None asks with all; `n_robustness` images are changed in every way (0: that part is left out).
    """

    source: str
    collection_folder: str
    choices: tuple[ModelChoice, ...]
    label_source: LabelSource = field(default_factory=LabelSource)
    view_counts: tuple[int, ...] = (0,)
    methods: tuple[RerankMethod, ...] = (RerankMethod(),)
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
class BenchmarkCallbacks:
    """Whom to tell how far it is: what is being done, and how an ingest goes on."""

    on_stage: Callable[[str], None] = lambda _: None
    on_ingest: Callable[[Progress], None] = lambda _: None


def list_default_backbones() -> tuple[str, ...]:
    """The baseline, the one that ships with the package, and every network whose weights are here."""
    return (BASELINE, BUILTIN, *(row.name for row in list_backbones() if row.weights_path and row.layer))


def combine_choices(
    backbones: Sequence[str], precisions: Sequence[str], layers: Sequence[str | None], poolings: Sequence[str | None],
    *, weights: str | None, offline: bool,
) -> tuple[ModelChoice, ...]:  # fmt: skip
    """A choice for each combination. A backbone that is complete as it is has one for each precision only.

    Raises `UsageError`.
    """
    if weights is not None and len(backbones) > 1:
        raise UsageError("--weights is for one backbone", "put the files into a folder and name it $SIMSEARCH_WEIGHTS")
    for pooling in poolings:
        ModelChoice.from_options(pooling=pooling)  # also where no backbone takes it
    return tuple(
        dict.fromkeys(
            ModelChoice.from_options(
                backbone=backbone, precision=precision, weights=weights, offline=offline,
                layer=None if backbone in (BUILTIN, BASELINE) else layer,
                pooling=None if backbone in (BUILTIN, BASELINE) else pooling,
            )
            for backbone, precision, layer, pooling in product(backbones, precisions, layers, poolings)
        )
    )  # fmt: skip


def _list_paths(items: Sequence[TaskImage]) -> list[str]:
    return [path for item in items for path in item.paths]
