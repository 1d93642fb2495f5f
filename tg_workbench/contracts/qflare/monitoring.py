"""QFLARE's status, metrics, alerts and logs: S2-04, S2-26 … S2-28.

Metrics and alerts are those a tenant may see; logs are of the whole machine, and its operator's only.
"""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BeforeValidator

from tg_workbench.contracts.providers import AlertsRoom, SignedIn, ThePremises
from tg_workbench.contracts.qflare import monitoring_views as views
from tg_workbench.contracts.qflare.errors import QFLARE_FAILURES, QflareRoute
from tg_workbench.contracts.route import needs
from tg_workbench.errors import PermissionDenied
from tg_workbench.observability.figures import exposition
from tg_workbench.observability.log_queries import Level, LogQuery
from tg_workbench.observability.statistics import sees_the_machine

router = APIRouter(prefix="/api/v1", route_class=QflareRoute, tags=["QFLARE"], responses=QFLARE_FAILURES)

MOST_ALERTS = 500
Component = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_.-]{1,100}$", description="Component name.")]


def _iso_8601(text: str) -> str:
    """A time as ISO 8601 writes it, of this age: pydantic would take a number of seconds as well."""
    if not re.match(r"(?:19[7-9]\d|2\d{3})-\d\d", text):
        raise ValueError("write a time as in 2024-01-15T10:30:00Z, from 1970 on")
    return text


Moment = Annotated[datetime, BeforeValidator(_iso_8601, json_schema_input_type=datetime)]
Since = Annotated[Moment | None, Query(description="Start time (ISO 8601).")]
Until = Annotated[Moment | None, Query(description="End time (ISO 8601).")]
Lines = Annotated[int, Query(ge=1, le=1000, description="How many lines at most, the newest first.")]
PROMETHEUS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}
}


@router.get("/status")
async def read_status(owner: SignedIn, premises: ThePremises) -> views.SystemStatus:
    """Get detailed system status."""
    return views.SystemStatus.of(premises, owner)


@router.get("/monitoring/metrics", response_class=Response, responses=PROMETHEUS)
@needs("monitoring")
async def read_metrics(owner: SignedIn, premises: ThePremises) -> Response:
    """Get Prometheus metrics. The scraper sends its API key as a bearer token."""
    page = await asyncio.to_thread(exposition, premises.database, premises.metrics, owner, premises.figures)
    return Response(page, media_type=CONTENT_TYPE_PLAIN_0_0_4)


@router.get("/monitoring/alerts")
@needs("monitoring")
async def list_active_alerts(owner: SignedIn, alerts: AlertsRoom) -> views.ActiveAlerts:
    """Get active alerts, the newest first."""
    page, _ = alerts.list_page(owner, state="firing", limit=MOST_ALERTS)
    return views.ActiveAlerts(alerts=[views.ActiveAlert.of(alert) for alert in page])


@router.get("/monitoring/logs")
@needs("monitoring")
async def query_logs(
    owner: SignedIn,
    premises: ThePremises,
    level: Level | None = None,
    component: Component = None,
    since: Since = None,
    until: Until = None,
    limit: Lines = 100,
) -> views.Logs:
    """Query system logs, the newest first."""
    if not sees_the_machine(owner):
        raise PermissionDenied("logs are of the whole machine: only the workbench's own tenant reads them")
    query = LogQuery(level, component, since, until, limit)
    lines = await asyncio.to_thread(query.of, premises.settings.home / "logs")
    return views.Logs(logs=[views.LogEntry.of(line) for line in lines])
