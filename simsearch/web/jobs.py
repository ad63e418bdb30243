"""What takes longer than a visitor waits for: duplicates and the map, made in the background and kept."""

from __future__ import annotations

import json
import re
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from simsearch.collection import Collection
from simsearch.duplicates.results import DuplicateOptions, DuplicateReport, Tier
from simsearch.models.weights import WeightsOptions
from simsearch.report.map import CollectionMap, MapImage, write_map_page
from simsearch.web.settings import ServerSettings

T = TypeVar("T")

_FACTS_PATTERN = re.compile(r'(<script type="application/json" id="facts">)(.*?)(</script>)', re.DOTALL)
_MAX_JOBS = 8


@dataclass(slots=True)
class BackgroundJob(Generic[T]):
    """Something that is being made. `stage` and `share` say how far it is."""

    future: Future[T]
    stage: str = "waiting"
    share: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether there is a result, or a failure in its place."""
        return self.future.done()

    def result(self) -> T:
        """What was made. Raises what went wrong."""
        return self.future.result()


class BackgroundJobs:
    """What was made of a collection as a whole, by the state of the collection it was made of. One at a time."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="overview")
        self._jobs: dict[tuple[Any, ...], BackgroundJob[Any]] = {}
        self._lock = threading.Lock()

    def find_duplicates(self, collection: Collection, tier: Tier) -> BackgroundJob[DuplicateReport]:
        """The groups of duplicates, as far down as a tier; begun if nobody asked since the collection changed."""

        def make(opened: Collection, progress: Callable[[str, float], None]) -> DuplicateReport:
            order = WeightsOptions(offline=self._settings.offline)
            question = DuplicateOptions(down_to=tier)
            return opened.duplicates(question, backbone=self._settings.backbone, weights=order, progress=progress)

        return self._submit(("duplicates", tier, *self._build_state_key(collection)), make)

    def draw_map(self, collection: Collection) -> BackgroundJob[bytes]:
        """The map as a page whose pictures are asked of this server."""

        def make(opened: Collection, progress: Callable[[str, float], None]) -> bytes:
            progress("laying out", 0.2)
            found = opened.arrangement(backbone=self._settings.backbone)
            progress("drawing", 0.6)
            images = [MapImage(image.image_id, image.path, image.label) for image in found.images]
            title = f"{Path(self._settings.collection).absolute().name} ({found.backbone})"
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "map.html"
                write_map_page(CollectionMap(title, images, found.grid, found.clusters), file)
                return _link_to_server(file.read_text("utf-8"), images).encode()

        return self._submit(("map", *self._build_state_key(collection)), make)

    def close(self) -> None:
        """Finish what is being made, drop what waits."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _build_state_key(self, collection: Collection) -> tuple[Any, ...]:
        """What changes with the collection: of which model, after how many changes, over how many files."""
        stored = collection.model(self._settings.backbone)
        return stored.fingerprint, stored.generation, collection.info()["files"]

    def _submit(
        self, key: tuple[Any, ...], make: Callable[[Collection, Callable[[str, float], None]], T]
    ) -> BackgroundJob[T]:
        with self._lock:
            if key in self._jobs:
                return self._jobs[key]
            while len(self._jobs) >= _MAX_JOBS:
                self._jobs.pop(next(iter(self._jobs))).future.cancel()
            making: BackgroundJob[T] = BackgroundJob(Future())
            self._jobs[key] = making

        def tell(stage: str, share: float) -> None:
            making.stage, making.share = stage, share

        def work() -> None:
            if not making.future.set_running_or_notify_cancel():
                return
            try:
                with Collection.open(self._settings.collection) as opened:
                    making.future.set_result(make(opened, tell))
            except BaseException as error:
                making.future.set_exception(error)
                self._forget(key)

        self._pool.submit(work)
        return making

    def _forget(self, key: tuple[Any, ...]) -> None:
        """What failed is tried again when it is next asked for."""
        with self._lock:
            self._jobs.pop(key, None)


def _link_to_server(page: str, images: list[MapImage]) -> str:
    """The page with addresses of this server in the place of those of files."""

    def with_addresses(found: re.Match[str]) -> str:
        facts = json.loads(found[2])
        facts["addresses"] = {str(row): f"/images/{image.image_id}" for row, image in enumerate(images)}
        return found[1] + json.dumps(facts, separators=(",", ":")).replace("<", "\\u003c") + found[3]

    return _FACTS_PATTERN.sub(with_addresses, page, count=1)
