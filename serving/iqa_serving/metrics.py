"""What Prometheus is told of a server."""

from __future__ import annotations

import os
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from iqa_runtime import Score

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where processes of one server keep their numbers, so that each can tell those of all; see prometheus_client."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def go_on_counting(worker: int) -> None:
    """Keep the numbers of this process where the worker kept its own whose place it takes.

    Totals go on where they stood, and however many workers have ended, there are no more files than places.
    """
    values.ValueClass = values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]


class Metrics:
    """The numbers of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "iqa_requests_total", "Requests that were answered.", ("endpoint", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "iqa_request_seconds",
            "Time from a request's header to the end of its answer.",
            ("endpoint",),
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._images = Counter(
            "iqa_images_total", "Images, by what became of them.", ("artefact", "outcome"), registry=self._registry
        )
        self._work = Histogram(
            "iqa_image_seconds",
            "Work done for an image: decoding, cropping, its runs of the model.",
            ("artefact",),
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._rounds = Histogram(
            "iqa_round_images",
            "Images that went through the scorer in one stream.",
            ("artefact",),
            registry=self._registry,
            buckets=_IMAGES,
        )
        self._taken = Gauge(
            "iqa_requests_under_way",
            "Requests with images that are being read, scored or answered.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )

    def count_image(self, artefact: str, result: Score) -> None:
        """Count an image that was answered for."""
        self._images.labels(artefact, "scored" if result.error is None else "failed").inc()
        self._work.labels(artefact).observe(result.milliseconds / 1000)

    def count_round(self, artefact: str, images: int) -> None:
        """Count a round of a batcher."""
        self._rounds.labels(artefact).observe(images)

    def count_request(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def set_taken(self, slots: int) -> None:
        """Note how many requests are under way."""
        self._taken.set(slots)

    def exposition(self) -> bytes:
        """Return all numbers in the text format of Prometheus, of all processes if there are several."""
        if FOLDER_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


class Counting:
    """ASGI middleware: counts requests and takes their time."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_noting)
        finally:
            endpoint = getattr(scope.get("endpoint"), "__name__", "none")
            self.metrics.count_request(endpoint, status, time.perf_counter() - began)
