"""Check the quality of a collection: pictures by their size and statistics, images by their vectors and labels.

The statistics of a picture are computed when it is indexed. Those of images that an older simsearch recorded are
computed from their files at the first check, and kept where the collection can be written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from simsearch.errors import CollectionError, ImageError, ModelNotIndexed, UsageError
from simsearch.images.decode import compute_default_max_pixels, decode_image
from simsearch.images.statistics import SIDE_PX, PictureStatistics, compute_statistics
from simsearch.index.protocol import IndexBackend
from simsearch.machine import count_cores
from simsearch.quality.picture_rules import judge_size, judge_statistics
from simsearch.quality.results import QUALITY_KINDS, QualityFinding, QualityReport
from simsearch.quality.vector_rules import find_mislabelled, find_nearest, find_outliers
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.originals import read_original
from simsearch.store.snapshot import Snapshot, StoredImage, open_snapshot
from simsearch.store.writer import CatalogWriter
from simsearch.visualization.clusters import derive_folder_labels

_CHUNK = 256
_ASCENDING = frozenset({"blurred", "dark", "uniform", "tiny", "outlier"})  # kinds whose worst has the smallest value


def check_quality(
    catalog: Catalog,
    indexes: IndexBackend,
    stored: StoredModel,
    *,
    labels: str | None = None,
    progress: Callable[[str, float], None] = lambda _stage, _share: None,
) -> QualityReport:
    """Check the images of a model. `labels` names a column with labels; by default the folders are the labels.

    Raises `ModelNotIndexed` where the model has no images, `UsageError` where no image has the column.
    """
    with open_snapshot(catalog.folder) as snapshot:
        view_ids, image_ids = snapshot.list_original_ids(stored.id)
        if not len(view_ids):
            problem = f"{catalog.folder} has no image of {stored.model.backbone}"
            raise ModelNotIndexed(str(catalog.folder), problem, "index a folder into it first")
        by_id = snapshot.read_images(image_ids.tolist())
        images = [by_id[image_id] for image_id in image_ids.tolist()]
        names, origin = _read_labels(images, labels)
        statistics = _complete_statistics(snapshot, images, progress)
    findings = list(_judge_pictures(images, statistics))
    n_views = stored.augmentation.n_views + 1
    index = indexes.open_exact_index(stored.fingerprint)
    nearest = find_nearest(index, view_ids, n_views, lambda share: progress("comparing vectors", 0.5 + share / 2))
    findings += find_outliers(images, nearest)
    findings += find_mislabelled(images, names, nearest)
    n_unread = sum(image.image_id not in statistics for image in images)
    return QualityReport(len(images), n_unread, origin, tuple(sorted(findings, key=_make_sort_key)))


def _read_labels(images: Sequence[StoredImage], column: str | None) -> tuple[list[str | None], str]:
    if column is not None:
        names = [None if (value := image.columns.get(column)) is None else str(value) for image in images]
        if not any(name is not None for name in names):
            raise UsageError(f"no image has a column {column!r}", "name another one; `simsearch info` lists them")
        return names, f"column {column}"
    folders = derive_folder_labels([image.files[0].path for image in images])
    return ([None] * len(images), "") if folders is None else (list(folders), "folders")


def _judge_pictures(
    images: Sequence[StoredImage], statistics: Mapping[int, PictureStatistics]
) -> Iterator[QualityFinding]:
    for image in images:
        if image.width and image.height:  # not known of vectors whose pictures have not been read
            yield from judge_size(image)
        if (measured := statistics.get(image.image_id)) is not None:
            yield from judge_statistics(image, measured)


def _complete_statistics(
    snapshot: Snapshot, images: Sequence[StoredImage], progress: Callable[[str, float], None]
) -> dict[int, PictureStatistics]:
    """The statistics of all images that can be read, by id; missing ones are computed and kept."""
    known = snapshot.read_statistics()
    missing = [image for image in images if image.image_id not in known]
    max_pixels = compute_default_max_pixels()

    def compute(image: StoredImage) -> PictureStatistics | None:
        try:
            raw = read_original(image, max_pixels)
            picture = decode_image(raw.data, raw.path, max_pixels=max_pixels, target_px=SIDE_PX)
        except ImageError:
            return None
        return compute_statistics(picture.image)

    with ThreadPoolExecutor(max_workers=count_cores()) as pool:
        for start in range(0, len(missing), _CHUNK):
            some = missing[start : start + _CHUNK]
            measured = {
                image.image_id: found
                for image, found in zip(some, pool.map(compute, some), strict=True)
                if found is not None
            }
            known |= measured
            with (
                contextlib.suppress(CollectionError),  # read-only, or another process writes: computed again next time
                CatalogWriter.open(snapshot.catalog.folder) as writer,
                writer.transaction(),
            ):
                writer.record_statistics(measured.items())
            progress("reading pictures", 0.5 * (start + len(some)) / len(missing))
    return known


def _make_sort_key(finding: QualityFinding) -> tuple[int, float, int]:
    sign = 1 if finding.kind in _ASCENDING else -1
    return QUALITY_KINDS.index(finding.kind), sign * finding.value, finding.image_id
