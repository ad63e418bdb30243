"""A model of a collection, loaded, and what a benchmark does with it: embed pictures, and take the time."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ImageError
from simsearch.evaluation.embedding import Vectors
from simsearch.evaluation.protocol import TaskQuery
from simsearch.images.decode import Box, Pixels, decode_square, read_raw_file
from simsearch.images.views import Augmentation
from simsearch.ingest.pipeline import IngestJob, run_pipeline
from simsearch.machine import count_cores
from simsearch.models.choice import list_backbones
from simsearch.models.embedder import Embedder
from simsearch.models.weights import RANDOM_WEIGHTS, WeightsOptions
from simsearch.sources.scan import scan_sources
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.embedders import open_stored_model
from simsearch.store.writer import CatalogWriter

_BATCH = 32
_QUERY_BATCH = 256
_PROBE_S = 2.0
"""About how long each speed is measured."""

_MAX_PROBE_IMAGES = 512
_N_WARMUP = 3
"""So many queries come before those that are timed."""

_FLOAT_BYTES = 4
_ID_BYTES = 8


@dataclass(frozen=True, slots=True, eq=False)
class ModelSpeeds:
    """How fast a model is.

    Views/s of the network alone; images/s from files to vectors, by the number of augmented views of each; vectors
    (q, d) of some pictures, and the seconds (q,) that decoding and embedding each of them took, one by one.
    """

    embedded_per_second: float
    images_per_second: Mapping[int, float]
    query_vectors: Vectors
    query_s: NDArray[np.float64]


class ModelProbe:
    """A model ready to embed, for many pictures at once or for one."""

    def __init__(self, stored: StoredModel, catalog: Catalog, order: WeightsOptions, max_pixels: int) -> None:
        self.stored = stored
        self._open: Callable[[bool], Embedder] = lambda for_many: open_stored_model(
            stored, catalog, order, for_throughput=for_many
        )
        self._max_pixels = max_pixels

    @cached_property
    def _embedder(self) -> Embedder:
        return self._open(True)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of how it was loaded."""
        return self._embedder.notes

    def decode_input(self, path: str, box: Box | None = None) -> Pixels:
        """What the model sees of a picture (side, side, 3), or of a part of it.

        Raises `ImageError`.
        """
        model = self.stored.model
        raw = read_raw_file(path, has_picture_extension=True, max_pixels=self._max_pixels)
        return decode_square(raw, model.side_px, model.resize, max_pixels=self._max_pixels, box=box)[1]

    def embed(self, pixels: Sequence[Pixels] | Pixels) -> Vectors:
        """The vectors (n, d) of squares, embedded as many at once as the engine takes."""
        starts = range(0, len(pixels), _BATCH)
        with ThreadPoolExecutor(max_workers=self._embedder.n_parallel) as pool:
            rows = pool.map(lambda start: self._embedder.embed(np.stack(list(pixels[start : start + _BATCH]))), starts)
            return np.concatenate(list(rows))

    def embed_queries(self, queries: Sequence[TaskQuery]) -> Vectors:
        """The vectors (q, d) of queries from their files.

        Raises `ImageError` where one cannot be read any more.
        """
        with ThreadPoolExecutor(max_workers=count_cores()) as pool:
            blocks = [
                self.embed(
                    list(
                        pool.map(
                            lambda query: self.decode_input(query.path, query.box),
                            queries[start : start + _QUERY_BATCH],
                        )
                    )
                )
                for start in range(0, len(queries), _QUERY_BATCH)
            ]
        return np.concatenate(blocks)

    def measure_speeds(self, paths: Sequence[str], view_counts: Sequence[int]) -> ModelSpeeds:
        """Take the time on some pictures, spread over `paths`; those that cannot be read are passed over.

        Raises `ImageError` when none can.
        """
        readable, squares = self._decode_sample(paths)
        self._embedder.embed(squares[:_BATCH])  # what is only done once is not counted
        seconds, n_embedded = 0.0, 0
        while seconds < _PROBE_S / 2:
            started = time.perf_counter()
            self.embed(squares)
            seconds += time.perf_counter() - started
            n_embedded += len(squares)
        rate = n_embedded / seconds
        vectors, query_s = self._time_queries(readable)
        end_to_end = {count: self._measure_ingest(paths, rate, Augmentation(count)) for count in view_counts}
        return ModelSpeeds(rate, end_to_end, vectors, query_s)

    def _decode_sample(self, paths: Sequence[str]) -> tuple[list[str], Pixels]:
        """Some paths that can be read, and what the model sees of them."""
        squares = {}
        failure: ImageError | None = None
        for path in _sample_evenly(paths, 2 * _BATCH):
            try:
                squares[path] = self.decode_input(path)
            except ImageError as error:
                failure = error
        if failure and not squares:
            raise failure
        return list(squares), np.stack(list(squares.values()))

    def _measure_ingest(self, paths: Sequence[str], rate: float, augmentation: Augmentation) -> float:
        """Images/s of an ingest of some of the pictures into a collection that is thrown away."""
        n_images = int(np.clip(_PROBE_S * rate, _BATCH, _MAX_PROBE_IMAGES)) // len(augmentation.numbers)
        found = scan_sources(_sample_evenly(paths, max(8, n_images)), b"")
        with (
            tempfile.TemporaryDirectory(prefix="simsearch-") as folder,
            CatalogWriter.open_or_create(Path(folder)) as writer,
            Catalog.open(Path(folder)) as reader,
        ):
            with writer.transaction():
                stored = writer.add_model(self.stored.model, self.stored.width, self.stored.fingerprint)
            job = IngestJob(stored.model, stored.id, augmentation, lambda: self._embedder, self._max_pixels)
            started = time.perf_counter()
            tally = run_pipeline(found, reader, writer, job)
            return tally.n_embedded / (time.perf_counter() - started)

    def _time_queries(self, paths: Sequence[str]) -> tuple[Vectors, NDArray[np.float64]]:
        """Some pictures as a query takes them: the vector of each, and its seconds."""
        embedder = self._open(False)
        vectors, seconds = [], []
        for path in chain(paths[:_N_WARMUP], paths):
            started = time.perf_counter()
            vectors.append(embedder.embed(self.decode_input(path)[None])[0])
            seconds.append(time.perf_counter() - started)
        n_warm = min(_N_WARMUP, len(paths))
        return np.stack(vectors[n_warm:]), np.array(seconds[n_warm:])


