"""Metrics for Prometheus. The only import of prometheus_client."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
_TIME_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class CollectionMetrics:
    """The metrics of one collection."""

    def __init__(self, name: str, stages: Histogram) -> None:
        self._name = name
        self._stages = stages

    def observe_stages(self, milliseconds: Mapping[str, float]) -> None:
        """Record the times of a search by stage."""
        for stage, value in milliseconds.items():
            self._stages.labels(self._name, stage).observe(value / 1e3)


class ServerMetrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "simsearch_requests", "Requests by collection, method, route and status.",
            ["collection", "method", "route", "status"],
            registry=registry,
        )  # fmt: skip
        self._request_seconds = Histogram(
            "simsearch_request_seconds", "Time from the head of a request to the end of its response.",
            ["collection", "route"], buckets=_TIME_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._stages = Histogram(
            "simsearch_search_stage_seconds", "Time of a search by stage: load (including decoding), embed, search.",
            ["collection", "stage"], buckets=_TIME_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._batches = Histogram(
            "simsearch_embed_batch_pictures", "Pictures per embedding batch.",
            buckets=(1, 2, 3, 4, 6, 8, 12, 16), registry=registry,
        )  # fmt: skip
        self._queue = Gauge("simsearch_searches_waiting", "Searches running or waiting.", registry=registry)

    def watch_queue(self, length: Callable[[], float]) -> None:
        """Read the queue length from this function whenever the metrics are read."""
        self._queue.set_function(length)

    def for_collection(self, name: str) -> CollectionMetrics:
        """The metrics of one collection of the server."""
        return CollectionMetrics(name, self._stages)

    def count_request(self, collection: str, method: str, route: str, status: int, elapsed_s: float) -> None:
        """Count a request. The name of the collection is empty for what concerns none."""
        self._requests.labels(collection, method, route, str(status)).inc()
        self._request_seconds.labels(collection, route).observe(elapsed_s)

    def count_batch(self, n_pictures: int) -> None:
        """Count a batch that was embedded."""
        self._batches.observe(n_pictures)

    def to_text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
