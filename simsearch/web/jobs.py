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

from simsearch.collection import Collection, DuplicateQuestion, DuplicateReport, WeightsOrder
from simsearch.duplicates.results import Tier
from simsearch.report.map import CollectionMap, MapImage, write_map_page
from simsearch.web.settings import Settings

T = TypeVar("T")

_FACTS = re.compile(r'(<script type="application/json" id="facts">)(.*?)(</script>)', re.DOTALL)
_MOST_KEPT = 8


@dataclass(slots=True)
class Making(Generic[T]):
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


class Overviews:
    """What was made of a collection as a whole, by the state of the collection it was made of. One at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="overview")
        self._held: dict[tuple[Any, ...], Making[Any]] = {}
        self._lock = threading.Lock()

    def duplicates(self, collection: Collection, tier: Tier) -> Making[DuplicateReport]:
        """The groups of duplicates, as far down as a tier; begun if nobody asked since the collection changed."""

        def make(opened: Collection, progress: Callable[[str, float], None]) -> DuplicateReport:
            order = WeightsOrder(offline=self._settings.offline)
            question = DuplicateQuestion(down_to=tier)
            return opened.duplicates(question, backbone=self._settings.backbone, weights=order, progress=progress)

        return self._making(("duplicates", tier, *self._state(collection)), make)

    def map_page(self, collection: Collection) -> Making[bytes]:
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
                return _served(file.read_text("utf-8"), images).encode()

        return self._making(("map", *self._state(collection)), make)

    def close(self) -> None:
        """Finish what is being made, drop what waits."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _state(self, collection: Collection) -> tuple[Any, ...]:
        """What changes with the collection: of which model, after how many changes, over how many files."""
        stored = collection.model(self._settings.backbone)
        return stored.fingerprint, stored.generation, collection.info()["files"]

    def _making(self, key: tuple[Any, ...], make: Callable[[Collection, Callable[[str, float], None]], T]) -> Making[T]:
        with self._lock:
            if key in self._held:
                return self._held[key]
            while len(self._held) >= _MOST_KEPT:
                self._held.pop(next(iter(self._held))).future.cancel()
            making: Making[T] = Making(Future())
            self._held[key] = making

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
            self._held.pop(key, None)


def _served(page: str, images: list[MapImage]) -> str:
    """The page with addresses of this server in the place of those of files."""

    def with_addresses(found: re.Match[str]) -> str:
        facts = json.loads(found[2])
        facts["addresses"] = {str(row): f"/images/{image.image_id}" for row, image in enumerate(images)}
        return found[1] + json.dumps(facts, separators=(",", ":")).replace("<", "\\u003c") + found[3]

    return _FACTS.sub(with_addresses, page, count=1)
