"""Retrieval quality at lower precisions: leave-one-out over labeled photographs, brute force in NumPy."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from bench.setup import SHARED, format_table, ingest, list_photographs
from simsearch import ModelChoice
from simsearch.index.cache import IndexCache
from simsearch.models.precision import PrecisionOption
from simsearch.store.catalog import Catalog


def measure() -> str:
    """Measure and format the section of the report."""
    rows = []
    cases: list[tuple[str, PrecisionOption]] = [
        ("histogram", "f32"),
        ("builtin", "f32"),
        ("builtin", "bf16"),
        ("mobilenet", "f32"),
    ]
    cases += [("mobilenet_v2", "f32"), ("mobilenet_v2", "bf16"), ("mobilenet_v2", "int8")]
    with tempfile.TemporaryDirectory() as folder:
        for backbone, precision in cases:
            choice = ModelChoice(backbone=backbone, weights=_find_weights(backbone), precision=precision)
            collection = Path(folder) / f"{backbone}-{precision}"
            report = ingest(collection, [list_photographs()[0].parent.parent], choice)
            scores = _compute_scores(collection)
            agreement = f"{report.agreement.cosine:.4f}" if report.agreement else ""
            rows.append([backbone, report.precision, *(f"{score:.3f}" for score in scores), agreement])
    headings = ["backbone", "precision", "P@1", "P@10", "mAP", "mean cosine to f32"]
    return "## Quality\n\n1,200 photographs of 100 classes (`caltech101_small`), leave-one-out.\n\n" + format_table(
        headings, rows
    )


def _find_weights(backbone: str) -> str | None:
    """Find trained weights; quality cannot be measured with random ones."""
    if backbone in ("builtin", "histogram"):
        return None
    folder = SHARED / "weights"
    names = (f"{backbone}.weights.h5", f"{backbone}_notop.weights.h5")
    return next(str(folder / name) for name in names if (folder / name).is_file())


def _compute_scores(collection: Path) -> tuple[float, float, float]:
    with Catalog.open(collection) as catalog:
        index = IndexCache(catalog).open_exact_index(catalog.list_models()[0].fingerprint)
        ids, vectors = index.ids, index.vectors
        views = catalog.find_live_views(ids.tolist())
    labels = np.array([Path(views[view_id].paths[0]).parent.name for view_id in ids.tolist()])
    products = vectors @ vectors.T
    np.fill_diagonal(products, -np.inf)
    order = np.argsort(-products, axis=1)[:, :-1]
    hits = labels[order] == labels[:, None]
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    average = (precision * hits).sum(axis=1) / hits.sum(axis=1)
    return float(hits[:, 0].mean()), float(hits[:, :10].mean()), float(average.mean())
