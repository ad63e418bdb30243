"""`Collection`, the library's main class: indexing, searching and maintaining one folder of vectors."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from simsearch import maintenance
from simsearch.errors import (
    CollectionClosed,
    CollectionNotFound,
    ImageError,
    ModelError,
    ModelNotIndexed,
    NotAPicture,
    SimsearchError,
    UsageError,
    use_python_terms,
)
from simsearch.files import check_is_no_input, make_overwrite_error
from simsearch.images.decode import Pixels, compute_default_max_pixels
from simsearch.images.views import ViewChoice
from simsearch.index.backends import open_index_backend
from simsearch.index.kinds import IndexKindChoice
from simsearch.index.milvus.config import StoreChoice
from simsearch.index.protocol import IndexBackend
from simsearch.maintenance import CollectionInfo, CollectionSummary, PruneReport, Verification
from simsearch.models.choice import ModelChoice
from simsearch.models.embedder import Embedder
from simsearch.models.text.encoder import TextEncoder
from simsearch.models.weights import WeightsOptions
from simsearch.rerank.method import RerankMethod
from simsearch.search import Answer
from simsearch.search.embed_examples import embed_examples
from simsearch.search.examples import Example, make_text_examples
from simsearch.search.inputs import ExampleInput, make_examples, read_inputs
from simsearch.search.query import Query, SearchOptions
from simsearch.search.query_vectors import (
    ExampleDecoder,
    ReadLimits,
    decode_example_square,
    materialize_example,
    refuse_network,
)
from simsearch.search.reranking import RerankerCache
from simsearch.search.search import SearchTarget, run_query
from simsearch.sources.addresses import Paths, canonicalize_path, is_remote, list_paths
from simsearch.sources.path_filter import PathFilter
from simsearch.sources.scan import Skip, scan_sources
from simsearch.store import settings
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.database import read_again
from simsearch.store.embedders import open_stored_model
from simsearch.store.image_list import ImageList
from simsearch.store.known_sources import find_other_source
from simsearch.store.writer import CatalogWriter

if TYPE_CHECKING:
    from simsearch.duplicates.options import DuplicateOptions
    from simsearch.duplicates.results import DuplicateReport
    from simsearch.index.milvus.migrate import PushReport
    from simsearch.ingest.pipeline import Progress
    from simsearch.ingest.run import IngestOptions, IngestPreview, IngestReport
    from simsearch.ingest.upgrade import UpgradeReport
    from simsearch.interchange.annotations import AnnotationReport
    from simsearch.interchange.exporter import ExportFormat, ExportReport, VectorKind
    from simsearch.interchange.importer import ImportReport
    from simsearch.interchange.label_export import LabelExportReport
    from simsearch.models.text.words import WordEncoder
    from simsearch.quality.results import QualityReport
    from simsearch.search.calibrate import CalibrationOptions
    from simsearch.search.calibration import ProbabilityCalibration
    from simsearch.store.snapshot import StoredImage
    from simsearch.visualization.overview import Clustering, CollectionLayout, ImageSelection


_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def _run_alone(
    method: Callable[Concatenate[Collection, _Parameters], _Result],
) -> Callable[Concatenate[Collection, _Parameters], _Result]:
    """Make a method wait until no other thread runs a method of the same collection.

    It is run again where another process changed, meanwhile, a catalog that is read without locks. An unexpected error
    is raised as `CollectionDamaged` where a value in the catalog is damaged. Messages name parameters and methods.

    Raises `CollectionClosed` after `close`, and what the method raises.
    """

    @functools.wraps(method)
    def run(self: Collection, /, *arguments: _Parameters.args, **options: _Parameters.kwargs) -> _Result:
        with self._lock, use_python_terms():
            if self._is_closed:
                raise CollectionClosed(str(self.folder))
            try:
                return read_again(lambda: method(self, *arguments, **options))
            except SimsearchError:
                raise
            except Exception as error:
                if self._open_catalog is not None:
                    self._open_catalog.blame_damage(error)
                raise

    return run


class Collection:
    """A collection of indexed images in a folder: `catalog.db` and its index files.

    Methods that only read may be called while another process writes; they see its commits at the next call. Methods
    that write hold the collection's lock while they run and raise `CollectionBusy` when another process holds it.

    An instance may be used by several threads: its methods run one after another, each in the thread that calls it.
    To search in parallel, open one `Collection` per thread, with the same `embedders`. `close` waits for no other
    thread, and `catalog` is for one thread at a time.
    """

    def __init__(
        self,
        folder: Path,
        catalog: Catalog | None = None,
        *,
        embedders: MutableMapping[str, Embedder] | None = None,
        text_encoders: MutableMapping[str, TextEncoder] | None = None,
        decode: ExampleDecoder = decode_example_square,
        fuses: bool = True,
    ) -> None:
        """Use `Collection.open`. `catalog` is opened at the first use where it is None."""
        self.folder = folder
        self._lock = threading.RLock()
        self._is_closed = False
        self._open_catalog = catalog
        self._open_indexes: IndexBackend | None = None
        self._open_reranking: RerankerCache | None = None
        self._embedders: MutableMapping[str, Embedder] = {} if embedders is None else embedders
        self._text_encoders: MutableMapping[str, TextEncoder] = {} if text_encoders is None else text_encoders
        self._decode = decode
        self._fuses = fuses

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        create: bool = False,
        embedders: MutableMapping[str, Embedder] | None = None,
        text_encoders: MutableMapping[str, TextEncoder] | None = None,
        decode: ExampleDecoder = decode_example_square,
        fuses: bool = True,
    ) -> Collection:
        """Open the collection in `folder`.

        With `create` the folder may hold no collection yet: `ingest` or `import_embeddings` then makes it, once the
        sources and the model have been checked. `open` itself writes nothing. `embedders` are loaded models by
        fingerprint that queries share with other collections; models that queries load are added to it. `text_encoders`
        are the same for texts. `decode` decodes the pictures of queries, by default in the calling thread. With `fuses`
        a backbone such as `builtin+histogram` is defined when it is first named (see `fuse`).

        Raises `CollectionNotFound`, `CollectionTooNew` or `CollectionDamaged`.
        """
        folder = Path(folder)
        try:
            with use_python_terms():
                catalog = Catalog.open(folder)
        except CollectionNotFound:
            if not create:
                raise
            catalog = None
        return cls(folder, catalog, embedders=embedders, text_encoders=text_encoders, decode=decode, fuses=fuses)

    def close(self) -> None:
        """Close the catalog and the indexes. Methods that are called afterwards raise `CollectionClosed`."""
        self._is_closed = True
        self._close_indexes()
        if self._open_catalog is not None:
            self._open_catalog.close()

    def __enter__(self) -> Collection:
        if self._is_closed:
            raise CollectionClosed(str(self.folder))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        """The folder, and what it holds where that can be read: `Collection('indexes/photos', 120 images, builtin)`."""
        if self._is_closed:
            return f"Collection({str(self.folder)!r}, closed)"
        try:
            names = [stored.model.backbone for stored in self.catalog.list_models()]
            return f"Collection({str(self.folder)!r}, {', '.join([f'{len(self):,} images', *names])})"
        except SimsearchError:
            return f"Collection({str(self.folder)!r}, empty)"

    # The images and their vectors

    @_run_alone
    def __len__(self) -> int:
        """The number of images that have a file; 0 where the collection has not been created yet."""
        catalog = self._find_catalog()
        return 0 if catalog is None else catalog.count_contents()["images"]

    def __bool__(self) -> bool:
        """True, whether it has images or not."""
        return True

    def __iter__(self) -> Iterator[StoredImage]:
        """The images that have a file, in the order in which they were indexed."""
        return iter(self.images())

    @_run_alone
    def images(self, where: str | None = None) -> ImageList:
        """The images that have a file, or those that match a filter, in the order in which they were indexed.

        The list holds their ids, and reads the images when they are asked for; `to_pandas` and `to_arrow` make a table.
        Raises `UsageError` on a filter that is not valid.
        """
        catalog = self._find_catalog()
        if catalog is None:
            return ImageList(self.folder, np.empty(0, np.int64))
        if where is None:
            return ImageList(self.folder, catalog.list_image_ids())
        from simsearch.filters import compile_sql, parse  # only a filter needs it

        return ImageList(self.folder, catalog.list_image_ids(compile_sql(parse(where), catalog.count_columns())))

    @_run_alone
    def vectors(self, backbone: str | None = None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ids (n,) of the images with a vector of a model, ascending, and the vectors (n, d), unit rows.

        The vectors are those of the original views. They are read-only, and memory-mapped where the collection has an
        exact index of the model on disk and each row belongs to an image with a file. Without `backbone`: those of the
        default model. Raises `ModelNotIndexed`.
        """
        from simsearch.store.snapshot import open_snapshot

        stored = self._find_model(backbone)
        index = self._indexes.open_exact_index(stored.fingerprint)
        with open_snapshot(self.folder) as snapshot:
            view_ids, image_ids = snapshot.list_original_ids(stored.id)
        is_indexed = np.isin(view_ids, index.ids)
        positions = index.find_positions(view_ids[is_indexed])
        is_whole = np.array_equal(positions, np.arange(len(index.ids)))
        rows = index.rows if is_whole else index.rows[positions]
        rows = rows.view()
        rows.flags.writeable = False
        return image_ids[is_indexed], rows

    @_run_alone
    def embed(
        self,
        images: ExampleInput,
        *,
        backbone: str | None = None,
        weights: WeightsOptions | None = None,
        max_pixels: int | None = None,
    ) -> NDArray[np.float32]:
        """Embed pictures with a model of the collection: (n, d) unit rows; (d,) of a picture that is in no list.

        The pictures may be given in all forms of `search`. One that is in the collection is not embedded again: its
        stored vector is returned. Raises `ImageError` on the first picture that cannot be read, `UsageError`,
        `ImageNotFound`, `ModelNotIndexed` or a `ModelError`.
        """
        examples, is_single = read_inputs(images)
        stored, options = self._find_model(backbone), weights or WeightsOptions()
        limits = ReadLimits(max_pixels or compute_default_max_pixels(), options.offline, self._decode)
        open_model = functools.partial(self._open_embedder, stored, options)
        rows = embed_examples(examples, self.catalog, stored, limits, open_model)
        return rows[0] if is_single else rows

    @_run_alone
    def embed_texts(
        self, texts: Sequence[str], *, backbone: str | None = None, weights: WeightsOptions | None = None
    ) -> NDArray[np.float32]:
        """Embed texts with the text tower of a model of the collection: (n, d) unit rows.

        Raises `UsageError` for a model without one, and for a word that stands for several directions of an ImageNet
        head; `ModelNotIndexed` or a `ModelError`.
        """
        stored = self._find_model(backbone)
        found = self._open_text_encoder(stored, weights or WeightsOptions()).encode(list(texts))
        for text, directions in zip(texts, found, strict=True):
            if len(directions.rows) != 1:
                problem = f"{text!r} is {len(directions.rows)} vectors of {stored.model.backbone}, not one"
                raise UsageError(problem, "search with it, or use a model with a text tower")
        return np.concatenate([directions.rows for directions in found])

    # Adding images

    @_run_alone
    def ingest(
        self,
        sources: Paths,
        choice: ModelChoice | str | None = None,
        *,
        augment: ViewChoice | None = None,
        stdin: bytes = b"",
        max_pixels: int | None = None,
        progress: Callable[[Progress], None] = lambda _: None,
        embedders: dict[str, Embedder] | None = None,
        ray: str | None = None,
        store: StoreChoice | None = None,
        kind: IndexKindChoice | None = None,
        safe_links: bool = False,
        rehash: bool = False,
        make_default: bool = False,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> IngestReport:
        """Bring the collection up to date with `sources`, and create it where it does not exist.

        An unchanged file costs one stat call, a moved or copied one a hash. After a kill at any moment the same call
        continues where the run stopped. `choice` may be the name of a backbone; without a model in it every model of
        the collection is brought up to date, and a new collection gets the default backbone. The first model of a
        collection is the default of its searches, unless a run with `make_default` or `set_default_model` changes it.
        `augment` sets which augmented views of every image are embedded beside the original; without it a model keeps
        the views that it has. A model that is loaded is added to `embedders`, by fingerprint, for the next run. With
        `ray` the workers of a Ray cluster embed, into the same catalog: the cluster at an address (`host:port`), `auto`
        (the cluster that this machine is part of), or `local` (one started for this run). `store` sets where vectors
        are searched from now on, `kind` the kind of index. With `safe_links` symbolic links that lead out of their
        source are skipped. `rehash` reads every file again, for contents that were replaced without a change of size
        and modification time. `include` and `exclude` are patterns of files to index or to leave out, such as `*.jpg`
        or `thumbs`; what is left out leaves the results.

        Raises `SourceError`, `NoImages`, `ModelError`, `ClusterError` or `CollectionError`; none of them leaves a
        half-made collection.
        """
        from simsearch.ingest.run import IngestOptions  # a query starts sooner without it

        options = IngestOptions(
            sources=tuple(list_paths(sources)),
            choice=ModelChoice.from_name(choice),
            augment=augment or ViewChoice(),
            stdin=stdin,
            max_pixels=max_pixels or compute_default_max_pixels(),
            progress=progress,
            embedders=embedders,
            ray=ray,
            store=store,
            kind=kind,
            safe_links=safe_links,
            rehash=rehash,
            make_default=make_default,
            path_filter=PathFilter(tuple(include), tuple(exclude)),
        )
        return self._run_ingest(options)

    def _run_ingest(self, options: IngestOptions) -> IngestReport:
        from simsearch.ingest.fusion import find_fusion, ingest_fusion  # a query starts sooner without them
        from simsearch.ingest.run import run_ingest

        self._close_indexes()
        catalog = self._find_catalog()
        updates_all = options.choice.is_open and options.augment == ViewChoice()
        if not updates_all and (terms := find_fusion(catalog, options.choice)) is not None:
            return ingest_fusion(self.folder, catalog, terms, options)
        return run_ingest(self.folder, catalog, options)

    @_run_alone
    def preview_ingest(
        self,
        sources: Sequence[str | os.PathLike[str]],
        choice: ModelChoice | None = None,
        *,
        stdin: bytes = b"",
        safe_links: bool = False,
        rehash: bool = False,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> IngestPreview:
        """Say which files `ingest` would read and which would leave the results; nothing is read or written.

        Raises `SourceError`, `NoImages`.
        """
        from simsearch.ingest.run import IngestOptions, preview_ingest

        options = IngestOptions(
            sources=tuple(os.fspath(source) for source in sources), choice=choice or ModelChoice(),
            augment=ViewChoice(), stdin=stdin, max_pixels=compute_default_max_pixels(), progress=lambda _: None,
            embedders=None, ray=None, store=None, kind=None, safe_links=safe_links, rehash=rehash,
            path_filter=PathFilter(tuple(include), tuple(exclude)),
        )  # fmt: skip
        return preview_ingest(self.folder, self._find_catalog(), options)

    @_run_alone
    def fuse(self, name: str) -> StoredModel:
        """Define a model that joins the vectors of models which the collection has, such as `builtin+0.3*histogram`.

        No picture is read: its vectors are joined from stored ones, in seconds. `search` and the other methods with a
        `backbone` do the same for a name with `+`. A model that exists is returned as it is. Raises `ModelNotIndexed`
        where a part is missing, `UsageError`.
        """
        return self._find_model(name)

    @_run_alone
    def upgrade(
        self, *, max_pixels: int | None = None, progress: Callable[[Progress], None] = lambda _: None
    ) -> UpgradeReport:
        """Move to the current version of the built-in network, where the collection has a former one.

        Queries use the former version until all files are embedded. Then its vectors are deleted, unless an image has
        no new one because its file is missing or cannot be read. After a kill the same call continues.

        Raises as `ingest`.
        """
        from simsearch.ingest.run import IngestOptions
        from simsearch.ingest.upgrade import run_upgrade

        options = IngestOptions(
            sources=(), choice=ModelChoice(), augment=ViewChoice(), stdin=b"",
            max_pixels=max_pixels or compute_default_max_pixels(), progress=progress, embedders=None, ray=None,
            store=None, kind=None,
        )  # fmt: skip
        self._close_indexes()
        report = run_upgrade(self.folder, self.catalog, options)
        for fingerprint in report.finished:
            self.prune(fingerprint)
        return report

    # Searching

    @_run_alone
    def search(
        self,
        queries: ExampleInput = (),
        *,
        text: str | Sequence[str] = (),
        unlike_text: str | Sequence[str] = (),
        prompts: Sequence[str] = (),
        k: int | None = 10,
        offset: int = 0,
        min_similarity: float = -1.0,
        min_probability: float | None = None,
        exclude_self: bool = False,
        where: str | None = None,
        rerank: str | None = None,
        backbone: str | None = None,
        weights: WeightsOptions | None = None,
        max_pixels: int | None = None,
    ) -> Answer:
        """Find the k most similar images after the first `offset`, or all images with k None.

        A query is a path, a URL of an object store or of the web (not with `WeightsOptions(offline=True)`), the id of a
        stored image, the bytes of a file, a file open in binary mode, a Pillow image, pixels (h, w, 3) uint8 RGB, a
        vector (d,) of floats, or an `Example`; `search.inputs.make_examples` says what each array means. The unit
        vectors of several queries are summed, each times its weight: equal weights average them, an `Example` with a
        negative weight is subtracted. With three or more of each sign and no `rerank`, the step `feedback` classifies
        the first 200 results by them. A picture whose content is in the collection is not embedded again.
        `exclude_self` leaves out images with the same content as a query.

        `text` is what results should show, `unlike_text` what they should not show: one text or several, together with
        pictures or without. A model with an ImageNet head answers words, a model with a text tower any text. `prompts`
        are templates that the texts are put into, such as `a photo of a {}`; the vectors of several are averaged.

        `where` filters before the ranking, so that k hits are returned whenever k images match. `rerank` is a method
        such as `pca256+dba5+aqe5+k-reciprocal20`; None uses the collection's default, `none` uses none. Under a method
        `Hit.similarity` is the cosine to the expanded query in the projected space; k-reciprocal re-ranking changes
        only the order. `min_probability` leaves out hits below a probability of the model's calibration (see
        `calibrate`). Images that were removed but not pruned are no hits, but still count as neighbors of others.

        Raises `UsageError`, `ImageError`, `ImageNotFound`, `ModelNotIndexed` or a `ModelError`.
        """
        return self.run_query(
            Query(
                examples=(*make_examples(queries), *make_text_examples(text, unlike_text)), prompts=tuple(prompts),
                k=k, offset=offset, min_similarity=min_similarity, min_probability=min_probability,
                exclude_self=exclude_self, where=where, rerank=rerank, backbone=backbone,
                weights=weights or WeightsOptions(), max_pixels=max_pixels,
            )
        )  # fmt: skip

    @_run_alone
    def run_query(self, query: Query) -> Answer:
        """Run a `Query`. Raises what `search` raises."""
        self._define_fusion(query.backbone)  # not in the block below, which does not see the changes of the catalog
        with self.catalog.look_once():
            stored = self._find_model(query.backbone)
            method = RerankMethod.parse(self._read_default_rerank(stored) if query.rerank is None else query.rerank)
            if query.rerank is None and query.has_feedback:
                method = method.with_feedback()
            open_model = functools.partial(self._open_embedder, stored, query.weights)
            open_text = functools.partial(self._open_text_encoder, stored, query.weights)
            target = SearchTarget(self.catalog, stored, method, self._reranking, open_model, open_text, self._decode)
            models = self.catalog.list_models()
            answer = run_query(query, target)
            return replace(answer, default_backbone=models[0].model.backbone, n_models=len(models))

    @_run_alone
    def calibrate(
        self,
        options: CalibrationOptions | None = None,
        *,
        backbone: str | None = None,
        weights: WeightsOptions | None = None,
    ) -> ProbabilityCalibration:
        """Measure what a cosine of a model means in this collection, and store it: searches then give probabilities.

        Raises `UsageError` where the collection has too few images or labels, or a `ModelError`.
        """
        from simsearch.search.calibrate import CalibrationOptions, calibrate_model
        from simsearch.store.snapshot import open_snapshot

        stored = self._find_model(backbone)

        def open_embedder() -> Embedder:
            return open_stored_model(stored, self.catalog, weights or WeightsOptions(), for_throughput=True)

        with open_snapshot(self.folder) as snapshot:
            index = self._indexes.open_exact_index(stored.fingerprint)
            calibration = calibrate_model(
                snapshot, stored, index, options or CalibrationOptions(), open_embedder, compute_default_max_pixels()
            )
        with self.write() as writer, writer.transaction():
            writer.write_setting(settings.build_calibration_name(stored.fingerprint), calibration.to_json())
        return calibration

    def search_each(self, sources: Paths, **options: Unpack[SearchOptions]) -> Iterator[Answer | Skip]:
        """Search with every picture of some sources, one by one, and yield the answers in the order of the scan.

        A picture that cannot be read yields a `Skip`. Raises `SourceError`, and the other errors of `search`.
        """
        with use_python_terms():
            named = list_paths(sources)
            if (weights := options.get("weights")) is not None and weights.offline:
                refuse_network(named)
            found = scan_sources(named)
        yield from found.skips
        for file in found.files:
            try:
                yield self.search(file.path, **options)
            except ImageError as error:
                if file.has_picture_extension or not isinstance(error, NotAPicture):
                    yield Skip(file.path, error.reason)

    @_run_alone
    def files_of(self, queries: ExampleInput, folder: str | os.PathLike[str]) -> list[str]:
        """Return a picture file for each picture: its own, or one written to `folder` for bytes, crops and URLs."""
        reach, pictures = ReadLimits(compute_default_max_pixels()), make_examples(queries)
        return [
            materialize_example(example, self.catalog, reach, Path(folder))
            for example in pictures
            if isinstance(example, Example)
        ]

    @_run_alone
    def check_outputs(self, files: Paths, queries: Sequence[Example] = ()) -> None:
        """Check that files to write are no pictures of the collection and none of the queries, before any work.

        Raises `UsageError`.
        """
        inputs = [query.picture for query in queries if isinstance(query.picture, str) and not is_remote(query.picture)]
        for named in list_paths(files):
            check_is_no_input(Path(named), inputs)
            if os.path.lexists(named) and any(
                map(self.catalog.has_path, {canonicalize_path(named), os.path.realpath(named)})
            ):
                raise make_overwrite_error(named)

    @property
    @_run_alone
    def default_rerank(self) -> str:
        """The re-ranking method of searches that name neither a method nor a backbone."""
        return self._read_default_rerank(self._find_model(None))

    @_run_alone
    def find_default_rerank(self, backbone: str | None = None) -> str:
        """The re-ranking method of searches with a backbone: `none`, or what `set_default_rerank` set.

        Raises `ModelNotIndexed`.
        """
        return self._read_default_rerank(self._find_model(backbone))

    def _read_default_rerank(self, stored: StoredModel) -> str:
        return maintenance.read_default_rerank(self.catalog, stored)

    @_run_alone
    def answers_text(self) -> bool:
        """Whether a model of the collection can answer texts."""
        from simsearch.models.text.loader import can_encode_text

        return any(can_encode_text(stored.model) for stored in self.catalog.list_models())

    # Maintenance

    @_run_alone
    def info(self) -> CollectionInfo:
        """Describe the collection: counts, models and their indexes, size on disk, last runs, skips."""
        return maintenance.describe(self.catalog, self._indexes)

    @_run_alone
    def summarize(self) -> CollectionSummary:
        """Describe the collection in a few numbers; unlike `info` it opens no index."""
        return maintenance.summarize(self.catalog)

    @_run_alone
    def find_other_source(self, source: str) -> str | None:
        """The source that the collection was made of, where `source` was not indexed into it."""
        return find_other_source(self.catalog, source)

    @_run_alone
    def list_backbones(self) -> list[str]:
        """The backbones of its models, the default first."""
        return [stored.model.backbone for stored in self.catalog.list_models()]

    @_run_alone
    def verify(self) -> Verification:
        """Check everything that can be checked without embedding: SQLite, vectors, indexes, files."""
        return maintenance.verify(self.catalog, self._indexes)

    @_run_alone
    def rebuild(self, kind: IndexKindChoice | None = None) -> list[str]:
        """Rebuild every index from the catalog, delete index files of deleted models, and return where each index is.

        `kind` sets the kind of index from now on. Raises `CollectionNotWritable` if an index cannot be written.
        """
        with self.write() as writer:
            return maintenance.rebuild(writer, kind)

    @_run_alone
    def find_files(self, paths: str | Sequence[str]) -> list[str]:
        """The files that `remove` would remove. Raises `UsageError` when the collection has no file at a path."""
        return maintenance.find_files(self.catalog, [paths] if isinstance(paths, str) else list(paths))

    @_run_alone
    def preview_prune(self, backbone: str | None = None, *, only_augmented: bool = False) -> PruneReport:
        """The numbers of images, models and views that `prune` would delete; freed bytes are not known and 0."""
        return maintenance.preview_prune(self.catalog, backbone, only_augmented=only_augmented)

    @_run_alone
    def remove(self, paths: Paths) -> int:
        """Remove files, or all files below folders, from the results, and return how many were removed.

        The files themselves are not touched. Raises `UsageError` when the collection has no file at a path.
        """
        with self.write() as writer:
            return maintenance.remove(writer, list_paths(paths))

    @_run_alone
    def prune(self, backbone: str | None = None, *, only_augmented: bool = False) -> PruneReport:
        """Delete images without a file, or everything of one backbone, or augmented views; free the disk space."""
        with self.write() as writer:
            return maintenance.prune(writer, backbone, only_augmented=only_augmented)

    @_run_alone
    def push(
        self,
        choice: StoreChoice | None = None,
        *,
        drops: bool = False,
        progress: Callable[[int, int], object] = lambda _n_done, _n_all: None,
    ) -> PushReport:
        """Copy every vector to Milvus or to FAISS files, and search there from then on.

        Without a choice the collection's Milvus is compared row by row and repaired. `drops`: the Milvus that is no
        longer used deletes its copy of the collection. Raises `UsageError`, `StoreUnavailable`, `MissingExtra` or a
        `CollectionError`; the collection is then searched where it was before.
        """
        from simsearch.index.milvus.migrate import push

        with self.write() as writer:
            return push(writer, choice, drops=drops, progress=progress)

    # Annotations and settings

    @_run_alone
    def annotate(self, file: str | os.PathLike[str]) -> AnnotationReport:
        """Read columns of the user's own from a .csv or .json file and store them with the images, for `where`.

        Raises `SourceError` when the file cannot be read, or none of its images is in the collection.
        """
        from simsearch.interchange.annotations import annotate

        with self.write() as writer:
            return annotate(writer, Path(file))

    @_run_alone
    def set_values(
        self, values: Mapping[tuple[int, str], str | float | None]
    ) -> dict[tuple[int, str], str | float | None]:
        """Set values of columns of the user's own, by image id and name of the column; None deletes a value.

        Returns the values before in the same form, so that a second call undoes the first. Raises `UsageError` or
        `ImageNotFound`; nothing is changed then.
        """
        from simsearch.interchange.annotations import set_values

        with self.write() as writer:
            return set_values(writer, values)

    @_run_alone
    def clear_columns(self, columns: str | Iterable[str]) -> int:
        """Delete columns of the user's own, and return how many values were deleted.

        Raises `UsageError` when there is no such column.
        """
        from simsearch.interchange.annotations import clear_columns

        with self.write() as writer:
            return clear_columns(writer, [columns] if isinstance(columns, str) else list(columns))

    @_run_alone
    def set_default_rerank(self, method: str, backbone: str | None = None) -> None:
        """Set the re-ranking method of searches with a backbone (None: the default one) that name no method.

        Raises `UsageError`, `ModelNotIndexed`.
        """
        chosen, stored = RerankMethod.parse(method), self._find_model(backbone)
        with self.write() as writer, writer.transaction():
            writer.write_setting(settings.build_rerank_name(stored.fingerprint), str(chosen))

    @_run_alone
    def set_default_model(self, backbone: str) -> StoredModel:
        """Make a model the one of searches that name no backbone, and return it. Raises `ModelNotIndexed`."""
        stored = self._find_model(backbone)
        with self.write() as writer, writer.transaction():
            writer.write_setting(settings.DEFAULT_MODEL, stored.fingerprint)
        return stored

    # Views of the whole collection

    @_run_alone
    def clusters(
        self, k: int | None = None, *, backbone: str | None = None, selection: ImageSelection | None = None
    ) -> Clustering:
        """Group the images into k clusters, or into as many as are found; above 100,000 images a sample is used.

        Raises `ModelNotIndexed` when there are none, `UsageError` when no image matches or k is out of range.
        """
        from simsearch.visualization.overview import ImageSelection, cluster_collection

        return cluster_collection(self.catalog, self._find_model(backbone), k, selection or ImageSelection())

    @_run_alone
    def arrangement(
        self, k: int | None = None, *, backbone: str | None = None, selection: ImageSelection | None = None
    ) -> CollectionLayout:
        """Cluster the images as `clusters` does, and lay them out in two dimensions, similar images close together.

        Clusters are named by words where the network has an ImageNet head on this machine.
        """
        from simsearch.visualization.overview import ImageSelection, lay_out_collection

        stored = self._find_model(backbone)
        return lay_out_collection(self.catalog, stored, k, selection or ImageSelection(), self._find_words(stored))

    @_run_alone
    def duplicates(
        self,
        question: DuplicateOptions | None = None,
        *,
        backbone: str | None = None,
        weights: WeightsOptions | None = None,
        progress: Callable[[str, float], None] = lambda _stage, _share: None,
    ) -> DuplicateReport:
        """Find groups of files with the same bytes, edited copies of one picture, or near duplicates. Deletes nothing.

        `weights` are not used any more: no picture is embedded. Raises `UnreadableFile` when the picture files cannot
        be read.
        """
        from simsearch.duplicates.options import DuplicateOptions
        from simsearch.duplicates.search import search_duplicates

        stored = self._find_model(backbone)
        return search_duplicates(
            self.catalog, self._indexes, stored, options=question or DuplicateOptions(),
            progress=progress,
        )  # fmt: skip

    @_run_alone
    def check_quality(
        self,
        *,
        labels: str | None = None,
        backbone: str | None = None,
        progress: Callable[[str, float], None] = lambda _stage, _share: None,
    ) -> QualityReport:
        """Find pictures that are worth a look: blurred, dark, bright, uniform, tiny, odd-shaped, outliers, mislabelled.

        `labels` names a column with labels; by default the folders are the labels. Raises `ModelNotIndexed`,
        `UsageError`.
        """
        from simsearch.quality.check import check_quality

        return check_quality(
            self.catalog, self._indexes, self._find_model(backbone), labels=labels, progress=progress
        )  # fmt: skip

    @_run_alone
    def reject_duplicates(self, image_ids: Sequence[int]) -> int:
        """Remember that no two of these images are duplicates, and return how many pairs that is.

        Raises `UsageError` on fewer than two images, `ImageNotFound`.
        """
        from simsearch.duplicates.search import reject

        with self.write() as writer:
            return reject(writer, image_ids)

    @_run_alone
    def unreject_duplicates(self, image_ids: Sequence[int]) -> int:
        """Forget rejected pairs of these images, and return how many there were.

        Raises `UsageError` on fewer than two images, `ImageNotFound`.
        """
        from simsearch.duplicates.search import unreject

        with self.write() as writer:
            return unreject(writer, image_ids)

    # Export and import

    @_run_alone
    def export(
        self,
        place: str | os.PathLike[str],
        *,
        format: ExportFormat | None = None,
        vectors: VectorKind = "float32",
        backbone: str | None = None,
    ) -> ExportReport:
        """Write vectors with the metadata of their images as Parquet, .npy, CSV or JSON lines.

        Raises `UsageError` on an unknown extension or a folder in use, `MissingExtra`, or another `SimsearchError`.
        """
        from simsearch.interchange.exporter import export

        return export(self.catalog, self._find_model(backbone), Path(place), format=format, vectors=vectors)

    @_run_alone
    def export_labels(self, file: str | os.PathLike[str], column: str = "label") -> LabelExportReport:
        """Write a column of the user's own as a CSV file of paths and labels, which `learn` and `benchmark` read.

        Raises `UsageError` where there is no such column.
        """
        from simsearch.interchange.label_export import export_labels

        return export_labels(self.catalog, Path(file), column)

    @_run_alone
    def import_embeddings(
        self,
        source: str | os.PathLike[str],
        name: str,
        *,
        root: str | os.PathLike[str] = "",
        metadata: str | os.PathLike[str] | None = None,
        key: str | None = None,
        vector: str | None = None,
        max_pixels: int | None = None,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> ImportReport:
        """Import vectors of another tool under the backbone name `name`; relative paths start at `root`.

        Every picture is read; `import_vectors` reads none. `key` and `vector` are the columns of paths and of vectors.
        The collection is created where it does not exist. Raises `SourceError`, `UsageError`, `MissingExtra` or a
        `CollectionError`; nothing is written then.
        """
        from simsearch.interchange.embeddings import ColumnNames
        from simsearch.interchange.importer import ImportOptions, import_embeddings

        options = ImportOptions(
            source=Path(source), name=name, root=Path(root), metadata=Path(metadata) if metadata else None,
            max_pixels=max_pixels or compute_default_max_pixels(), columns=ColumnNames(key, vector),
        )  # fmt: skip
        self._close_indexes()
        return import_embeddings(self.folder, self._find_catalog(), options, progress)

    @_run_alone
    def import_vectors(
        self,
        source: str | os.PathLike[str],
        name: str,
        *,
        key: str | None = None,
        vector: str | None = None,
        columns: Iterable[str] | None = None,
        root: str | os.PathLike[str] = "",
        metadata: str | os.PathLike[str] | None = None,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> ImportReport:
        """Import vectors without reading their pictures, under the backbone name `name`.

        `source` is a .npy, .parquet, .csv or .jsonl file, or a folder in the layout of clip-retrieval or
        embedding-reader. `key` is the column of keys, `vector` that of the vectors, each by default the first with a
        usual name; a key is an address, a path below `root`, or an id. The other `columns`, by default all of texts and
        numbers, become columns of the user's own, for filters and as labels of a benchmark. The collection is created
        where it does not exist; an interrupted import continues with the same call.

        Raises `SourceError` on the first row that is not valid, `UsageError`, `MissingExtra` or a `CollectionError`;
        nothing is written then.
        """
        from simsearch.interchange.embeddings import ColumnNames, open_embeddings
        from simsearch.interchange.vector_import import VectorImportOptions, import_vectors

        chosen = None if columns is None else tuple(columns)
        options = VectorImportOptions(source=Path(source), name=name, root=Path(root), columns=chosen)
        names = ColumnNames(key, vector, has_keys=True)
        opened = open_embeddings(Path(source), metadata=Path(metadata) if metadata else None, columns=names)
        self._close_indexes()
        return import_vectors(self.folder, self._find_catalog(), opened, options, progress)

    @_run_alone
    def add_vectors(
        self,
        keys: Sequence[str | os.PathLike[str] | int],
        vectors: NDArray[Any],
        name: str,
        *,
        columns: Mapping[str, Sequence[Any]] | None = None,
        root: str | os.PathLike[str] = "",
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> ImportReport:
        """Add vectors (n, d) in memory with n keys and columns of n values, as `import_vectors` does from files.

        A pandas `DataFrame` may be given as `columns`. Raises what `import_vectors` raises.
        """
        from simsearch.interchange.vector_import import ArraySource, VectorImportOptions, import_vectors

        values = {} if columns is None else {str(name): list(columns[name]) for name in columns}
        source = ArraySource(list(keys), vectors, values)
        options = VectorImportOptions(source=Path("vectors"), name=name, root=Path(root))
        self._close_indexes()
        return import_vectors(self.folder, self._find_catalog(), source, options, progress)

    @_run_alone
    def model(self, backbone: str | None = None) -> StoredModel:
        """The stored model of a backbone, or the default of the collection. Raises `ModelNotIndexed`."""
        return self._find_model(backbone)

    @_run_alone
    def list_models(self) -> list[StoredModel]:
        """The stored models, the default one first. Raises `CollectionNotFound` while there is no collection."""
        return self.catalog.list_models()

    # The catalog, indexes and models, opened when they are first needed

    @property
    def catalog(self) -> Catalog:
        """The open catalog. Raises `CollectionClosed`, or `CollectionNotFound` while the collection is not created."""
        if self._is_closed:
            raise CollectionClosed(str(self.folder))
        if self._open_catalog is None:
            self._open_catalog = Catalog.open(self.folder)
        return self._open_catalog

    def _find_catalog(self) -> Catalog | None:
        """The open catalog, or None where the folder holds no collection yet."""
        try:
            return self.catalog
        except CollectionNotFound:
            return None

    @property
    def _indexes(self) -> IndexBackend:
        if self._open_indexes is None:
            self._open_indexes = open_index_backend(self.catalog)
        return self._open_indexes

    @property
    def _reranking(self) -> RerankerCache:
        if self._open_reranking is None:
            self._open_reranking = RerankerCache(self.catalog, self._indexes)
        return self._open_reranking

    def _close_indexes(self) -> None:
        """Close the indexes; the next search opens those that the collection then has."""
        if self._open_indexes is not None:
            self._open_indexes.close()
        self._open_indexes = self._open_reranking = None

    @contextlib.contextmanager
    def write(self) -> Iterator[CatalogWriter]:
        """Hold the collection's lock, with a catalog to write to.

        The indexes are closed first, as the change may concern them; the next search opens them again. Raises
        `CollectionNotFound`, `CollectionBusy` or `CollectionNotWritable`.
        """
        if self._is_closed:
            raise CollectionClosed(str(self.folder))
        self._close_indexes()
        with CatalogWriter.open(self.folder) as writer:
            yield writer

    def _find_model(self, backbone: str | None) -> StoredModel:
        self._define_fusion(backbone)
        models = self.catalog.list_models() if backbone is None else maintenance.find_models(self.catalog, backbone)
        if not models:
            raise ModelNotIndexed(str(self.folder), f"{self.folder} is empty", "index a folder into it first")
        return models[0]

    def _define_fusion(self, name: str | None) -> None:
        """Define the fused model of a name with `+`, where the collection has all its parts and not the model."""
        if name is None or "+" not in name or not self._fuses or maintenance.has_model(self.catalog, name):
            return
        from simsearch.models.fusion import parse_fusion

        terms = parse_fusion(name) or ()
        if terms and all(maintenance.has_model(self.catalog, term.backbone) for term in terms):
            from simsearch.ingest.fusion import fuse_models

            with self.write() as writer:
                parts = [maintenance.find_models(writer, term.backbone)[0] for term in terms]
                fuse_models(writer, parts, [term.weight for term in terms])

    def _open_embedder(self, stored: StoredModel, weights: WeightsOptions, pixels: Pixels) -> Embedder:
        fingerprint = stored.fingerprint
        if fingerprint not in self._embedders:
            self._embedders[fingerprint] = open_stored_model(
                stored, self.catalog, weights, for_throughput=False, pixels=pixels
            )
        return self._embedders[fingerprint]

    def _find_words(self, stored: StoredModel) -> WordEncoder | None:
        """The words of a model with an ImageNet head; None without one, or where its weights would be downloaded."""
        from simsearch.models.text.words import WordEncoder

        try:
            encoder = self._open_text_encoder(stored, WeightsOptions(offline=True))
        except (UsageError, ModelError):
            return None
        return encoder if isinstance(encoder, WordEncoder) else None

    def _open_text_encoder(self, stored: StoredModel, weights: WeightsOptions) -> TextEncoder:
        fingerprint = stored.fingerprint
        if fingerprint not in self._text_encoders:
            from simsearch.models.text.loader import open_text_encoder  # only a query with a text needs it

            self._text_encoders.setdefault(fingerprint, open_text_encoder(stored.model, weights))
        return self._text_encoders[fingerprint]
