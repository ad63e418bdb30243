"""Background jobs: duplicates and the map take longer than a request may, so they run in a thread and are kept."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from simsearch.collection import Collection
from simsearch.duplicates.options import TIERS, DuplicateOptions, Tier
from simsearch.duplicates.results import DuplicateReport
from simsearch.models.weights import WeightsOptions
from simsearch.report.map import CollectionMap, MapImage, write_map_page
from simsearch.web.settings import ServerSettings
from simsearch.web.threads import WorkerThreads

T = TypeVar("T")

ReportProgress = Callable[[str, float], None]
"""Called with the current stage and the fraction that is done, from 0 to 1."""

_MAX_JOBS = 8


@dataclass(slots=True)
class BackgroundJob(Generic[T]):
    """A result that is being computed. `stage` is the current stage, `fraction` the part that is done, from 0 to 1."""

    future: Future[T]
    stage: str = "waiting"
    fraction: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether the job has ended, with a result or an error."""
        return self.future.done()

    def result(self) -> T:
        """Return the result of a job that is done, or raise its error."""
        return self.future.result()


class BackgroundJobs:
    """Jobs over a whole collection, run one at a time. Results are kept until the collection changes."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._threads = WorkerThreads("job", 1)
        self._jobs: dict[tuple[Any, ...], BackgroundJob[Any]] = {}
        self._lock = threading.Lock()

    def find_duplicates(self, collection: Collection, tier: Tier) -> BackgroundJob[DuplicateReport]:
        """Return the job that finds duplicates down to a tier, and start it if needed."""

        def find(opened: Collection, progress: ReportProgress) -> DuplicateReport:
            options, weights = DuplicateOptions(down_to=tier), WeightsOptions(offline=self._settings.offline)
            return opened.duplicates(options, backbone=self._settings.backbone, weights=weights, progress=progress)

        return self._submit(("duplicates", tier, *self._build_state_key(collection)), find)

    def reject_duplicates(self, collection: Collection, image_ids: Sequence[int]) -> None:
        """Mark images as no duplicates of each other. Finished reports stay, without the group of these images.

        So the next page is there at once; a search starts again with the next change of the collection.

        Raises `UsageError`, `ImageNotFound` or a `CollectionError`.
        """
        before = self._build_state_key(collection)
        with Collection.open(self._settings.collection) as opened:
            opened.reject_duplicates(image_ids)
        after = self._build_state_key(collection)
        with self._lock:
            for tier in TIERS:
                job = self._jobs.get(("duplicates", tier, *before))
                if job is not None and job.is_done and job.future.exception() is None:
                    kept: BackgroundJob[DuplicateReport] = BackgroundJob(Future())
                    kept.future.set_result(_drop_group(job.result(), set(image_ids)))
                    self._jobs[("duplicates", tier, *after)] = kept

    def unreject_duplicates(self, image_ids: Sequence[int]) -> None:
        """Forget that images are no duplicates of each other. Raises what `reject_duplicates` raises."""
        with Collection.open(self._settings.collection) as opened:
            opened.unreject_duplicates(image_ids)

    def draw_map(self, collection: Collection) -> BackgroundJob[bytes]:
        """Return the job that draws the map as an HTML page with links to this server, and start it if needed."""

        def draw(opened: Collection, progress: ReportProgress) -> bytes:
            progress("laying out", 0.2)
            layout = opened.arrangement(backbone=self._settings.backbone)
            progress("drawing", 0.6)
            images = [
                MapImage(image.image_id, image.path, image.label, f"/images/{image.image_id}")
                for image in layout.images
            ]
            title = f"{Path(self._settings.collection).absolute().name} ({layout.backbone})"
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "map.html"
                write_map_page(CollectionMap(title, images, layout.grid, layout.clusters), file)
                return file.read_bytes()

        return self._submit(("map", *self._build_state_key(collection)), draw)

    def close(self, end: float) -> bool:
        """Drop waiting jobs, and wait for the running one, as `WorkerThreads.close` does."""
        return self._threads.close(end)

    def _build_state_key(self, collection: Collection) -> tuple[Any, ...]:
        """Build a key that changes with the collection: the model, its vectors, the files and the rejected pairs."""
        stored = collection.model(self._settings.backbone)
        return stored.fingerprint, stored.change_token, collection.catalog.change_token

    def _submit(self, key: tuple[Any, ...], compute: Callable[[Collection, ReportProgress], T]) -> BackgroundJob[T]:
        with self._lock:
            if key in self._jobs:
                return self._jobs[key]
            while len(self._jobs) >= _MAX_JOBS:
                self._jobs.pop(next(iter(self._jobs))).future.cancel()
            job: BackgroundJob[T] = BackgroundJob(Future())
            self._jobs[key] = job

        def report_progress(stage: str, fraction: float) -> None:
            job.stage, job.fraction = stage, fraction

        def work() -> None:
            if not job.future.set_running_or_notify_cancel():
                return
            try:
                with Collection.open(self._settings.collection) as opened:
                    job.future.set_result(compute(opened, report_progress))
            except BaseException as error:
                job.future.set_exception(error)
                self._forget(key)

        self._threads.submit(work)
        return job

    def _forget(self, key: tuple[Any, ...]) -> None:
        """Remove a failed job, so that the next request tries again."""
        with self._lock:
            self._jobs.pop(key, None)


def _drop_group(report: DuplicateReport, image_ids: set[int]) -> DuplicateReport:
    """Drop the groups with more than one image whose images are all among these."""
    groups = tuple(
        group
        for group in report.groups
        if len(group.members) < 2 or not {member.image_id for member in group.members} <= image_ids
    )
    return replace(report, groups=groups)
