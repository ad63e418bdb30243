"""Learning from the labels of a collection: choose a map, estimate its gain, and store it as a model if it helps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from simsearch.collection import Collection
from simsearch.errors import UsageError
from simsearch.evaluation.statistics import bootstrap_interval, compute_paired_p_value
from simsearch.index.backends import open_index_backend
from simsearch.learn.image_labels import ImageLabels, LabelChoice, read_labels
from simsearch.learn.moments import LabeledMoments, MapSettings, Vectors
from simsearch.learn.results import Gain, LearnReport
from simsearch.learn.selection import LabeledVectors, PairedScores, choose_settings, estimate_gains
from simsearch.learn.splits import Positions, Task, group_copies
from simsearch.maintenance import add_fused_models
from simsearch.models.choice import relocate_weights
from simsearch.models.graph_operations import Operation
from simsearch.models.label_map import LabelMap
from simsearch.models.loader import LoadOptions, read_operations
from simsearch.models.model import LearnedMap
from simsearch.models.onnx_export import write_onnx
from simsearch.models.projection import Projection
from simsearch.models.weights import WeightsOptions
from simsearch.store import settings
from simsearch.store.catalog import StoredModel
from simsearch.store.derived_models import update_derived_models
from simsearch.store.embedders import LEARNED_METHOD
from simsearch.store.snapshot import open_model_views
from simsearch.store.writer import CatalogWriter

MAX_FEATURES = 512
"""Vectors of more dimensions are reduced to this number by PCA before learning."""

MAX_SELECTION = 10_000
"""Settings are chosen, and the gain is estimated, on a sample of at most this many labeled images."""

_MIN_CLASSES_TO_SPLIT = 4
"""With fewer classes the gain for new classes cannot be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnOptions:
    """What to learn from, and for what.

    `task` is what the map is for: `known` new images of the labeled classes, `new` other classes, None both: the best
    for both together that is not worse for new classes. `name` is the backbone name of the learned model, by default
    that of the base with `-learned`. With `force` the map is stored even if it does not help. `export` is an ONNX file
    to write the backbone with its map to.
    """

    backbone: str | None = None
    labels: LabelChoice = field(default_factory=LabelChoice)
    task: Task | None = None
    name: str | None = None
    seed: int = 0
    force: bool = False
    export: Path | None = None
    progress: Callable[[str], None] = lambda _: None


def learn_from_labels(collection: Collection, options: LearnOptions) -> LearnReport:
    """Learn a map of a model's vectors from labels, and store it as a model of the collection if it helps.

    The estimate is a nested cross-validation: it never measures with an image, or a near copy of one, that the map or
    the choice of its settings has seen. No image is read. Raises `UsageError` where the labels allow no learning.
    """
    started = time.perf_counter()
    base = collection.model(options.backbone)
    if base.model.learned is not None:
        raise UsageError(f"{base.model.backbone} was itself learned", f"give --backbone {base.model.learned.backbone}")
    name = _choose_name(collection, base, options.name)
    operations = None if options.export is None else _read_operations(options.export, base)
    options.progress("reading vectors and labels")
    labels, vectors = _read_vectors(collection, base, options.labels)
    reduction = _reduce(vectors) if vectors.shape[1] > MAX_FEATURES else None
    features = vectors if reduction is None else _project(vectors, reduction)
    sample = _sample(labels, np.random.default_rng(options.seed))
    copies = group_copies(vectors[sample])
    data = LabeledVectors(vectors[sample], features[sample], labels.classes[sample], copies)
    options.progress("choosing settings")
    settings = choose_map_settings(data, options)
    options.progress("estimating the gain")
    gains = _estimate(data, options)
    report = LearnReport(
        collection=str(collection.folder), base=base.model.backbone, labels=labels.origin, n_images=len(vectors),
        n_classes=labels.n_classes, n_copies=len(sample) - len(np.unique(copies)), known=gains["known"],
        new=gains["new"], settings=settings, name=None, model=None, width=None, exported=None,
        elapsed_s=0.0, notes=labels.notes,
    )  # fmt: skip
    if options.force or _helps(report, options.task):
        learned = LabeledMoments(features, labels.classes).build_map(settings, features)
        label_map = learned if reduction is None else _join(reduction, learned)
        stored = _store(collection, base, name, label_map, len(vectors))
        report = replace(report, name=name, model=stored.fingerprint, width=stored.width)
        if operations is not None and options.export is not None:
            options.progress(f"writing {options.export}")
            write_onnx(options.export, operations, base.model, label_map)
            report = replace(report, exported=str(options.export))
    return replace(report, elapsed_s=time.perf_counter() - started)


def _choose_name(collection: Collection, base: StoredModel, name: str | None) -> str:
    chosen = name or f"{base.model.backbone.replace('+', '-').replace('*', 'x')}-learned"
    if any(s.model.backbone == chosen and s.model.learned is None for s in collection.catalog.list_models()):
        raise UsageError(f"the collection has a backbone {chosen} already", "give another --name")
    if "+" in chosen:
        raise UsageError(f"the name {chosen} has a +, which joins backbones", "give another --name")
    return chosen


def _read_operations(file: Path, base: StoredModel) -> list[Operation]:
    """Read the network to export, before anything is learned, so that what cannot be exported is known at once."""
    if file.suffix != ".onnx":
        raise UsageError(f"{file} does not end in .onnx", "give --export a file that does")
    options = LoadOptions(locate=lambda model: relocate_weights(model, WeightsOptions(offline=True)))
    return read_operations(base.model, options)


