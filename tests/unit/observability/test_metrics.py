"""Metrics: labels are ours, so nobody can make the page grow; and nothing of a caller is on it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY, generate_latest
from starlette.types import Message, Receive, Scope, Send

from tg_workbench.observability.metrics import Measured, Metrics


def page(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


def ask(metrics: Metrics, *, status: int | None = 200, **scope: Any) -> None:
    """One request through the layer, to an application that answers with `status` or not at all."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if status is not None:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        return None

    whole = {"type": "http", "method": "GET", "path": "/", **scope}
    asyncio.run(Measured(application, metrics)(whole, receive, send))


def test_requests_are_counted_by_route_template_method_and_status() -> None:
    metrics = Metrics()
    for number in range(3):
        ask(metrics, route=SimpleNamespace(path="/things/{thing_id}"), path=f"/things/{number}")
    counted = 'tg_http_requests_total{method="GET",route="/things/{thing_id}",status="200"} 3.0'
    assert counted in page(metrics)
    assert 'tg_http_request_seconds_count{method="GET",route="/things/{thing_id}"} 3.0' in page(metrics)


def test_asking_for_what_is_not_there_adds_one_series_however_often() -> None:
    metrics = Metrics()
    ask(metrics, status=404)
    lines = len(page(metrics).splitlines())
    for number in range(50):
        ask(metrics, status=404, path=f"/secret-{number}", method="GET")
    assert len(page(metrics).splitlines()) == lines
    assert "secret" not in page(metrics)


def test_an_invented_method_is_another() -> None:
    metrics = Metrics()
    ask(metrics, method="OPENSESAME", status=405)
    assert "OPENSESAME" not in page(metrics)
    assert 'method="other"' in page(metrics)


def test_a_request_without_an_answer_is_counted_too_and_no_longer_in_flight() -> None:
    metrics = Metrics()
    ask(metrics, status=None)
    assert 'route="(none)",status="none"} 1.0' in page(metrics)
    assert "tg_http_requests_in_flight 0.0" in page(metrics)


def test_the_average_is_of_the_newest_answers() -> None:
    metrics = Metrics()
    assert metrics.average_seconds is None
    for seconds in (1.0, 2.0, 3.0):
        metrics.answered("GET", "/", "200", seconds)
    assert metrics.average_seconds == 2.0
    for _ in range(1000):
        metrics.answered("GET", "/", "200", 0.5)
    assert metrics.average_seconds == 0.5


@pytest.mark.parametrize(
    "asked",
    [
        {"query_string": b"wait=30"},
        {"query_string": b"a=b&wait=30"},
        {"headers": [(b"prefer", b"respond-async, Wait=10")]},
        {"headers": [(b"accept", b"text/event-stream")]},
    ],
    ids=str,
)
def test_an_answer_that_was_to_wait_is_not_in_the_average(asked: dict[str, Any]) -> None:
    metrics = Metrics()
    ask(metrics, **asked)
    assert metrics.average_seconds is None
    ask(metrics, query_string=b"await=1&waiting=2", headers=[(b"accept", b"*/*")])
    assert metrics.average_seconds is not None


def test_no_process_wide_registry_is_used() -> None:
    for _ in range(2):  # a second one would clash there
        Metrics()
    assert b"tg_" not in generate_latest(REGISTRY)
