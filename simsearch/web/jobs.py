"""Background jobs: duplicates and the map take longer than a request may, so they run in a thread and are kept."""

from __future__ import annotations

import asyncio
import collections
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from simsearch.collection import Collection
from simsearch.duplicates.options import TIERS, DuplicateOptions, Tier
from simsearch.duplicates.results import DuplicateReport
from simsearch.errors import SimsearchError
from simsearch.learn.suggestions import LabelSuggestion, suggest_images
from simsearch.models.weights import WeightsOptions
from simsearch.quality.results import QualityReport
from simsearch.report.map import CollectionMap, MapImage, write_map_page
from simsearch.visualization.overview import Clustering, CollectionLayout, ImageSelection
from simsearch.web.indexing import IndexedUploads, UploadIndexer
from simsearch.web.settings import ServerSettings
from simsearch.web.threads import WorkerThreads

T = TypeVar("T")

ReportProgress = Callable[[str, float], None]
"""Called with the current stage and the fraction that is done, from 0 to 1."""

SuggestionList = tuple[LabelSuggestion, ...]
"""Images to label next, the most useful first."""

_WAIT_STEP_S = 0.05
_MAX_JOBS = 8
_MAX_ENDED = 32

JobKind = Literal["duplicates", "quality", "clusters", "layout", "map", "suggestions", "indexing"]
JobState = Literal["waiting", "running", "done", "failed", "cancelled"]


class JobCancelled(SimsearchError):
    """A background job was cancelled before it had a result."""


class JobNotFound(SimsearchError):
    """There is no background job with this id."""


@dataclass(slots=True)
class BackgroundJob(Generic[T]):
    """A result that is being computed. `stage` is the current stage, `fraction` the part that is done, from 0 to 1.

    `job_id` names the job in URLs. `keeps_result` states that the job answers later requests, too, until the
    collection changes.
    """

    future: Future[T]
    kind: JobKind = "duplicates"
    keeps_result: bool = True
    job_id: str = field(default_factory=lambda: secrets.token_hex(8))
    stage: str = "waiting"
    fraction: float = 0.0
    is_cancelled: bool = False

    @property
    def is_done(self) -> bool:
        """Whether the job has ended, with a result or an error."""
        return self.future.done()

    @property
    def state(self) -> JobState:
        """The state of the job."""
        if self.is_cancelled:
            return "cancelled"
        if not self.future.done():
            return "running" if self.future.running() else "waiting"
        return "failed" if self.future.exception() is not None else "done"

    async def wait(self, most_s: float) -> None:
        """Wait until the job is done, at most so many seconds. `result` tells its error."""
        end = time.monotonic() + most_s
        while not self.is_done and time.monotonic() < end:
            await asyncio.sleep(_WAIT_STEP_S)

    def result(self) -> T:
        """Return the result of a job that is done, or raise its error, which is `JobCancelled` after `cancel`."""
        if self.is_cancelled:
            raise JobCancelled("the job was cancelled", "request it again to start it anew")
        return self.future.result()

    def report_progress(self, stage: str, fraction: float) -> None:
        """Note the progress. Raises `JobCancelled` if the job was cancelled, which ends it."""
        if self.is_cancelled:
            raise JobCancelled("the job was cancelled", "request it again to start it anew")
        self.stage, self.fraction = stage, fraction


