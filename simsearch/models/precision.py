"""Choose the precision of a model: the fastest one that the processor supports and that agrees with f32.

A lower precision usually costs no retrieval quality; this is checked on the pictures that will be indexed.
"""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import xxhash
from numpy.typing import NDArray

from simsearch.errors import MissingExtra
from simsearch.models.builtin.versions import has_int8_graph
from simsearch.models.embedder import Embedder
from simsearch.models.loader import LoadOptions, compute_mean_cosine, open_embedder
from simsearch.models.model import GraphBytes, Model, Precision

PrecisionOption = Literal["auto", "f32", "bf16", "int8"]
PRECISION_OPTIONS: tuple[str, ...] = get_args(PrecisionOption)

MIN_COSINE = 0.99
"""The minimum mean cosine to the f32 vectors at which a lower precision is accepted."""

CALIBRATION_IMAGES = 300
_CHECK_IMAGES = 64
_CHECK_S = 2.0
_CHECK_BATCH = 16
_N_NEIGHBORS = 10


@dataclass(frozen=True, slots=True)
class PrecisionAgreement:
    """Agreement of a precision with f32 on a sample: mean cosine, and overlap of the 10 nearest neighbors, 0 to 1."""

    precision: Precision
    cosine: float
    top_10: float


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model with its final precision. For int8, `graph` must be stored in the catalog; else it is None."""

    model: Model
    embedder: Embedder
    graph: GraphBytes | None
    agreement: PrecisionAgreement | None
    notes: tuple[str, ...]


def count_sample_images(model: Model, precision: PrecisionOption) -> int:
    """The number of sample pictures that `open_with_precision` can use."""
    may_use_int8 = precision == "int8" or (precision == "auto" and _has_nncf())
    return CALIBRATION_IMAGES if may_use_int8 and not has_int8_graph(model) else _CHECK_IMAGES


def open_with_precision(model: Model, precision: PrecisionOption, options: LoadOptions) -> LoadedModel:
    """Load a model at the requested precision; `auto` is the fastest that passes the check on `options.pixels`.

    Falls back to f32, with a note, where a lower precision is not available or fails the check. Raises `MissingExtra`
    when int8 is requested and NNCF is not installed, or another `ModelError`.
    """
    exact = open_embedder(model, options)
    notes = list(exact.notes)
    if exact.engine != "openvino":
        if precision not in ("auto", "f32") and exact.engine == "tensorflow":
            notes.append(f"{precision} needs OpenVINO; f32 is used")
        return LoadedModel(model, exact, None, None, tuple(notes))
    pixels = options.pixels if options.pixels is not None else np.empty((0, model.side_px, model.side_px, 3), np.uint8)
    candidates = _list_candidates(model, precision, len(pixels), notes)
    if candidates:
        comparison = _F32Comparison(exact, pixels)
        for name in candidates:
            candidate, graph = _open_lower_precision(model, name, options, pixels, exact)
            agreement = comparison.measure_agreement(candidate)
            if agreement.cosine >= MIN_COSINE:
                return LoadedModel(candidate.model, candidate, graph, agreement, tuple(notes))
            notes.append(f"{name} changes the vectors (mean cosine {agreement.cosine:.4f}); it is not used")
    return LoadedModel(model, exact, None, None, tuple(notes))


def _list_candidates(model: Model, precision: PrecisionOption, n_pixels: int, notes: list[str]) -> list[Precision]:
    """The precisions to try before f32, the fastest first."""
    from simsearch.models.openvino_runtime import list_native_precisions

    if precision == "f32" or not n_pixels:
        return []
    is_calibrated = has_int8_graph(model)
    if precision == "int8" and not is_calibrated and not _has_nncf():
        raise MissingExtra("--precision int8", "int8")
    if precision == "int8" and not is_calibrated and n_pixels < CALIBRATION_IMAGES:
        notes.append(f"int8 is calibrated on {n_pixels} pictures; {CALIBRATION_IMAGES} or more are better")
    if precision != "auto":
        return [precision]
    may_use_int8 = is_calibrated or (_has_nncf() and n_pixels >= CALIBRATION_IMAGES)
    return [name for name in list_native_precisions() if name != "f32" and (name != "int8" or may_use_int8)]


def _has_nncf() -> bool:
    return importlib.util.find_spec("nncf") is not None


def _open_lower_precision(
    model: Model, precision: Precision, options: LoadOptions, pixels: NDArray[np.uint8], exact: Embedder
) -> tuple[Embedder, GraphBytes | None]:
    if precision == "bf16" or has_int8_graph(model):
        return open_embedder(replace(model, precision=precision), options), None
    from simsearch.models.openvino_runtime import OpenVinoEmbedder, quantize, to_bytes

    assert isinstance(exact, OpenVinoEmbedder)  # only this engine runs a lower precision
    calibrated = to_bytes(quantize(exact.graph, pixels))
    lowered = replace(model, precision="int8", calibration=xxhash.xxh3_128_hexdigest(pixels.tobytes()))
    return open_embedder(lowered, replace(options, graph=calibrated)), calibrated


class _F32Comparison:
    """Compare an embedder with f32, on the pictures that f32 embeds in two seconds: at least 16, at most 64."""

    def __init__(self, exact: Embedder, pixels: NDArray[np.uint8]) -> None:
        rows, started = [], time.perf_counter()
        for start in range(0, min(len(pixels), _CHECK_IMAGES), _CHECK_BATCH):
            rows.append(exact.embed(pixels[start : start + _CHECK_BATCH]))
            if time.perf_counter() - started > _CHECK_S:
                break
        self._exact = np.concatenate(rows)
        self._pixels = pixels[: len(self._exact)]

    def measure_agreement(self, embedder: Embedder) -> PrecisionAgreement:
        """Measure the agreement of the embedder's vectors with those of f32."""
        starts = range(0, len(self._pixels), _CHECK_BATCH)
        rows = np.concatenate([embedder.embed(self._pixels[start : start + _CHECK_BATCH]) for start in starts])
        top_10 = _measure_neighbor_overlap(self._exact, rows)
        return PrecisionAgreement(embedder.model.precision, compute_mean_cosine(self._exact, rows), top_10)


def _measure_neighbor_overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The mean share of common 10 nearest neighbors in two embeddings (n, d) of the same pictures."""
    n_nearest = min(_N_NEIGHBORS, len(a) - 1)
    if n_nearest < 1:
        return 1.0
    nearest = []
    for rows in (a, b):
        products = rows @ rows.T
        np.fill_diagonal(products, -np.inf)
        nearest.append(np.argsort(-products, axis=1)[:, :n_nearest])
    return float(np.mean([len(np.intersect1d(x, y)) / n_nearest for x, y in zip(*nearest, strict=True)]))
