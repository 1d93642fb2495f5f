"""The watch: looks at every rule's condition a few times a minute, and when it is asked to.

It writes only when something has changed. Where several API processes watch one database, the first to write
wins and the others find nothing left to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from tg_workbench.errors import WorkbenchError
from tg_workbench.execution import AsyncBells, ring
from tg_workbench.observability.alerts import KEPT_SECONDS, RESOLVED_BELOW, Alerts
from tg_workbench.observability.conditions import Condition, Grounds, Reading
from tg_workbench.observability.logs import where
from tg_workbench.observability.tables import AlertRule
from tg_workbench.storage import Database
from tg_workbench.storage.database import after_commit, now

LOOK_SECONDS = 15.0
ASKED = "watch"
"""The bell's topic for: look now."""
TOLD = "alerts"
"""The bell's topic for: an alert has changed."""
log = structlog.get_logger("tg_workbench.watch")


class Watch:
    """Whoever keeps looking."""

    def __init__(
        self, database: Database, home: Path, folder: Path, conditions: Mapping[str, Condition]
    ) -> None:
        self.database = database
        self.home = home
        self.folder = folder
        self.conditions = conditions

    async def run(self, bells: AsyncBells) -> None:
        """Look until cancelled."""
        with bells.listening(ASKED) as rung:
            while True:
                rung.clear()
                try:
                    await asyncio.to_thread(self.look)
                except (WorkbenchError, SQLAlchemyError, OSError) as failure:
                    log.warning("could not look", **where(failure))
                await bells.heard(rung, LOOK_SECONDS)

    def look(self) -> bool:
        """Look once. Whether anything had changed."""
        with self.database.read() as session:
            alerts = Alerts(session)
            rules = alerts.rules()
            readings = {rule.id: self._read(rule, session) for rule in rules}
            if not any(alerts.differ(rule, readings[rule.id]) for rule in rules):
                return False
        with self.database.write() as session:
            alerts = Alerts(session)
            for rule in alerts.rules():
                alerts.settle(rule, readings.get(rule.id, []))
            alerts.forget(now() - KEPT_SECONDS)
            after_commit(session, lambda: ring(self.folder, "api-*", TOLD))
        return True

    def _read(self, rule: AlertRule, session: Session) -> list[Reading]:
        condition = self.conditions.get(rule.id)
        if condition is None or not rule.enabled:
            return []
        return condition(Grounds(session, self.home, rule.threshold * RESOLVED_BELOW))
