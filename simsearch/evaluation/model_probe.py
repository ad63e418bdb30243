"""A loaded model of a collection, to embed images of a benchmark and to measure its speed."""

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
from simsearch.images.decode import Box, Pixels
from simsearch.images.views import Augmentation
from simsearch.ingest.embed import BATCH_SIZE, embed_pixels
from simsearch.ingest.pipeline import IngestJob, run_pipeline
from simsearch.ingest.prepare import decode_input
from simsearch.machine import count_cores
from simsearch.models.choice import list_backbones
from simsearch.models.embedder import Embedder
from simsearch.models.model import Model
from simsearch.models.onnx_file import read_onnx_outline
from simsearch.models.weights import RANDOM_WEIGHTS, WeightsOptions
from simsearch.sources.scan import scan_sources
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.embedders import open_stored_model
from simsearch.store.writer import CatalogWriter

_QUERY_BATCH = 256
"""Queries decoded before they are embedded, which bounds the memory."""

_MAX_PROBE_IMAGES = 512
_N_WARMUP = 3
"""The number of queries before those that are timed."""

_FLOAT_BYTES = 4
_ID_BYTES = 8


@dataclass(frozen=True, slots=True, eq=False)
class ModelSpeeds:
    """The speed of a model.

    `embedded_per_second` are views/s of the network alone, `images_per_second` images/s from files to vectors, by the
    number of augmented views. `query_vectors` (q, d) are vectors of some images, `query_s` (q,) the seconds to decode
    and embed each of them alone.
    """

    embedded_per_second: float
    images_per_second: Mapping[int, float]
    query_vectors: Vectors
    query_s: NDArray[np.float64]


class ModelProbe:
    """A model to embed many images at once or single images; loaded at the first use."""

    def __init__(self, stored: StoredModel, catalog: Catalog, weights: WeightsOptions, max_pixels: int) -> None:
        self.stored = stored
        self._open: Callable[[bool], Embedder] = lambda for_many: open_stored_model(
            stored, catalog, weights, for_throughput=for_many
        )
        self._max_pixels = max_pixels

    @cached_property
    def _embedder(self) -> Embedder:
        return self._open(True)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user from loading the model."""
        return self._embedder.notes

    def decode_input(self, path: str, box: Box | None = None) -> Pixels:
        """Decode an image, or a region of it, to the input of the model (side, side, 3).

        Raises `ImageError`.
        """
        return decode_input(path, self.stored.model, max_pixels=self._max_pixels, box=box)

    def embed(self, pixels: Sequence[Pixels] | Pixels) -> Vectors:
        """Embed decoded images to vectors (n, d), in as many parallel batches as the engine supports."""
        return embed_pixels(pixels, self._embedder)

    def embed_queries(self, queries: Sequence[TaskQuery]) -> Vectors:
        """Embed queries from their files to vectors (q, d).

        Raises `ImageError` for a file that can no longer be read.
        """
        blocks = []
        with ThreadPoolExecutor(max_workers=count_cores()) as pool:
            for start in range(0, len(queries), _QUERY_BATCH):
                block = queries[start : start + _QUERY_BATCH]
                blocks.append(self.embed(list(pool.map(lambda query: self.decode_input(query.path, query.box), block))))
        return np.concatenate(blocks)

    def measure_speeds(self, paths: Sequence[str], view_counts: Sequence[int], probe_s: float) -> ModelSpeeds:
        """Measure the speeds with some images, evenly chosen from `paths`, in about `probe_s` seconds for each.

        Unreadable images are left out.

        Raises `ImageError` when none of them can be read.
        """
        readable, squares = self._decode_sample(paths)
        self._embedder.embed(squares[:BATCH_SIZE])  # the first call, which is slower, is not counted
        seconds, n_embedded = 0.0, 0
        while seconds < probe_s / 2:
            started = time.perf_counter()
            self.embed(squares)
            seconds += time.perf_counter() - started
            n_embedded += len(squares)
        rate = n_embedded / seconds
        vectors, query_s = self._time_queries(readable)
        end_to_end = {
            count: self._measure_ingest(paths, round(probe_s * rate), Augmentation(count)) for count in view_counts
        }
        return ModelSpeeds(rate, end_to_end, vectors, query_s)

    def _decode_sample(self, paths: Sequence[str]) -> tuple[list[str], Pixels]:
        """Some readable paths, and their decoded images (n, side, side, 3)."""
        squares = {}
        failure: ImageError | None = None
        for path in _sample_evenly(paths, 2 * BATCH_SIZE):
            try:
                squares[path] = self.decode_input(path)
            except ImageError as error:
                failure = error
        if failure and not squares:
            raise failure
        return list(squares), np.stack(list(squares.values()))

    def _measure_ingest(self, paths: Sequence[str], n_views: int, augmentation: Augmentation) -> float:
        """Measure images/s of an ingest of so many images that they have about `n_views`, into a new collection."""
        n_images = int(np.clip(n_views, BATCH_SIZE, _MAX_PROBE_IMAGES)) // len(augmentation.numbers)
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
        """Decode and embed images one by one, as in a query: vectors (q, d) and seconds (q,)."""
        embedder = self._open(False)
        vectors, seconds = [], []
        for path in chain(paths[:_N_WARMUP], paths):
            started = time.perf_counter()
            vectors.append(embedder.embed(self.decode_input(path)[None])[0])
            seconds.append(time.perf_counter() - started)
        n_warm = min(_N_WARMUP, len(paths))
        return np.stack(vectors[n_warm:]), np.array(seconds[n_warm:])


def measure_weights(stored: StoredModel) -> tuple[float, float]:
    """Measure the number of parameters of the network and the size of its weights in bytes; NaN where unknown."""
    model = stored.model
    if model.fusion is not None:
        sizes = [_measure_model_weights(part.model) for part in model.fusion.parts]
        return sum(size[0] for size in sizes), sum(size[1] for size in sizes)
    return _measure_model_weights(model)


def _measure_model_weights(model: Model) -> tuple[float, float]:
    rows = {row.name: row for row in list_backbones()}
    row = rows.get(model.zoo_name or "")
    parameters = float(row.parameters) if row else float("nan")
    if model.weights == RANDOM_WEIGHTS:
        return parameters, _FLOAT_BYTES * parameters
    file = model.file or (row.weights_path if row else None)
    if file is None:
        return parameters, 0.0
    file = str(Path(file).with_suffix(".bin")) if file.endswith(".xml") else file
    if not os.path.isfile(file):
        return parameters, float("nan")
    files = [file]
    if file.endswith(".onnx"):
        files += [os.path.join(os.path.dirname(file), name) for name in read_onnx_outline(file).external_files]
    return parameters, float(sum(map(os.path.getsize, files)))


def compute_image_bytes(stored_width: int, searched_width: int, n_views: int) -> tuple[float, float]:
    """Compute the bytes of an image on disk (catalog and FAISS file) and in memory (FAISS): vectors and ids."""
    in_index = (1 + n_views) * (searched_width * _FLOAT_BYTES + _ID_BYTES)
    return (1 + n_views) * stored_width * _FLOAT_BYTES + in_index, in_index


def _sample_evenly(paths: Sequence[str], n: int) -> list[str]:
    """Choose up to n of the paths at even distances."""
    rows = np.linspace(0, len(paths) - 1, min(n, len(paths))).astype(int)
    return [paths[row] for row in dict.fromkeys(rows.tolist())]
