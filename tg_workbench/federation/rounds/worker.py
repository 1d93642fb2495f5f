"""A worker that conducts one campaign: it prepares rounds, looks into updates, and makes models out of them.

It is forked with torch in memory, does what is there to be done, and leaves. Whatever it was doing when it is
lost, the next one does again, from what is stored, and comes to the same model: updates are added in the
order of device ids, and noise is drawn from a seed that was stored when it was charged.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

from tg_workbench.errors import DatabaseUnavailable, WorkbenchError
from tg_workbench.execution import Assignment, Bell, Fence, Fenced, ring, run_folder
from tg_workbench.execution.bells import bell_name
from tg_workbench.execution.work import LifeLock, keep_renewed
from tg_workbench.federation.rounds.conducting import Conductor
from tg_workbench.federation.rounds.turns import topic_of
from tg_workbench.settings import Settings
from tg_workbench.storage import Blobs, Database

log = logging.getLogger(__name__)
REST_SECONDS = 5.0
"""How long it waits for more before it leaves: starting another costs tens of milliseconds."""


def run(assignment: Assignment) -> None:
    """Conduct one campaign until there is nothing to be done for it."""
    Worker(assignment, Settings.from_environment()).run()


class Worker:
    """One assignment, from taking the lock to letting go of it."""

    def __init__(self, assignment: Assignment, settings: Settings) -> None:
        self.assignment = assignment
        self.folder = run_folder(settings.home)
        self.database = Database(settings.database_url)
        self.fence = Fence(assignment.work_id, assignment.epoch)
        blobs = Blobs(settings.home / "blobs")
        self.conductor = Conductor(self.database, blobs, settings.home, self.folder, self.fence)
        self.leaving = threading.Event()

    def run(self) -> None:
        """Hold the campaign, do what is to be done, leave."""
        self._lock = LifeLock(self.folder, self.assignment.work_id)
        if not self._lock.take_soon():
            return
        bell = Bell(self.folder, bell_name(self.assignment.work_id))
        signal.signal(signal.SIGTERM, lambda *_: self.leaving.set())
        try:
            with self.database.write() as session:
                self.fence.renew(session, pid=os.getpid(), last_exit=None)
            threading.Thread(target=keep_renewed, args=(self.database, self.fence), daemon=True).start()
            if self.assignment.give_up:
                self.conductor.give_up(
                    f"its worker was lost again and again: {self.assignment.previous_exit}"
                )
            self._conduct(bell)
        except Fenced:
            log.warning("replaced; leaving without a trace")
        finally:
            bell.close()
            self.database.close()

    def _conduct(self, bell: Bell) -> None:
        rested_since = time.monotonic()
        while not self.leaving.is_set():
            if self._step():
                rested_since = time.monotonic()
                ring(self.folder, "api-*", self.assignment.work_id)
                ring(self.folder, "api-*", topic_of(self.conductor.tenant_id))
            elif time.monotonic() - rested_since > REST_SECONDS and self.conductor.rest():
                return
            else:
                bell.wait(0.5)

    def _step(self) -> bool:
        """Do one thing; False when there is nothing to be done. What cannot be done ends the round."""
        try:
            return self.conductor.step()
        except (Fenced, DatabaseUnavailable):
            raise  # no fault of the round's: the next worker does it
        except WorkbenchError as failure:
            log.error("campaign %s failed: %s", self.assignment.work_id, type(failure).__name__)
            self.conductor.give_up(str(failure))
            return True


def preload() -> None:
    """Import, in the zygote, what the imports above leave for later."""
    import safetensors.numpy  # noqa: F401
