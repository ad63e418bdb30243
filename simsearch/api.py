"""The functions that the package exports: each does one task, without a `Collection` that the caller must open."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simsearch.collection import Collection
from simsearch.errors import UsageError, use_python_terms
from simsearch.images.views import ViewChoice
from simsearch.models.choice import ModelChoice
from simsearch.search.inputs import ExampleInput
from simsearch.search.picture_embedder import PictureEmbedder
from simsearch.sources.addresses import Paths

if TYPE_CHECKING:
    from simsearch.duplicates.options import DuplicateOptions
    from simsearch.duplicates.results import DuplicateReport
    from simsearch.evaluation.results import BenchmarkResult
    from simsearch.evaluation.spec import LabelSource
    from simsearch.ingest.pipeline import Progress

Backbones = ModelChoice | str | Iterable[ModelChoice | str]
"""One backbone, or several."""


def open_collection(folder: str | os.PathLike[str], *, create: bool = False) -> Collection:
    """Open the collection in a folder: the same as `Collection.open`, which has more options.

    Raises `CollectionNotFound`, `CollectionTooNew` or `CollectionDamaged`.
    """
    return Collection.open(folder, create=create)


def index_images(
    sources: Paths,
    into: str | os.PathLike[str],
    backbone: ModelChoice | str | None = None,
    *,
    augment: ViewChoice | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Collection:
    """Index pictures into the collection in the folder `into`, and return it, open.

    The collection is created where it does not exist, else brought up to date with the sources: folders, files, or
    addresses. Files that could not be read are in `collection.info().skips`. `Collection.ingest` has more options and
    returns a report. Raises what `Collection.ingest` raises.
    """
    collection = Collection.open(into, create=True)
    try:
        collection.ingest(sources, backbone, augment=augment, progress=progress)
    except BaseException:
        collection.close()
        raise
    return collection


def embed(
    images: ExampleInput, backbone: ModelChoice | str | None = None, *, max_pixels: int | None = None
) -> NDArray[np.float32]:
    """Embed pictures with a backbone: (n, d) float32 unit rows; (d,) of a picture that is in no list.

    The network is loaded for this call: to embed many times, keep an `Embedder`. Raises what `Embedder.embed` raises.
    """
    return PictureEmbedder(backbone, max_pixels=max_pixels).embed(images)


def find_duplicates(
    pictures: Collection | Paths,
    options: DuplicateOptions | None = None,
    *,
    backbone: ModelChoice | str | None = None,
    into: str | os.PathLike[str] | None = None,
    progress: Callable[[str, float], None] = lambda _stage, _share: None,
) -> DuplicateReport:
    """Find exact and edited copies among the pictures of a collection, or of folders and files. Deletes nothing.

    Folders and files are indexed into the collection in `into`, which makes the next call fast; without it into a
    temporary one. Raises what `Collection.ingest` and `Collection.duplicates` raise.
    """
    if isinstance(pictures, Collection):
        name = ModelChoice.from_name(backbone).backbone
        return pictures.duplicates(options, backbone=name, progress=progress)
    with _use_folder(into) as folder, index_images(pictures, folder, backbone) as collection:
        return collection.duplicates(options, backbone=ModelChoice.from_name(backbone).backbone, progress=progress)


def benchmark(
    source: Collection | str | os.PathLike[str],
    backbones: Backbones | None = None,
    *,
    labels: LabelSource | str | os.PathLike[str] | None = None,
    rerank: str | Iterable[str] = "none",
    into: str | os.PathLike[str] | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> BenchmarkResult:
    """Measure which backbone retrieves best on the pictures of a folder, by their labels.

    Without `labels` the folder of a picture is its label; a path is a file of labels. `rerank` names one method or
    several. The vectors are kept in the collection in `into`; without it in a temporary one. `options` are further
    fields of `evaluation.spec.BenchmarkSpec`, such as `n_queries` or `n_robustness`; the robustness is not measured by
    default. Without `backbones`: the histogram, the built-in network, and all whose weights are on this machine.

    With a `Collection` as the source its stored vectors are measured, imported ones included, and no picture is read:
    `labels` is then the name of one of the user's own columns, `backbones` name models of the collection, by default
    all, and `options` are fields of `evaluation.stored_benchmark.StoredBenchmarkSpec`, such as `where` and `n_queries`.

    Raises `UsageError`, `SourceError`, `ModelError` or `CollectionError`.
    """
    if isinstance(source, Collection):
        return _benchmark_collection(source, backbones, labels, rerank, on_stage, options)
    from simsearch.evaluation.benchmark import run_benchmark
    from simsearch.evaluation.spec import BenchmarkCallbacks, BenchmarkSpec, LabelSource, list_default_backbones
    from simsearch.rerank.method import RerankMethod

    if backbones is None:
        backbones = list_default_backbones()
    named = [backbones] if isinstance(backbones, ModelChoice | str) else list(backbones)
    methods = [rerank] if isinstance(rerank, str) else list(rerank)
    if labels is None or isinstance(labels, str | os.PathLike):
        labels = LabelSource(file=None if labels is None else os.fspath(labels))
    with use_python_terms(), _use_folder(into) as folder:
        spec = BenchmarkSpec(
            source=os.fspath(source), collection_folder=str(folder),
            choices=tuple(ModelChoice.from_name(one) for one in named), label_source=labels,
            methods=tuple(RerankMethod.parse(method) for method in methods), **({"n_robustness": 0} | options),
        )  # fmt: skip
        return run_benchmark(spec, BenchmarkCallbacks(on_stage=on_stage))


def _benchmark_collection(
    collection: Collection, backbones: Backbones | None, labels: object, rerank: str | Iterable[str],
    on_stage: Callable[[str], None], options: dict[str, Any],
) -> BenchmarkResult:  # fmt: skip
    from simsearch.evaluation.stored_benchmark import StoredBenchmarkSpec, run_stored_benchmark
    from simsearch.rerank.method import RerankMethod

    with use_python_terms():
        if not isinstance(labels, str):
            raise UsageError("a benchmark of a collection needs labels", "name one of its columns: labels='label'")
        named = [backbones] if isinstance(backbones, ModelChoice | str) else list(backbones or ())
        names = tuple(filter(None, (ModelChoice.from_name(one).backbone for one in named)))
        methods = tuple(map(RerankMethod.parse, [rerank] if isinstance(rerank, str) else rerank))
        spec = StoredBenchmarkSpec(folder=collection.folder, column=labels, backbones=names, methods=methods, **options)
        models = [collection.model(name) for name in names] or collection.list_models()
        return run_stored_benchmark(spec, models, on_stage)


@contextlib.contextmanager
def _use_folder(into: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The folder of a collection: the one that is named, or one that is deleted afterwards."""
    if into is not None:
        yield Path(into)
        return
    with tempfile.TemporaryDirectory(prefix="simsearch-") as folder:
        yield Path(folder) / "collection"
