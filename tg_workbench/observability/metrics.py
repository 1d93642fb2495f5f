"""What this process counts of itself: requests by route template, how long answers took, who listens.

A label's values come from our own lists: the template of a route, never a path; a known method; a status. So
nobody can make the page grow by asking for what is not there, and no id or value of a caller is ever on it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, saying when it began
NO_ROUTE = "(none)"
NO_ANSWER = "none"
RECENT = 1000
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
Tick = Callable[[float], None]


class Metrics:
    """One process's counters, in a registry of its own."""

    def __init__(self, version: str = "") -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tg_http_requests",
            "Requests, by route template and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "tg_http_request_seconds",
            "How long it took until an answer began.",
            ("method", "route"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "tg_http_requests_in_flight",
            "Requests being answered, open feeds among them.",
            registry=self.registry,
        )
        self.listeners = Gauge(
            "tg_websocket_listeners", "Open WebSockets, by channel.", ("channel",), registry=self.registry
        )
        Info("tg_build", "What runs here.", registry=self.registry).info({"version": version})
        ProcessCollector(registry=self.registry)
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._ticks: dict[tuple[str, str, str], tuple[Tick, Tick]] = {}

    def answered(
        self, method: str, route: str, status: str, seconds: float, *, was_asked_to_wait: bool = False
    ) -> None:
        """Count one answer. One that waited because it was to says nothing of how quick we are."""
        key = (method, route, status)
        ticks = self._ticks.get(key)
        if ticks is None:  # as many as there are routes and statuses; looking the children up costs more
            counted, timed = self.requests.labels(*key), self.seconds.labels(method, route)
            ticks = self._ticks[key] = (counted.inc, timed.observe)
        ticks[0](1)
        ticks[1](seconds)
        if not was_asked_to_wait:
            self._recent.append(seconds)

    @property
    def average_seconds(self) -> float | None:
        """How long the last thousand answers took on average; None before the first."""
        return sum(self._recent) / len(self._recent) if self._recent else None


class Measured:
    """A layer of the application that counts what passes."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on. The route is known once the router was there."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        metrics, began, is_answered = self.metrics, time.perf_counter(), False

        def note(status: str) -> None:
            nonlocal is_answered
            is_answered = True
            method = scope["method"]
            route = getattr(scope.get("route"), "path", NO_ROUTE)
            known = method if method in METHODS else "other"
            took = time.perf_counter() - began
            metrics.answered(known, route, status, took, was_asked_to_wait=_asks_to_wait(scope))

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                note(str(message["status"]))
            await send(message)

        metrics.in_flight.inc()
        try:
            await self.app(scope, receive, watch)
        finally:
            metrics.in_flight.dec()
            if not is_answered:
                note(NO_ANSWER)


def _asks_to_wait(scope: Scope) -> bool:
    """Whether the caller wants an answer only when there is something to say: a feed, or a long poll."""
    query = scope.get("query_string", b"")
    if query.startswith(b"wait=") or b"&wait=" in query:
        return True
    return any(
        (name == b"prefer" and b"wait" in value.lower()) or (name == b"accept" and b"event-stream" in value)
        for name, value in scope.get("headers", ())
    )
