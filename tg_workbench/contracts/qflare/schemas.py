"""QFLARE's answers, as its document shows them."""

from __future__ import annotations

import time
from typing import Literal

from pydantic import BaseModel

from tg_workbench.contracts.audit import AuditEntryView
from tg_workbench.contracts.premises import Premises
from tg_workbench.contracts.qflare.accounts import Pagination
from tg_workbench.contracts.qflare.errors import timestamp
from tg_workbench.observability import health

VERSION = "1.0.0"
"""The document's version: clients compare it."""
State = Literal["healthy", "unhealthy"]
Component = Literal["healthy", "unhealthy", "not configured"]
STATES: dict[bool | None, Component] = {True: "healthy", False: "unhealthy", None: "not configured"}


class Components(BaseModel):
    """How each part is; what this workbench does without says so."""

    database: State
    redis: Component
    quantum_keys: Component


class SystemHealth(BaseModel):
    """How everything is."""

    status: State
    timestamp: str
    version: str = VERSION
    components: Components
    uptime: int

    @classmethod
    async def of(cls, premises: Premises) -> SystemHealth:
        """How it is now. Quantum keys are well when devices can be certified; until one comes there are none.

        Without Redis requests are still served and counted, so that makes nothing unhealthy.
        """
        database: State = "healthy" if await health.database_answers(premises.database) else "unhealthy"
        redis = STATES[await premises.limits.counters.shared_answers()]
        quantum_keys = STATES[premises.certificates.is_well()]
        return cls(
            status="healthy" if database == "healthy" and quantum_keys != "unhealthy" else "unhealthy",
            timestamp=timestamp(),
            components=Components(database=database, redis=redis, quantum_keys=quantum_keys),
            uptime=int(time.monotonic() - premises.started),
        )


class AuditLogView(BaseModel):
    """A page of the audit log, the newest entry first."""

    entries: list[AuditEntryView]
    pagination: Pagination
