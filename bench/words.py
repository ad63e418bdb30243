"""Quality of word queries: class names as queries over labeled photographs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from bench.setup import find_weights, format_table, ingest, list_photographs
from simsearch import Collection, ModelChoice
from simsearch.models.text.vocabulary import parse_text
from simsearch.models.weights import WeightsOptions


def measure() -> str:
    """Measure and format the section of the report."""
    photographs = list_photographs()[0].parent.parent
    names = sorted(folder.name for folder in photographs.iterdir() if folder.is_dir())
    known = [name for name in names if _is_known(name)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for backbone in ("builtin", "mobilenet_v2"):
            weights = None if backbone == "builtin" else find_weights(backbone)
            ingest(
                Path(folder) / backbone, [photographs], ModelChoice(backbone=backbone, weights=weights, offline=True)
            )
            with Collection.open(Path(folder) / backbone) as collection:
                if collection.answers_text():
                    scores = np.mean([_compute_scores(collection, name) for name in known], axis=0)
                    rows.append([backbone, *(f"{score:.3f}" for score in scores)])
    intro = f"{len(known)} class names of {len(names)} that the vocabulary knows, as queries over {photographs.name}."
    return f"## Words\n\n{intro}\n\n" + format_table(["backbone", "mAP", "P@10"], rows)


def _is_known(name: str) -> bool:
    parsed = parse_text(name.replace("_", " "))
    return len(parsed.known) == 1 and not parsed.unknown


def _compute_scores(collection: Collection, name: str) -> tuple[float, float]:
    """Average precision and precision at 10 of one class name."""
    answer = collection.search(text=name.replace("_", " "), k=None, weights=WeightsOptions(offline=True))
    relevant = np.array([Path(hit.path).parent.name == name for hit in answer.hits])
    precisions = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
    return float(precisions[relevant].mean()), float(relevant[:10].mean())
