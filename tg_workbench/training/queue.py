"""The worker's side of the queue: what to do next, and how it ended. Every write is fenced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import WorkbenchError, WorkerLost
from tg_workbench.events import Events, Fact, OperationEnded, StatusChanged
from tg_workbench.execution import Fence, Work, ring
from tg_workbench.storage import Database
from tg_workbench.storage.database import after_commit, now
from tg_workbench.training.specs import OperationKind, Status
from tg_workbench.training.tables import Operation, TrainingClient

MOST_ATTEMPTS = 3
APPLIES_GRADIENT = (OperationKind.OPTIM_STEP, OperationKind.LOAD_STATE)
Also = Callable[[Session], None]


class WorkQueue:
    """One training client's queue, as its worker holds it."""

    def __init__(self, database: Database, folder: Path, fence: Fence) -> None:
        self.database = database
        self.folder = folder
        self.fence = fence
        self.client_id = fence.work_id

    def client(self) -> TrainingClient:
        """The client's row as it is now."""
        with self.database.read() as session:
            return session.exec(select(TrainingClient).where(TrainingClient.id == self.client_id)).one()

    def begin_next(self) -> Operation | None:
        """Take the oldest waiting operation, or nothing."""
        waiting = select(Operation).where(
            Operation.client_id == self.client_id, Operation.status == "pending"
        )
        with self.database.read() as session:
            operation = session.exec(waiting.order_by(col(Operation.seq)).limit(1)).first()
        if operation is None:
            return None
        with self.database.write() as session:
            self.fence.hold(session)
            began = (
                sa.update(Operation)
                .where(col(Operation.id) == operation.id, col(Operation.status) == "pending")
                .values(status="running", started_at=operation.started_at or now())
            )
            if not session.connection().execute(began).rowcount:
                return None  # it was cancelled in between
        operation.status = "running"
        return operation

    def complete(
        self,
        operation: Operation,
        result: dict[str, Any],
        *,
        client_values: dict[str, Any] | None = None,
        also: Also | None = None,
    ) -> None:
        """Store an operation's answer and, in the same transaction, what it changed."""

        def write(session: Session) -> None:
            if client_values:
                self._set_client(session, client_values)
            if also is not None:
                also(session)
            if operation.kind in APPLIES_GRADIENT:
                self._forget_rows(session, operation.seq)

        keep_rows = operation.kind == OperationKind.FORWARD_BACKWARD
        self._end(operation, {"status": "completed", "result": result}, None, write, keep_rows=keep_rows)

    def fail(self, operation: Operation, error: WorkbenchError) -> None:
        """Store why an operation could not be done."""
        self._end(operation, {"status": "failed", "error": error.as_record()}, error.as_record(), None)

    def put_back(self, operation: Operation, progress: dict[str, Any] | None = None) -> None:
        """Return a running operation to the queue: this worker has to leave."""
        values: dict[str, Any] = {"status": "pending"}
        if progress is not None:
            values["progress"] = progress
        self.write(lambda session: self._set_operation(session, operation.id, values))

    def note_progress(
        self, operation: Operation, progress: dict[str, Any], client_values: dict[str, Any]
    ) -> Also:
        """What to write so that the next worker can take up `operation` from here."""

        def write(session: Session) -> None:
            self._set_operation(session, operation.id, {"progress": progress, "attempt": 0})
            self._set_client(session, client_values)
            self._prove_alive(session)

        return write

    def record(
        self, *facts: Fact, client_values: dict[str, Any] | None = None, also: Also | None = None
    ) -> None:
        """Store facts about the client, and what made them true."""

        def write(session: Session) -> None:
            if client_values:
                self._set_client(session, client_values)
            if also is not None:
                also(session)
            for fact in facts:
                Events(session).record(self.client_id, fact)

        self.write(write)

    def announce(self, status: Status, reason: str | None = None, **client_values: Any) -> None:
        """Store and tell a new status."""
        client = self.client()
        if client.status == Status.TERMINATED:
            return
        step = client_values.get("step", client.step)
        self.record(
            StatusChanged(status, step, client.paused, reason),
            client_values={"status": status, "reason": reason, **client_values},
        )

    def take_up(self) -> tuple[list[Operation], bool]:
        """After another worker: requeue what it was doing, and return the gradients to form again, in order.

        The second value says whether an operation was cut off in the middle.
        """
        with self.database.read() as session:
            mine = col(Operation.client_id) == self.client_id
            running = list(session.exec(select(Operation).where(mine, Operation.status == "running")))
            replay = select(Operation).where(
                mine,
                Operation.kind == OperationKind.FORWARD_BACKWARD,
                Operation.status == "completed",
                col(Operation.payload).is_not(None),
            )
            gradients = list(session.exec(replay.order_by(col(Operation.seq))))
        for operation in running:
            if operation.attempt + 1 >= MOST_ATTEMPTS:
                self.fail(operation, WorkerLost(f"{operation.attempt + 1} workers ended while doing this"))
            else:
                again = {"status": "pending", "attempt": operation.attempt + 1}
                self.write(
                    lambda session, op=operation, values=again: self._set_operation(session, op.id, values)
                )  # type: ignore[misc]
        return gradients, bool(running)

    def rest(self) -> bool:
        """Say that no worker is needed, unless something has arrived. True when this worker may leave."""
        with self.database.write() as session:
            self.fence.hold(session)
            waiting = select(Operation.id).where(
                Operation.client_id == self.client_id, col(Operation.status).in_(("pending", "running"))
            )
            if session.exec(waiting.limit(1)).first() is not None:
                return False
            session.connection().execute(
                sa.update(Work).where(col(Work.id) == self.client_id).values(wanted=False)
            )
        return True

    def write(self, change: Also) -> None:
        """Make a fenced change and ring the API."""
        with self.database.write() as session:
            self.fence.hold(session)
            change(session)
            after_commit(session, lambda: ring(self.folder, "api-*", self.client_id))

    def _end(
        self,
        operation: Operation,
        values: dict[str, Any],
        error: dict[str, Any] | None,
        also: Also | None,
        *,
        keep_rows: bool = False,
    ) -> None:
        values |= {"completed_at": now()} | ({} if keep_rows else {"payload": None})

        def change(session: Session) -> None:
            self._set_operation(session, operation.id, values)
            self._prove_alive(session)
            fact = OperationEnded(operation.id, operation.kind, values["status"], error)
            Events(session).record(self.client_id, fact)
            if also is not None:
                also(session)

        self.write(change)

    def _set_operation(self, session: Session, operation_id: str, values: dict[str, Any]) -> None:
        session.connection().execute(
            sa.update(Operation).where(col(Operation.id) == operation_id).values(**values)
        )

    def _set_client(self, session: Session, values: dict[str, Any]) -> None:
        session.connection().execute(
            sa.update(TrainingClient).where(col(TrainingClient.id) == self.client_id).values(**values)
        )

    def _prove_alive(self, session: Session) -> None:
        """Something was achieved, so earlier deaths of workers were not this client's fault for ever."""
        session.connection().execute(
            sa.update(Work).where(col(Work.id) == self.client_id).values(failures=0, last_active=now())
        )

    def _forget_rows(self, session: Session, seq: int) -> None:
        """Rows that callers sent are kept only until the step that used them."""
        session.connection().execute(
            sa.update(Operation)
            .where(
                col(Operation.client_id) == self.client_id,
                col(Operation.seq) < seq,
                col(Operation.payload).is_not(None),
                col(Operation.status).in_(("completed", "failed", "cancelled")),
            )
            .values(payload=None)
        )