class BackgroundJobs:
    """Jobs over a whole collection, run one at a time. Results are kept until the collection changes.

    `threads` may be shared with other collections.
    """

    def __init__(self, settings: ServerSettings, threads: WorkerThreads) -> None:
        self._settings = settings
        self._threads = threads
        self._jobs: dict[tuple[Any, ...], BackgroundJob[Any]] = {}
        self._ended: collections.deque[BackgroundJob[Any]] = collections.deque(maxlen=_MAX_ENDED)
        self._lock = threading.RLock()  # cancelling a future calls back at once
        self._n_indexings = 0

    def find(self, job_id: str) -> BackgroundJob[Any]:
        """Find a job by its id. Raises `JobNotFound`."""
        with self._lock:
            for job in (*self._jobs.values(), *self._ended):
                if job.job_id == job_id:
                    return job
        raise JobNotFound("there is no such job", "request the result again to start it anew")

    def cancel(self, job_id: str) -> BackgroundJob[Any]:
        """Cancel a job that is not done: one that runs ends at its next step. Raises `JobNotFound`."""
        job = self.find(job_id)
        with self._lock:
            if not job.is_done:
                job.is_cancelled = True
                job.future.cancel()
                self._jobs = {key: other for key, other in self._jobs.items() if other is not job}
                self._ended.append(job)
        return job

    def find_duplicates(self, collection: Collection, tier: Tier) -> BackgroundJob[DuplicateReport]:
        """Return the job that finds duplicates down to a tier, and start it if needed."""

        def find(opened: Collection, progress: ReportProgress) -> DuplicateReport:
            options, weights = DuplicateOptions(down_to=tier), WeightsOptions(offline=self._settings.offline)
            return opened.duplicates(options, backbone=self._settings.backbone, weights=weights, progress=progress)

        return self._submit("duplicates", (tier, *self._build_state_key(collection)), find)

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
                    kept: BackgroundJob[DuplicateReport] = BackgroundJob(Future(), "duplicates")
                    kept.future.set_result(_drop_group(job.result(), set(image_ids)))
                    self._jobs[("duplicates", tier, *after)] = kept

    def unreject_duplicates(self, image_ids: Sequence[int]) -> None:
        """Forget that images are no duplicates of each other. Raises what `reject_duplicates` raises."""
        with Collection.open(self._settings.collection) as opened:
            opened.unreject_duplicates(image_ids)

    def cluster(self, collection: Collection, k: int | None, where: str | None) -> BackgroundJob[Clustering]:
        """Return the job that clusters the images that match a filter, and start it if needed."""

        def cluster(opened: Collection, progress: ReportProgress) -> Clustering:
            progress("clustering", 0.2)
            return opened.clusters(k, backbone=self._settings.backbone, selection=ImageSelection(where or None))

        return self._submit("clusters", (k, where, *self._build_state_key(collection)), cluster)

    def check_quality(self, collection: Collection) -> BackgroundJob[QualityReport]:
        """Return the job that looks for pictures that are worth a look, and start it if needed."""

        def check(opened: Collection, progress: ReportProgress) -> QualityReport:
            return opened.check_quality(backbone=self._settings.backbone, progress=progress)

        return self._submit("quality", self._build_state_key(collection), check)

    def suggest_labels(self, collection: Collection, column: str, n: int) -> BackgroundJob[SuggestionList]:
        """Return the job that finds n images to label next in a column, and start it if needed."""

        def suggest(opened: Collection, progress: ReportProgress) -> SuggestionList:
            progress("comparing with the labels", 0.2)
            return suggest_images(opened, n, backbone=self._settings.backbone, column=column)

        return self._submit("suggestions", (column, n, *self._build_state_key(collection)), suggest)

    def lay_out(self, collection: Collection) -> BackgroundJob[CollectionLayout]:
        """Return the job that lays out the images on the map, and start it if needed."""

        def lay_out(opened: Collection, progress: ReportProgress) -> CollectionLayout:
            progress("laying out", 0.2)
            return opened.arrangement(backbone=self._settings.backbone)

        return self._submit("layout", self._build_state_key(collection), lay_out)

    def index_uploads(self, indexer: UploadIndexer, threads: WorkerThreads) -> BackgroundJob[IndexedUploads]:
        """Return a job that indexes the uploads stored until now: the one that waits to begin, or a new one."""

        def index(progress: ReportProgress) -> IndexedUploads:
            progress("indexing", 0.1)
            return indexer.run()

        with self._lock:
            for key, job in self._jobs.items():
                if key[0] == "indexing" and job.state == "waiting":
                    return job
            self._n_indexings += 1
            new: BackgroundJob[IndexedUploads] = BackgroundJob(Future(), "indexing", keeps_result=False)
            return self._start(new, ("indexing", self._n_indexings), index, threads)

    def draw_map(self, collection: Collection) -> BackgroundJob[bytes]:
        """Return the job that draws the map as an HTML page with links to this server, and start it if needed."""

        key = self._build_state_key(collection)
        with self._lock:
            known = self._jobs.get(("layout", *key))

        def draw(opened: Collection, progress: ReportProgress) -> bytes:
            progress("laying out", 0.2)
            is_known = known is not None and known.state == "done"
            layout = known.result() if known and is_known else opened.arrangement(backbone=self._settings.backbone)
            progress("drawing", 0.6)
            root = self._settings.root
            images = [
                MapImage(image.image_id, image.path, image.label, f"{root}/images/{image.image_id}")
                for image in layout.images
            ]
            title = f"{self._settings.name} ({layout.backbone})"
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "map.html"
                names, search_url = layout.name_clusters(), f"{root}/?like="
                write_map_page(CollectionMap(title, images, layout.grid, layout.clusters, names, search_url), file)
                return file.read_bytes()

        return self._submit("map", key, draw)

    def _build_state_key(self, collection: Collection) -> tuple[Any, ...]:
        """Build a key that changes with the collection: the model, its vectors, the files and the rejected pairs."""
        stored = collection.model(self._settings.backbone)
        return stored.fingerprint, stored.change_token, collection.catalog.change_token

    def _submit(
        self, kind: JobKind, state: tuple[Any, ...], compute: Callable[[Collection, ReportProgress], T]
    ) -> BackgroundJob[T]:
        key = (kind, *state)
        with self._lock:
            if (known := self._jobs.get(key)) is not None:
                if known.state == "failed":  # its error is told once; the next request tries again
                    self._ended.append(self._jobs.pop(key))
                return known
            results = [one for one, job in self._jobs.items() if job.keeps_result]
            for old in results[: max(0, len(results) - _MAX_JOBS + 1)]:
                self._jobs.pop(old).future.cancel()

            def run(progress: ReportProgress) -> T:
                with Collection.open(self._settings.collection) as opened:
                    return compute(opened, progress)

            return self._start(BackgroundJob(Future(), kind), key, run, self._threads)

    def _start(
        self, job: BackgroundJob[T], key: tuple[Any, ...], run: Callable[[ReportProgress], T], threads: WorkerThreads
    ) -> BackgroundJob[T]:
        """Start a job, with the lock held. One that keeps no result is forgotten when others have ended."""
        self._jobs[key] = job

        def work() -> None:
            if not job.future.set_running_or_notify_cancel():
                return
            try:
                result = run(job.report_progress)
                job.report_progress("done", 1.0)
                job.future.set_result(result)
            except BaseException as error:
                job.future.set_exception(error)
            if not job.keeps_result:
                with self._lock:
                    if self._jobs.pop(key, None) is not None:
                        self._ended.append(job)

        threads.submit(work)
        return job


def _drop_group(report: DuplicateReport, image_ids: set[int]) -> DuplicateReport:
    """Drop the groups with more than one image whose images are all among these."""
    groups = tuple(
        group
        for group in report.groups
        if len(group.members) < 2 or not {member.image_id for member in group.members} <= image_ids
    )
    return replace(report, groups=groups)
