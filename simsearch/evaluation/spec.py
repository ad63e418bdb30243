"""Specification of a benchmark: images, source of labels, models and methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from simsearch.errors import UsageError
from simsearch.evaluation.label_file import read_label_file
from simsearch.evaluation.labels import (
    LabelGroups,
    RelevanceLists,
    group_by_folder,
    group_by_fours,
    group_by_pattern,
    make_exclusions,
)
from simsearch.evaluation.metric_names import DEFAULT_METRIC
from simsearch.evaluation.protocol import (
    PROTOCOLS,
    Protocol,
    RetrievalTask,
    TaskImage,
    build_label_task,
    build_list_task,
    build_query_folder_task,
)
from simsearch.images.views import Augmentation
from simsearch.ingest.pipeline import Progress
from simsearch.models.choice import BUILTIN, ModelChoice, list_backbones
from simsearch.models.fusion import parse_fusion
from simsearch.models.text.encoder import check_prompts
from simsearch.rerank.method import RerankMethod

_PROTOCOL_OF: Mapping[str, Protocol] = {name: name for name in PROTOCOLS} | {"leave-one-out": "self-excluded"}
"""The protocols by their names; leave-one-out is the name in version 0.1."""

DEFAULT_METHODS = ("none", "pca", "pca+dba", "pca+dba+aqe")
BASELINE = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSource:
    """The source of labels: a pattern, a file or a protocol; else the folders of the images.

    `pattern` is a regular expression on paths, `file` a file of labels or of lists of relevant images, `protocol` one
    of `PROTOCOLS`; `queries` is a folder of query images, which are searched among the images of the source.

    Raises `UsageError` for more than one source of labels, and for an unknown protocol.
    """

    pattern: str | None = None
    file: str | None = None
    queries: str | None = None
    protocol: str = "self-excluded"

    def __post_init__(self) -> None:
        if self.protocol not in _PROTOCOL_OF:
            raise UsageError(f"unknown protocol {self.protocol!r}", f"choose one of {', '.join(PROTOCOLS)}")
        sources = [self.pattern is not None, self.file is not None, self.protocol == "ukbench"]
        if sum(sources) > 1:
            raise UsageError(
                "labels come from more than one option", "give only one of --labels, --group-by and --protocol ukbench"
            )
        if self.protocol == "ukbench" and self.queries is not None:
            raise UsageError("ukbench uses every image as a query", "leave out --queries")

    def forget_contents(self) -> LabelSource:
        """The same labels for files whose contents are not known: a query is not found among the searched images."""
        return replace(self, protocol="ukbench" if self.protocol == "ukbench" else "self-excluded")

    def build_task(
        self,
        images: Sequence[TaskImage],
        source: str,
        *,
        query_images: Sequence[TaskImage] = (),
        unreadable: Sequence[str] = (),
    ) -> RetrievalTask:
        """Build the retrieval task of those images; `query_images` are those of the folder `queries`, if given.

        `unreadable` are further files of the source that are not in the task; UKBench counts them when it forms groups
        of four. Raises `UsageError` where the labels allow no measurement.
        """
        files = _list_paths(images)
        if self.protocol == "ukbench":
            labels: LabelGroups | RelevanceLists = group_by_fours([*files, *unreadable])
        else:
            labels = self._find_labels(files, source)
        if self.queries is None:
            if isinstance(labels, RelevanceLists):
                return build_list_task(images, labels, _PROTOCOL_OF[self.protocol])
            return self._build_group_task(images, labels)
        if isinstance(labels, RelevanceLists):
            raise UsageError("the lists in --labels already contain the queries", "leave out --queries")
        query_labels = self._find_labels(_list_paths(query_images), self.queries)
        if isinstance(query_labels, RelevanceLists):
            raise UsageError("the lists in --labels already contain the queries", "leave out --queries")
        return build_query_folder_task(query_images, query_labels, images, labels, _PROTOCOL_OF[self.protocol])

    def _build_group_task(self, images: Sequence[TaskImage], labels: LabelGroups) -> RetrievalTask:
        """Build the task of labels, which may say which images are queries and which are searched."""
        protocol = _PROTOCOL_OF[self.protocol]
        if labels.queries is None or labels.database is None:
            return build_label_task(images, labels, protocol)
        asking, searched = (
            [image for image in images if not names.isdisjoint(image.paths)]
            for names in (labels.queries, labels.database)
        )
        used = {image.digest for image in (*asking, *searched)}
        rule = "images that the table names neither as query nor as gallery are ignored"
        unused = make_exclusions(rule, [image.paths[0] for image in images if image.digest not in used])
        labels = replace(labels, exclusions=(*labels.exclusions, *unused))
        if asking == searched:
            return build_label_task(searched, labels, protocol)
        query_labels = replace(labels, exclusions=())
        task = build_query_folder_task(asking, query_labels, searched, labels, protocol)
        return replace(task, kind="a table names the queries")

    def _find_labels(self, files: Sequence[str], source: str) -> LabelGroups | RelevanceLists:
        if self.pattern is not None:
            return group_by_pattern(files, source, self.pattern)
        if self.file is not None:
            return read_label_file(self.file, files, source)
        return group_by_folder(files, source)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkSpec:
    """A complete benchmark: every model is measured with every number of augmented views and every method.

    `n_queries` is the size of a sample of the queries, None for all; `n_robustness` is the number of images for the
    robustness test (0: no test). `metrics` are keys of metrics beside the standard ones; by the first, else by mAP,
    rows are ranked and compared. `text` are the texts of text-to-image retrieval: `labels`, or a CSV file with the
    columns text and path; None: none. `prompts` are templates for them. `fuses` tries every pair of the models as one.
    `trec_folder` receives qrels and a run of `trec_depth` ranks (0: all) for each row in the forms of TREC; None:
    nowhere. `probe_s` is about how many seconds each measurement of speed takes.
    """

    source: str
    collection_folder: str
    choices: tuple[ModelChoice, ...]
    label_source: LabelSource = field(default_factory=LabelSource)
    view_counts: tuple[int, ...] = (0,)
    methods: tuple[RerankMethod, ...] = (RerankMethod(),)
    n_queries: int | None = None
    n_robustness: int = 100
    metrics: tuple[str, ...] = ()
    text: str | None = None
    prompts: tuple[str, ...] = ()
    trec_folder: str | None = None
    fuses: bool = False
    trec_depth: int = 1000
    seed: int = 0
    max_pixels: int | None = None
    probe_s: float = 2.0
    command: str = ""

    @property
    def main_metric(self) -> str:
        """The metric by which rows are ranked and compared."""
        return self.metrics[0] if self.metrics else DEFAULT_METRIC

    def __post_init__(self) -> None:
        for option, number, least in (
            ("--sample", self.n_queries, 1),
            ("--robustness", self.n_robustness, 0),
            ("--trec-depth", self.trec_depth, 0),
        ):
            if number is not None and number < least:
                raise UsageError(f"{option} is {number}", f"give {least} or more")
        if not self.probe_s > 0:
            raise UsageError(f"probe_s is {self.probe_s}", "give more than 0")
        check_prompts(self.prompts)
        for count in self.view_counts:
            Augmentation(count)  # raises UsageError for a number out of range


@dataclass(frozen=True, slots=True)
class BenchmarkCallbacks:
    """Callbacks for progress: the name of each stage, and the progress of each ingest."""

    on_stage: Callable[[str], None] = lambda _: None
    on_ingest: Callable[[Progress], None] = lambda _: None


def list_default_backbones() -> tuple[str, ...]:
    """List the baseline, the built-in backbone, and all networks whose weights are on this machine."""
    return (BASELINE, BUILTIN, *(row.name for row in list_backbones() if row.weights_path and row.name != BUILTIN))


def combine_choices(
    backbones: Sequence[str], precisions: Sequence[str], layers: Sequence[str | None], poolings: Sequence[str | None],
    *, weights: str | None, offline: bool,
) -> tuple[ModelChoice, ...]:  # fmt: skip
    """Make a model choice for each combination; backbones without layers and pooling are combined with precisions only.

    Raises `UsageError`.
    """
    if weights is not None and len(backbones) > 1:
        raise UsageError("--weights is for one backbone", "put the files into a folder and name it $SIMSEARCH_WEIGHTS")
    for pooling in poolings:
        ModelChoice.from_options(pooling=pooling)  # also checked where no backbone uses it
    return tuple(
        dict.fromkeys(
            ModelChoice.from_options(
                backbone=backbone, precision=precision, weights=weights, offline=offline,
                layer=layer if _has_layers(backbone) else None,
                pooling=pooling if _has_layers(backbone) else None,
            )
            for backbone, precision, layer, pooling in product(backbones, precisions, layers, poolings)
        )
    )  # fmt: skip


def _has_layers(backbone: str) -> bool:
    """Whether layers and poolings can be chosen: not for fused models and those that are included."""
    return backbone not in (BUILTIN, BASELINE) and parse_fusion(backbone) is None


def _list_paths(images: Sequence[TaskImage]) -> list[str]:
    return [path for image in images for path in image.paths]
