"""A worker that looks at one file: as a dataset that is to be, or as a check of which nothing stays.

It begins anew as often as it is lost, up to a bound, and writes its outcome once, behind its fence. What it
makes on the way lies in a folder named by its work, which the next one clears.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import traceback
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

from tg_workbench.datasets.checks import PREFIX, Check
from tg_workbench.datasets.files import Prepared
from tg_workbench.datasets.processing import Processing
from tg_workbench.datasets.scratch import scratch_of
from tg_workbench.datasets.specs import FileSpec
from tg_workbench.datasets.tables import Dataset
from tg_workbench.errors import DatabaseUnavailable, DatasetInvalid, InvalidField, WorkbenchError
from tg_workbench.execution import Assignment, Fence, Fenced, Work, ring, run_folder
from tg_workbench.execution.work import LifeLock, keep_renewed
from tg_workbench.settings import Settings
from tg_workbench.storage import Blobs, Database, LeftBlobs
from tg_workbench.storage.blobs import room_on_disk

log = logging.getLogger(__name__)
MOST_LOST = 3


def run(assignment: Assignment) -> None:
    """Look at one file."""
    settings = Settings.from_environment()
    worker = CheckWorker if assignment.work_id.startswith(PREFIX) else DatasetWorker
    worker(assignment, settings).run()


class FileWorker(ABC):
    """One assignment, from taking the lock to the outcome."""

    def __init__(self, assignment: Assignment, settings: Settings) -> None:
        self.assignment = assignment
        self.work_id = assignment.work_id
        self.folder = run_folder(settings.home)
        self.database = Database(settings.database_url)
        self.blobs = Blobs(settings.home / "blobs")
        self.fence = Fence(assignment.work_id, assignment.epoch)
        self.scratch = scratch_of(self.blobs, assignment.work_id)

    def run(self) -> None:
        """Hold the work, do it, leave."""
        self._lock = LifeLock(self.folder, self.work_id)
        if not self._lock.take_soon():
            return
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # the next worker begins anew
        try:
            with self.database.write() as session:
                self.fence.renew(session, pid=os.getpid())
                lost = session.get_one(Work, self.work_id).failures
            threading.Thread(target=keep_renewed, args=(self.database, self.fence), daemon=True).start()
            self._clear()
            if lost >= MOST_LOST or self.assignment.give_up:
                how = self.assignment.previous_exit
                self.lose(f"its worker was lost {lost} times ({how}): perhaps it needs too much memory")
            else:
                self.look()
            self._clear()
            ring(self.folder, "api-*", self.work_id)
        except Fenced:
            log.warning("replaced; leaving without a trace")
        finally:
            self.database.close()

    @abstractmethod
    def look(self) -> None:
        """Look at the file, and store what was found."""

    @abstractmethod
    def lose(self, how: str) -> None:
        """Give up on it."""

    def prepared(self, source: Path, spec: FileSpec) -> Prepared:
        """The file in a form that training reads. Raises WorkbenchError."""
        from tg_workbench.datasets.files.preparing import prepare  # Polars: never in the zygote

        self.scratch.mkdir(parents=True, mode=0o700)
        try:
            with room_on_disk():
                return prepare(source, spec.request, self.scratch / "rows")
        except WorkbenchError:
            raise
        except MemoryError:
            raise DatasetInvalid("it needs more memory than there is") from None
        except Exception as failure:  # noqa: BLE001  (a library's words may hold values of rows: not for a log)
            place = traceback.extract_tb(failure.__traceback__)[-1]
            raise RuntimeError(f"{type(failure).__name__} at {place.filename}:{place.lineno}") from None

    def _clear(self) -> None:
        """Remove what this worker, or a lost one before it, has made on the way."""
        self.blobs.sweep()
        shutil.rmtree(self.scratch, ignore_errors=True)
        with suppress(OSError):
            self.scratch.parent.rmdir()


class DatasetWorker(FileWorker):
    """Makes a dataset of its file."""

    def look(self) -> None:
        """Prepare the file and make the dataset ready, or failed with the reason."""
        with self.database.write() as session:
            dataset = Processing(session, self.fence).dataset()
        if dataset is None or dataset.asked is None or dataset.source is None:
            return
        try:
            path = self.blobs.path(dataset.source)
            self._keep(self.prepared(path, FileSpec.from_json(dataset.asked)))
        except (Fenced, DatabaseUnavailable):
            raise  # no fault of the file's: the next worker looks again
        except WorkbenchError as failure:
            self._fail(str(failure))

    def lose(self, how: str) -> None:
        """Say how it was lost."""
        self._fail(how)

    def _keep(self, prepared: Prepared) -> None:
        """Store the rows and the outcome together. Raises what `Processing.succeed` does."""
        with prepared.path.open("rb") as file:
            os.fsync(file.fileno())
        LeftBlobs.announce(self.database, self.blobs, prepared.digest, self.fence.hold)
        with self.database.write(durable=True) as session:
            dataset: Dataset | None = Processing(session, self.fence).succeed(prepared)
            if dataset is not None:
                self.blobs.adopt(prepared.path, prepared.digest)
                LeftBlobs(session, self.blobs).named([prepared.digest])

    def _fail(self, reason: str) -> None:
        with self.database.write(durable=True) as session:
            Processing(session, self.fence).fail(reason)


class CheckWorker(FileWorker):
    """Says what is wrong with its file."""

    def look(self) -> None:
        """Prepare the file, tell what was found, and forget it."""
        check = Check(self.blobs, self.work_id)
        if not check.file.exists():  # whoever asked has gone
            self._end()
            return
        try:
            found = self.prepared(check.file, check.spec)
        except (DatasetInvalid, InvalidField) as failure:
            self._tell(check, {"valid": False, "errors": failure.problems})
        except (Fenced, DatabaseUnavailable):
            raise
        except WorkbenchError as failure:
            self._tell(check, _refusal(str(failure)))
        else:
            self._tell(check, {"valid": True, "errors": [], **_summary(found)})

    def lose(self, how: str) -> None:
        """Say how it was lost."""
        self._tell(Check(self.blobs, self.work_id), _refusal(how))

    def _tell(self, check: Check, told: dict[str, Any]) -> None:
        with suppress(FileNotFoundError):  # whoever asked has gone
            check.answer({"warnings": [], "summary": None, **told})
        self._end()

    def _end(self) -> None:
        with self.database.write() as session:
            self.fence.hold(session)
            session.delete(session.get_one(Work, self.work_id))


def _refusal(problem: str) -> dict[str, Any]:
    return {"valid": False, "errors": [{"where": "file", "problem": problem}]}


def _summary(found: Prepared) -> dict[str, Any]:
    """What is in the file, without any of its rows."""
    told = found.inspection.as_json()
    warnings = told.pop("warnings")
    told.pop("preview")
    return {"warnings": list(warnings), "summary": told}