def measure_weights(stored: StoredModel) -> tuple[float, float]:
    """Parameters of the network, and the bytes of its weights; NaN where they are not known."""
    model = stored.model
    rows = {row.name: row for row in list_backbones()}
    row = rows.get(model.zoo_name or "")
    parameters = float(row.parameters) if row else float("nan")
    if model.weights == RANDOM_WEIGHTS:
        return parameters, _FLOAT_BYTES * parameters
    file = model.file or (row.weights_path if row else None)
    if file is None:
        return parameters, 0.0
    file = str(Path(file).with_suffix(".bin")) if file.endswith(".xml") else file
    return parameters, float(os.path.getsize(file)) if os.path.isfile(file) else float("nan")


def compute_image_bytes(stored_width: int, searched_width: int, n_views: int) -> tuple[float, float]:
    """Bytes an image on disk (catalog and FAISS file) and in memory (FAISS): vectors and their ids."""
    in_index = (1 + n_views) * (searched_width * _FLOAT_BYTES + _ID_BYTES)
    return (1 + n_views) * stored_width * _FLOAT_BYTES + in_index, in_index


def _sample_evenly(paths: Sequence[str], n: int) -> list[str]:
    """Up to n of the paths, evenly over all of them."""
    rows = np.linspace(0, len(paths) - 1, min(n, len(paths))).astype(int)
    return [paths[row] for row in dict.fromkeys(rows.tolist())]