def _read_vectors(collection: Collection, base: StoredModel, choice: LabelChoice) -> tuple[ImageLabels, Vectors]:
    """Read the labels and the vectors (n, d) of the labeled images."""
    labels = read_labels(collection.catalog, base, choice)
    with open_model_views(collection.folder, base, originals_only=True) as views:
        blocks = [rows for _, rows in views.iterate_blocks(labels.view_ids)]
    return labels, np.concatenate(blocks)


def reduce_vectors(vectors: Vectors) -> tuple[Vectors, Callable[[Vectors], Vectors]]:
    """Reduce vectors (n, d) to the features to learn from, and return a function that does it with others."""
    if vectors.shape[1] <= MAX_FEATURES:
        return vectors, lambda others: others
    reduction = _reduce(vectors)
    return _project(vectors, reduction), lambda others: _project(others, reduction)


def _reduce(vectors: Vectors) -> Projection:
    return Projection.fit(vectors, MAX_FEATURES)


def _project(vectors: Vectors, reduction: Projection) -> Vectors:
    return np.asarray((vectors - reduction.mean) @ reduction.axes, np.float32)


def _join(reduction: Projection, learned: LabelMap) -> LabelMap:
    """Put a reduction before a map: the axes of the reduction are orthonormal."""
    mean = reduction.mean + reduction.axes @ learned.whitening.mean
    whitening = Projection(mean, reduction.axes @ learned.whitening.axes)
    return replace(learned, whitening=whitening, class_weights=reduction.axes @ learned.class_weights)


def _sample(labels: ImageLabels, rng: np.random.Generator) -> Positions:
    """Draw the images to choose settings on: all, or as many of each class as the limit allows."""
    if len(labels.classes) <= MAX_SELECTION:
        return np.arange(len(labels.classes))
    order = rng.permutation(len(labels.classes))
    by_class = order[np.argsort(labels.classes[order], kind="stable")]
    sizes = np.bincount(labels.classes)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(by_class[np.argsort(rank, kind="stable")[:MAX_SELECTION]])


def choose_map_settings(data: LabeledVectors, options: LearnOptions) -> MapSettings:
    """Choose the settings of a map for the task of the options, by cross-validation on the data alone."""

    def rate(gains: Mapping[Task, float]) -> float:
        if options.task is not None:
            return gains[options.task]
        return gains["known"] + gains["new"] if gains["new"] >= 0 else gains["new"]

    return choose_settings(data, rate, np.random.default_rng(options.seed))


def _estimate(data: LabeledVectors, options: LearnOptions) -> dict[Task, Gain | None]:
    rng = np.random.default_rng(options.seed + 1)
    scores = estimate_gains(data, lambda learned: choose_map_settings(learned, options), rng)
    n_classes = len(np.unique(data.classes))
    is_measurable = {"known": True, "new": n_classes >= _MIN_CLASSES_TO_SPLIT}
    return {task: _summarize(paired, options.seed) if is_measurable[task] else None for task, paired in scores.items()}


def _summarize(scores: PairedScores, seed: int) -> Gain | None:
    if not len(scores.before):
        return None
    low, high = bootstrap_interval(scores.after - scores.before, seed=seed)
    p = compute_paired_p_value(scores.after, scores.before, seed=seed)
    before, after = float(scores.before.mean()), float(scores.after.mean())
    return Gain(len(scores.before), before, after, low, high, p)


def _helps(report: LearnReport, task: Task | None) -> bool:
    """Whether the map is better for its task; for both, whether it is better for one and not worse for the other."""
    wanted: Sequence[Gain | None] = (report.known, report.new) if task is None else (getattr(report, task),)
    measured = [gain for gain in wanted if gain is not None]
    return any(gain.is_better for gain in measured) and not any(gain.is_worse for gain in measured)


def _store(collection: Collection, base: StoredModel, name: str, label_map: LabelMap, n_learned: int) -> StoredModel:
    """Write the learned model with its vectors, in place of an earlier one of the same name."""
    learned = LearnedMap(base.fingerprint, base.model.backbone, label_map.digest)
    model = replace(base.model, backbone=name, learned=learned)
    with collection.write() as writer:
        with writer.transaction():
            former = [old for old in writer.list_models() if old.model.backbone == name]
            former = [old for old in former if old.fingerprint != model.fingerprint]
            former = add_fused_models(writer, former)
            was_default = writer.read_setting(settings.DEFAULT_MODEL) in {old.fingerprint for old in former}
            for old in former:
                writer.forget_model(old)
            stored = writer.add_model(model, label_map.width, model.fingerprint)
            if was_default:
                writer.write_setting(settings.DEFAULT_MODEL, stored.fingerprint)
            writer.keep_default_model()
            writer.write_projection(stored.id, LEARNED_METHOD, n_learned, label_map.to_bytes())
            if (graph := writer.read_graph(base.id)) is not None:
                writer.write_graph(stored.id, graph)
        update_derived_models(writer, base.fingerprint)
        _refresh_indexes(writer, stored, former)
    return stored


def _refresh_indexes(writer: CatalogWriter, stored: StoredModel, former: Sequence[StoredModel]) -> None:
    with open_index_backend(writer) as indexes:
        for old in former:
            indexes.discard(old.fingerprint)
        indexes.refresh(stored.fingerprint)
