"""What every route may need, made once by `app.py` and found on the application."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request

from tg_workbench.contracts.broadcasts import Broadcasts
from tg_workbench.contracts.intake import Intake, UpdateIntake
from tg_workbench.contracts.limits import Limits
from tg_workbench.contracts.password_queue import PasswordQueue
from tg_workbench.contracts.watched import AuditScan
from tg_workbench.crypto.access_tokens import AccessTokens
from tg_workbench.execution import AsyncBells
from tg_workbench.federation.devices import CertificateOffice
from tg_workbench.models.serving import Pool, Triton
from tg_workbench.observability.figures import More
from tg_workbench.observability.load import Load
from tg_workbench.observability.metrics import Metrics
from tg_workbench.security import AuditLog
from tg_workbench.settings import Settings
from tg_workbench.storage import Blobs, Database

MOST_HEAVY = 2
"""How many large bodies are worked on at a time: each may need a gigabyte."""


@dataclass(frozen=True, slots=True)
class Premises:
    """The places a request works with. `stopping` is set when the server has been asked to end."""

    settings: Settings
    database: Database
    blobs: Blobs
    folder: Path
    bells: AsyncBells
    limits: Limits
    audit: AuditLog
    scan: AuditScan
    access_tokens: AccessTokens
    certificates: CertificateOffice
    pool: Pool
    triton: Triton | None = None
    metrics: Metrics = field(default_factory=Metrics)
    load: Load = field(default_factory=Load)
    figures: tuple[More, ...] = ()
    broadcasts: Broadcasts = field(default_factory=Broadcasts)
    intake: Intake = field(default_factory=Intake)
    update_intake: UpdateIntake = field(default_factory=UpdateIntake)
    failing: set[str] = field(default_factory=set)
    """The duties that keep failing, by name."""
    passwords: PasswordQueue = field(default_factory=PasswordQueue)
    started: float = field(default_factory=time.monotonic)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    heavy: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_HEAVY))


def premises_of(request: Request) -> Premises:
    """The premises of the application that serves `request`."""
    premises: Premises = request.app.state.premises
    return premises
