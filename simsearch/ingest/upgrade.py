"""Move a collection from a former version of the built-in network to the current one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simsearch.images.views import Augmentation, ViewChoice
from simsearch.ingest.run import IngestOptions, IngestReport, run_ingest
from simsearch.models.builtin import versions
from simsearch.models.choice import ModelChoice
from simsearch.sources.addresses import is_remote
from simsearch.store.catalog import Catalog, StoredModel


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """The result of an upgrade.

    `runs` are the ingest runs, one for each former model. `finished` are the former models whose images all have a
    vector of the new one, by fingerprint; `n_left` counts the images that have a vector of a former model only.
    """

    collection: str
    runs: tuple[IngestReport, ...]
    finished: tuple[str, ...]
    n_left: int

    def to_dict(self) -> dict[str, Any]:
        """The report as `simsearch upgrade --json` prints it."""
        return {
            "collection": self.collection,
            "runs": [run.to_dict() for run in self.runs],
            "deleted_models": list(self.finished),
            "images_left": self.n_left,
        }


def run_upgrade(folder: Path, catalog: Catalog, options: IngestOptions) -> UpgradeReport:
    """Embed the files of a collection with the current version of the built-in network, where it has a former one.

    Resize rule and augmented views are those of the former model. `options` gives the rest; its sources are replaced by
    the files in the catalog that exist. Nothing is deleted: the caller deletes the models that are `finished`.

    Raises as `run_ingest`.
    """
    runs, finished, n_left = [], [], 0
    for former in [stored for stored in catalog.list_models() if versions.is_former(stored.model)]:
        choice = ModelChoice(backbone=former.model.backbone, resize=former.model.resize)
        listing = b"\0".join([*map(os.fsencode, _list_existing(catalog.iterate_paths())), b""])
        views = _keep_views(former.augmentation)
        is_default = catalog.list_models()[0].fingerprint == former.fingerprint
        run = replace(options, sources=("-",), stdin=listing, choice=choice, augment=views, make_default=is_default)
        report = run_ingest(folder, catalog, run)
        runs.append(report)
        if left := catalog.count_images_without(former.id, _find_stored(catalog, report.model).id):
            n_left += left
        else:
            finished.append(former.fingerprint)
    return UpgradeReport(str(folder), tuple(runs), tuple(finished), n_left)


def _list_existing(paths: Iterable[str]) -> list[str]:
    """Leave out missing files, which an ingest run would delete from the collection: their disk may be away."""
    return [path for path in paths if is_remote(path) or os.path.exists(path)]


def _keep_views(augmentation: Augmentation) -> ViewChoice:
    return ViewChoice(augmentation.n_views, augmentation.seed, augmentation.ranges)


def _find_stored(catalog: Catalog, fingerprint: str) -> StoredModel:
    stored = catalog.find_model(fingerprint)
    assert stored is not None  # the run has just written it
    return stored
