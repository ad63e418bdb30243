"""Ingest with a fused model: each part embeds what it lacks, and the rows of the fused model are joined from theirs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from simsearch.errors import ModelError
from simsearch.images.views import ViewChoice
from simsearch.index.backends import open_index_backend
from simsearch.ingest.run import IngestOptions, IngestReport, run_ingest
from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.models.fusion import FusionTerm, join_terms, parse_fusion
from simsearch.store import settings
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.derived_models import define_fusion, update_derived_models
from simsearch.store.writer import CatalogWriter


def find_fusion(catalog: Catalog | None, choice: ModelChoice) -> tuple[FusionTerm, ...] | None:
    """Find the parts of the fused model that a choice names, also through a model that was learned on it.

    Without a backbone in the choice it is the collection's first model. None for a choice of another model. The parts
    of a model that the collection has are named by their fingerprints. Raises `UsageError`.
    """
    models = [] if catalog is None else catalog.list_models()
    if choice.backbone is None:
        named = models[:1]
    else:
        named = [one for one in models if choice.backbone in (one.model.backbone, one.fingerprint)]
    for stored in named:
        if stored.model.fusion is None:
            return None
        return tuple(FusionTerm(part.fingerprint, part.weight) for part in stored.model.fusion.parts)
    return None if choice.backbone is None else parse_fusion(choice.backbone)


def ingest_fusion(
    folder: Path, catalog: Catalog | None, terms: Sequence[FusionTerm], options: IngestOptions
) -> IngestReport:
    """Bring the collection up to date with the sources, for all parts of a fused model and for the model itself.

    The model is defined when all parts have their vectors; its center stays the same from then on. The counts of the
    report are those of the part that embedded most. Raises as `run_ingest`.
    """
    started = time.perf_counter()
    _check_parts(catalog, terms, options.choice)
    reports: list[IngestReport] = []
    parts: list[StoredModel] = []
    views = options.augment
    for term in terms:
        choice = replace(options.choice, backbone=term.backbone)
        with nullcontext(catalog) if catalog is not None else _open_new(folder, parts) as reader:
            if (imported := _find_imported(reader, term.backbone)) is not None:
                parts.append(imported)
                continue
            reports.append(run_ingest(folder, reader, replace(options, choice=choice, augment=views)))
        with Catalog.open(folder) as current:
            stored = current.find_model(reports[-1].model)
        assert stored is not None  # the run has just written it
        parts.append(stored)
        if options.augment != ViewChoice():  # all parts get the same views
            views = ViewChoice(stored.augmentation.n_views, stored.augmentation.seed, stored.augmentation.ranges)
    if not reports:
        problem = f"{join_terms(terms)} has imported vectors only and cannot embed pictures"
        raise ModelError(problem, "import further vectors, or choose another --backbone")
    options = replace(options, make_default=options.make_default or catalog is None)
    return _join_reports(folder, reports, parts, [term.weight for term in terms], options, started)


def fuse_models(writer: CatalogWriter, parts: Sequence[StoredModel], weights: Sequence[float]) -> StoredModel:
    """Define a fused model of models that the collection has, and build its index. Raises `UsageError`."""
    stored, has_changed = define_fusion(writer, parts, weights)
    if has_changed:
        with open_index_backend(writer) as indexes:
            indexes.refresh(stored.fingerprint)
    return stored


def _open_new(folder: Path, parts: Sequence[StoredModel]) -> nullcontext[None] | Catalog:
    """The catalog of a collection that the first part creates: none before that part."""
    return Catalog.open(folder) if parts else nullcontext(None)


def _check_parts(catalog: Catalog | None, terms: Sequence[FusionTerm], choice: ModelChoice) -> None:
    """Check the parts before anything is written. Raises `ModelError` where a part is unknown or lacks its weights."""
    if choice.has_model_options:
        raise ModelError(
            "--weights, --layer, --pooling and --resize do not apply to a fused model",
            "index with each part and its options first, then with the parts joined by +",
        )
    models = [] if catalog is None else catalog.list_models()
    for term in terms:
        if not any(term.backbone in (stored.model.backbone, stored.fingerprint) for stored in models):
            resolve_model(replace(choice, backbone=term.backbone))


def _find_imported(catalog: Catalog | None, backbone: str) -> StoredModel | None:
    models = [] if catalog is None else catalog.list_models()
    named = (stored for stored in models if backbone in (stored.model.backbone, stored.fingerprint))
    return next((stored for stored in named if stored.model.runtime == "imported"), None)


def _join_reports(
    folder: Path, reports: Sequence[IngestReport], parts: Sequence[StoredModel], weights: Sequence[float],
    options: IngestOptions, started: float,
) -> IngestReport:  # fmt: skip
    main = max(reports, key=lambda report: report.n_embedded)
    with CatalogWriter.open(folder) as writer:
        stored, _ = define_fusion(writer, parts, weights)
        with writer.transaction():
            run_id = writer.begin_run(stored.id, options.sources)
            writer.end_run(run_id, embedded=main.n_embedded, reused=main.n_reused)
            if options.make_default:
                writer.write_setting(settings.DEFAULT_MODEL, stored.fingerprint)
        derived = update_derived_models(writer, stored.fingerprint)
        with open_index_backend(writer) as indexes:
            for model in (stored, *derived):
                indexes.refresh(model.fingerprint)
        n_views, default = writer.count_vectors(stored.id), writer.list_models()[0].model.backbone
    stages: dict[str, float] = {}
    for report in reports:
        for stage, seconds in report.stages.items():
            stages[stage] = stages.get(stage, 0.0) + seconds
    return replace(
        main, model=stored.fingerprint, backbone=stored.model.backbone, precision=stored.model.precision,
        n_views=n_views, n_gone=max(report.n_gone for report in reports), agreement=None,
        elapsed_s=time.perf_counter() - started, stages=stages,
        default=default, notes=tuple(dict.fromkeys(note for report in reports for note in report.notes)),
    )  # fmt: skip
