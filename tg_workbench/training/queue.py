"""The worker's side of the queue: what to do next, and how it ended. Every write is fenced."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import OperationCancelled, WorkbenchError, WorkerLost
from tg_workbench.events import Events, Fact, OperationEnded, StatusChanged
from tg_workbench.execution import Fence, Work, release_work, ring
from tg_workbench.storage import Database
from tg_workbench.storage.database import after_commit, now
from tg_workbench.storage.statements import Statement
from tg_workbench.training.closing import fail_job
from tg_workbench.training.notices import tell_end
from tg_workbench.training.specs import ENDED, OperationKind, Status
from tg_workbench.training.tables import Operation, OperationRow, TrainingClient

MOST_ATTEMPTS = 3
APPLIES_GRADIENT = (OperationKind.OPTIM_STEP, OperationKind.LOAD_STATE)
STEP_VALUES = ("step", "privacy", "dp_metrics", "lineage")
Also = Callable[[Session], None]

_COLUMNS = list(sa.inspect(OperationRow).local_table.columns)

_ORDERS = Statement(
    sa.select(
        col(TrainingClient.status), col(TrainingClient.paused), col(TrainingClient.stop_requested)
    ).where(col(TrainingClient.id) == sa.bindparam("client"))
)
_BEGIN = Statement(
    sa.update(OperationRow)
    .where(
        col(OperationRow.id)
        == sa.select(col(OperationRow.id))
        .where(col(OperationRow.client_id) == sa.bindparam("client"), col(OperationRow.status) == "pending")
        .order_by(col(OperationRow.seq))
        .limit(sa.literal_column("1"))
        .scalar_subquery(),
        # Paused a moment ago: what is asked for afterwards waits, also if this worker has not heard of it.
        ~sa.select(col(TrainingClient.id))
        .where(
            col(TrainingClient.id) == sa.bindparam("client"),
            col(TrainingClient.paused),
            col(TrainingClient.status).not_in([sa.literal_column(f"'{status}'") for status in ENDED]),
        )
        .exists(),
    )
    .values(status="running", started_at=sa.func.coalesce(col(OperationRow.started_at), sa.bindparam("time")))
    .returning(*_COLUMNS)
)
_RUNNING = Statement(
    sa.select(*_COLUMNS)
    .where(col(OperationRow.client_id) == sa.bindparam("client"), col(OperationRow.status) == "running")
    .order_by(col(OperationRow.seq))
)
_REPLAYED = Statement(
    sa.select(*_COLUMNS)
    .where(
        col(OperationRow.client_id) == sa.bindparam("client"),
        col(OperationRow.kind) == OperationKind.FORWARD_BACKWARD.value,
        col(OperationRow.status) == "completed",
        col(OperationRow.payload).is_not(None),
    )
    .order_by(col(OperationRow.seq))
)
_END = Statement(
    sa.update(OperationRow)
    .where(col(OperationRow.id) == sa.bindparam("operation"))
    .values(
        status=sa.bindparam("new_status"),
        result=sa.bindparam("new_result"),
        error=sa.bindparam("new_error"),
        completed_at=sa.bindparam("time"),
        payload=sa.bindparam("kept"),
    )
)
_SET_PROGRESS = Statement(
    sa.update(OperationRow)
    .where(col(OperationRow.id) == sa.bindparam("operation"))
    .values(progress=sa.bindparam("new_progress"), attempt=sa.literal_column("0"))
)
_SET_STEP = Statement(
    sa.update(TrainingClient)
    .where(col(TrainingClient.id) == sa.bindparam("client"))
    .values({name: sa.bindparam(f"new_{name}") for name in STEP_VALUES})
)
_PROVE_ALIVE = Statement(
    sa.update(Work)
    .where(col(Work.id) == sa.bindparam("client"))
    .values(failures=sa.literal_column("0"), last_active=sa.bindparam("time"))
)
_FORGET_ROWS = Statement(
    sa.update(OperationRow)
    .where(
        col(OperationRow.client_id) == sa.bindparam("client"),
        col(OperationRow.seq) < sa.bindparam("before"),
        col(OperationRow.payload).is_not(None),
        col(OperationRow.status) != "pending",
    )
    .values(payload=sa.null())
)


class WorkQueue:
    """One training client's queue, as its worker holds it."""

    def __init__(self, database: Database, folder: Path, fence: Fence) -> None:
        self.database = database
        self.folder = folder
        self.fence = fence
        self.client_id = fence.work_id
        self._taken: Operation | None = None

    def client(self) -> TrainingClient:
        """The client's row as it is now."""
        with self.database.read() as session:
            return session.exec(select(TrainingClient).where(TrainingClient.id == self.client_id)).one()

    def orders(self) -> tuple[str, bool, bool]:
        """What the client's row asks of its worker: status, whether it is held, whether a run is to stop."""
        with self.database.read() as session:
            row = _ORDERS.first(session, client=self.client_id)
        return row.status, bool(row.paused), bool(row.stop_requested)

    def begin_next(self) -> Operation | None:
        """Take the oldest waiting operation, or nothing."""
        taken, self._taken = self._taken, None
        if taken is not None:
            return taken
        with self.database.write() as session:
            self.fence.hold(session)
            return self._begin(session)

    def give_back_taken(self) -> None:
        """Return what was taken together with the last end but has not been begun."""
        taken, self._taken = self._taken, None
        if taken is not None:
            self.put_back(taken)

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
        self._end(operation, "completed", result=result, also=write, keep_rows=keep_rows)

    def fail(self, operation: Operation, error: WorkbenchError) -> None:
        """Store why an operation could not be done, or that it was not wanted any more."""
        status = "cancelled" if isinstance(error, OperationCancelled) else "failed"
        self._end(operation, status, error=error.as_record())

    def put_back(self, operation: Operation, **values: Any) -> None:
        """Return a running operation to the queue, for the next worker."""
        self.write(
            lambda session: self._set_operation(session, operation.id, {"status": "pending", **values})
        )

    def note_progress(self, session: Session, operation: Operation, progress: dict[str, Any]) -> None:
        """Store how far a long operation has come, so that the next worker can take it up from here.

        The caller writes in the same `session` what belongs to it.
        """
        _SET_PROGRESS.change(session, operation=operation.id, new_progress=json.dumps(progress))
        self._prove_alive(session)

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

        def change(session: Session) -> None:
            client = session.get_one(TrainingClient, self.client_id)
            if client.status == Status.TERMINATED:
                return
            step = client_values.get("step", client.step)
            self._set_client(session, {"status": status, "reason": reason, **client_values})
            Events(session).record(self.client_id, StatusChanged(status, step, client.paused, reason))

        self.write(change)

    def take_up(self) -> tuple[list[Operation], bool]:
        """After another worker: requeue what it was doing, and return the gradients to form again, in order.

        The second value says whether an operation was cut off in the middle.
        """
        with self.database.read() as session:
            running = [Operation.of(row) for row in _RUNNING.rows(session, client=self.client_id)]
            gradients = [Operation.of(row) for row in _REPLAYED.rows(session, client=self.client_id)]
        for operation in running:
            if operation.attempt + 1 >= MOST_ATTEMPTS:
                self.fail(operation, WorkerLost(f"{operation.attempt + 1} workers ended while doing this"))
            else:
                self.put_back(operation, attempt=operation.attempt + 1)
        return gradients, bool(running)

    def rest(self) -> bool:
        """Say that no worker is needed, unless something has arrived. True when this worker may leave.

        What a paused client's operations wait for is not a worker: resuming asks for one.
        """
        with self.database.write() as session:
            self.fence.hold(session)
            orders = _ORDERS.first(session, client=self.client_id)
            if orders.paused and orders.status not in ENDED:
                release_work(session, self.client_id)
                return True
            waiting = select(OperationRow.id).where(
                OperationRow.client_id == self.client_id, col(OperationRow.status).in_(("pending", "running"))
            )
            if session.exec(waiting.limit(1)).first() is not None:
                return False
            release_work(session, self.client_id)
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
        status: str,
        *,
        result: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
        also: Also | None = None,
        keep_rows: bool = False,
    ) -> None:
        def change(session: Session) -> None:
            _END.change(
                session,
                operation=operation.id,
                new_status=status,
                new_result=json.dumps(result),
                new_error=json.dumps(error),
                time=now(),
                kept=operation.payload if keep_rows else None,
            )
            self._prove_alive(session)
            Events(session).record(
                self.client_id, OperationEnded(operation.id, operation.kind, status, error)
            )
            if also is not None:
                also(session)
            if operation.kind == OperationKind.TRAIN:
                tell_end(session, operation, status, result if error is None else error)
            elif operation.kind == OperationKind.FIT and error is not None:
                fail_job(session, self.folder, self.client_id, error)
            self._taken = self._begin(session)  # the next one in the same transaction: one lock less per step

        self.write(change)

    def _begin(self, session: Session) -> Operation | None:
        row = _BEGIN.first(session, client=self.client_id, time=now())
        if row is None:
            return None
        return Operation.of(row)

    def _set_operation(self, session: Session, operation_id: str, values: dict[str, Any]) -> None:
        session.connection().execute(
            sa.update(OperationRow).where(col(OperationRow.id) == operation_id).values(**values)
        )

    def _set_client(self, session: Session, values: dict[str, Any]) -> None:
        if values.keys() == set(STEP_VALUES):
            told = {f"new_{name}": json.dumps(values[name]) for name in STEP_VALUES if name != "step"}
            _SET_STEP.change(session, client=self.client_id, new_step=values["step"], **told)
            return
        session.connection().execute(
            sa.update(TrainingClient).where(col(TrainingClient.id) == self.client_id).values(**values)
        )

    def _prove_alive(self, session: Session) -> None:
        """Something was achieved, so earlier deaths of workers were not this client's fault for ever."""
        _PROVE_ALIVE.change(session, client=self.client_id, time=now())

    def _forget_rows(self, session: Session, seq: int) -> None:
        """Rows that callers sent are kept only until the step that used them."""
        _FORGET_ROWS.change(session, client=self.client_id, before=seq)
