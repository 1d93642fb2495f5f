"""Whether this workbench is well: the four probes of the TG-Tinker document.

The database is asked in a thread and for a limited time, so a hanging one cannot hold up a probe; liveness
asks nobody, because restarting the process would not help the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from tg_workbench.errors import WorkbenchError
from tg_workbench.settings import Settings
from tg_workbench.storage import Database

SERVICE = "TG-Tinker"
VERSION = "3.0.0"
"""The document's version: clients compare it. Our own is in the OpenAPI document."""
PATIENCE_SECONDS = 3.0
UNAVAILABLE = "database unavailable"
State = Literal["healthy", "unhealthy"]


class Check(BaseModel):
    """How one thing is."""

    status: State


class Checks(BaseModel):
    """How each thing is that a workbench cannot do without; `duties` is said only when one keeps failing."""

    database: Check
    duties: Check | None = None


class Health(BaseModel):
    """How everything is."""

    status: State
    timestamp: str
    version: str = VERSION
    environment: str
    checks: Checks


class Readiness(BaseModel):
    """Whether requests can be served now."""

    ready: bool
    reason: str | None = None


class Liveness(BaseModel):
    """That the process answers."""

    alive: bool = True


class Version(BaseModel):
    """What runs here, in the document's words."""

    service: str = SERVICE
    version: str = VERSION
    api_version: str = "v1"
    python_version: str = "3.9+"
    environment: str


async def check(database: Database, settings: Settings, failing: Collection[str] = ()) -> Health:
    """How everything is, now; `failing` are the duties that keep failing."""
    answers: State = "healthy" if await database_answers(database) else "unhealthy"
    duties = Check(status="unhealthy") if failing else None
    timestamp = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return Health(
        status="unhealthy" if failing else answers,
        timestamp=timestamp,
        environment=settings.environment,
        checks=Checks(database=Check(status=answers), duties=duties),
    )


async def readiness(database: Database) -> Readiness:
    """Whether the database answers and has its tables."""
    if await database_answers(database):
        return Readiness(ready=True)
    return Readiness(ready=False, reason=UNAVAILABLE)


async def database_answers(database: Database) -> bool:
    """Whether the database gives a sign of life within a few seconds."""
    try:
        await asyncio.wait_for(run_in_threadpool(database.ping), PATIENCE_SECONDS)
    except (WorkbenchError, SQLAlchemyError, TimeoutError):
        return False
    return True
