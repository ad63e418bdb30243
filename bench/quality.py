"""What lower precision does to answers: leave-one-out over labelled photographs, brute force in NumPy."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from bench.setup import photographs, table, weights_of
from simsearch import Collection, ModelChoice
from simsearch.store.cache import IndexCache
from simsearch.store.catalog import Catalog


def measure() -> str:
    """The section of the report."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("f32", "bf16", "int8"):
            choice = ModelChoice(backbone="mobilenet_v2", weights=weights_of("mobilenet_v2"), precision=precision)
            collection = Path(folder) / precision
            report = Collection.ingest(collection, [photographs()[0].parent.parent], choice)
            scores = _scores(collection)
            agreement = f"{report.agreement.cosine:.4f}" if report.agreement else ""
            rows.append([report.precision, *(f"{score:.4f}" for score in scores), agreement])
    headings = ["precision", "P@1", "P@10", "mAP", "mean cosine to f32"]
    return "## Quality of lower precision\n\nMobileNetV2 on `caltech101_small`, leave-one-out.\n\n" + table(
        headings, rows
    )


def _scores(collection: Path) -> tuple[float, float, float]:
    with Catalog.open(collection) as catalog:
        index = IndexCache(catalog).index(catalog.models()[0].model.fingerprint)
        ids, vectors = index.ids, index.vectors
        views = catalog.live_views(ids.tolist())
    labels = np.array([Path(views[view_id].paths[0]).parent.name for view_id in ids.tolist()])
    products = vectors @ vectors.T
    np.fill_diagonal(products, -np.inf)
    order = np.argsort(-products, axis=1)[:, :-1]
    hits = labels[order] == labels[:, None]
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    average = (precision * hits).sum(axis=1) / hits.sum(axis=1)
    return float(hits[:, 0].mean()), float(hits[:, :10].mean()), float(average.mean())
