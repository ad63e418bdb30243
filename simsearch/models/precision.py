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
from simsearch.sources.progress import find_listener

PrecisionOption = Literal["auto", "f32", "bf16", "int8"]
PRECISION_OPTIONS: tuple[str, ...] = get_args(PrecisionOption)

MIN_COSINE = 0.99
"""The minimum mean cosine to the f32 vectors at which a lower precision is accepted."""

MIN_TOP_10 = 0.9
"""The minimum share of the ten nearest images in common with f32 at which `auto` accepts a lower precision."""

_INT8_SPEEDUP = 1.5
"""How much faster int8 is expected to index than the best precision without calibration; decoding takes its part."""

_CALIBRATION_PASSES = 3.0
"""Calibration runs the f32 network about so many times over its pictures."""

_BF16_SPEEDUP = 2.0
_CALIBRATION_START_S = 10.0
_MIN_GAIN = 3.0
"""Calibration pays off where it saves at least so many times what it takes."""

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


def calibration_pays_off(n_images: int, images_per_s: float) -> bool:
    """Whether a calibration for int8 saves more time than it takes, by the measured rate of f32.

    Without calibration, f32 is the slowest that indexing can be, so that the saving is at most what is computed here.
    """
    seconds = _CALIBRATION_START_S + _CALIBRATION_PASSES * CALIBRATION_IMAGES / images_per_s
    saved = n_images / images_per_s * (1 - 1 / _INT8_SPEEDUP)
    return saved >= _MIN_GAIN * seconds


def open_with_precision(
    model: Model, precision: PrecisionOption, options: LoadOptions, *, n_images: int | None = None
) -> LoadedModel:
    """Load a model at the requested precision; `auto` is the fastest that passes the check on `options.pixels`.

    `auto` calibrates int8 only where that pays off for the number of images, which is unlimited where it is None.
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
            if precision == "auto" and _needs_calibration(model, name):
                rate = comparison.images_per_s * (_BF16_SPEEDUP if "bf16" in candidates else 1.0)
                if n_images is not None and not calibration_pays_off(n_images, rate):
                    continue
            candidate, graph = _open_lower_precision(model, name, options, pixels, exact)
            agreement = comparison.measure_agreement(candidate)
            if agreement.cosine >= MIN_COSINE and (precision != "auto" or agreement.top_10 >= MIN_TOP_10):
                return LoadedModel(candidate.model, candidate, graph, agreement, tuple(notes))
            changes = f"mean cosine {agreement.cosine:.4f}, {agreement.top_10:.0%} of the ten nearest in common"
            notes.append(f"{name} changes the vectors ({changes}); it is not used")
    return LoadedModel(model, exact, None, None, tuple(notes))


def _needs_calibration(model: Model, precision: Precision) -> bool:
    return precision == "int8" and not has_int8_graph(model)


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
    return [
        name
        for name in list_native_precisions(avoids_saturation=is_calibrated)
        if name != "f32" and (name != "int8" or may_use_int8)
    ]


def _has_nncf() -> bool:
    return importlib.util.find_spec("nncf") is not None


def _open_lower_precision(
    model: Model, precision: Precision, options: LoadOptions, pixels: NDArray[np.uint8], exact: Embedder
) -> tuple[Embedder, GraphBytes | None]:
    if precision == "bf16" or has_int8_graph(model):
        return open_embedder(replace(model, precision=precision), options), None
    from simsearch.models.openvino_runtime import OpenVinoEmbedder, quantize, to_bytes

    assert isinstance(exact, OpenVinoEmbedder)  # only this engine runs a lower precision
    with find_listener().on_activity(f"calibrating int8 for {model.backbone} on {len(pixels)} pictures") as report:
        calibrated = to_bytes(quantize(exact.graph, pixels, report))
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
        self.images_per_s = len(self._exact) / max(1e-6, time.perf_counter() - started)
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
