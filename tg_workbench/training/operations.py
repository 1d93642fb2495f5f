"""Operations: the ordered queue of each training client, and the futures of their answers.

The same Idempotency-Key gives the same operation back, so a retry is never done twice; the same key with
another body is refused. Operations of one client run in the order they were accepted.
"""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import FutureNotFound, IdempotencyConflict, OperationCancelled, QueueFull
from tg_workbench.events import Events, OperationEnded
from tg_workbench.execution import request_worker, ring
from tg_workbench.identity import Principal
from tg_workbench.storage.database import after_commit, now
from tg_workbench.storage.statements import Statement, insertion
from tg_workbench.training.closing import fail_job
from tg_workbench.training.notices import tell_end
from tg_workbench.training.specs import WORK_KIND, OperationKind
from tg_workbench.training.tables import Operation, OperationRow, TrainingClient

MOST_WAITING = 1000

_WITHOUT_PAYLOAD = [
    column for column in sa.inspect(OperationRow).local_table.columns if column.name != "payload"
]
_WAITING = Statement(
    sa.select(sa.func.count())
    .select_from(OperationRow)
    .where(
        col(OperationRow.client_id) == sa.bindparam("client"),
        sa.or_(col(OperationRow.status) == "pending", col(OperationRow.status) == "running"),
    )
)
_BY_KEY = Statement(
    sa.select(*_WITHOUT_PAYLOAD).where(
        col(OperationRow.client_id) == sa.bindparam("client"),
        col(OperationRow.idempotency_key) == sa.bindparam("key"),
    )
)
_NEXT_SEQ = Statement(
    sa.update(TrainingClient)
    .where(col(TrainingClient.id) == sa.bindparam("client"))
    .values(next_seq=col(TrainingClient.next_seq) + 1)
    .returning(col(TrainingClient.next_seq))
)
_INSERT = insertion(OperationRow)
_BY_ID = Statement(sa.select(*_WITHOUT_PAYLOAD).where(col(OperationRow.id) == sa.bindparam("future")))


class Operations:
    """Accepts, finds and cancels operations. `folder` is where the workers' bells hang."""

    def __init__(self, session: Session, folder: Path) -> None:
        self.session = session
        self.folder = folder

    def submit(
        self,
        owner: Principal,
        client_id: str,
        kind: OperationKind,
        payload: bytes,
        *,
        content_type: str = "application/json",
        idempotency_key: str | None = None,
    ) -> Operation:
        """Accept an operation. Raises IdempotencyConflict and QueueFull; then nothing was accepted."""
        fingerprint = hashlib.sha256(
            kind.encode() + b"\0" + content_type.encode() + b"\0" + payload
        ).hexdigest()
        if known := self._by_key(client_id, idempotency_key):
            if known.fingerprint != fingerprint:
                raise IdempotencyConflict
            return known
        if self.waiting(client_id) >= MOST_WAITING:
            raise QueueFull(MOST_WAITING)
        operation = Operation(
            id=f"fut-{uuid.uuid4()}",
            client_id=client_id,
            owner_id=owner.id,
            seq=_NEXT_SEQ.value(self.session, client=client_id) - 1,
            kind=kind,
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
            content_type=content_type,
            payload=payload,
        )
        _INSERT.change(self.session, **operation.model_dump())
        request_worker(self.session, self.folder, client_id, WORK_KIND)
        return operation

    def get(self, owner: Principal, future_id: str) -> Operation:
        """The operation, without its payload. Raises FutureNotFound, also when it is somebody else's."""
        row = _BY_ID.first(self.session, future=future_id)
        if row is None or row.owner_id != owner.id:
            raise FutureNotFound
        return Operation.of(row)

    def cancel(self, owner: Principal, future_id: str) -> bool:
        """Cancel an operation that has not begun; False when it is too late. Raises FutureNotFound.

        What is cancelled already stays so: asking again gets the same answer.
        """
        operation = self.get(owner, future_id)
        if operation.status == "cancelled":
            return True
        return self.cancel_waiting(operation.client_id, only=operation.id) == 1

    def cancel_waiting(
        self,
        client_id: str,
        *,
        only: str | None = None,
        reason: str = "the operation was cancelled before it began",
    ) -> int:
        """Cancel what waits in a client's queue and return how many operations that were."""
        query = select(OperationRow).where(
            OperationRow.client_id == client_id, OperationRow.status == "pending"
        )
        if only is not None:
            query = query.where(OperationRow.id == only)
        operations = list(self.session.exec(query.order_by(col(OperationRow.seq))))
        for operation in operations:
            operation.status, operation.completed_at, operation.payload = "cancelled", now(), None
            operation.error = OperationCancelled(reason).as_record()
            self.session.add(operation)
            fact = OperationEnded(operation.id, operation.kind, operation.status, operation.error)
            Events(self.session).record(client_id, fact)
            if operation.kind == OperationKind.TRAIN:
                tell_end(self.session, operation, operation.status, operation.error)
            elif operation.kind == OperationKind.FIT:
                fail_job(self.session, self.folder, client_id, operation.error)
        after_commit(self.session, lambda: ring(self.folder, "api-*", client_id))
        self.session.flush()
        return len(operations)

    def knows(self, client_id: str, idempotency_key: str | None) -> bool:
        """Whether an operation was accepted under this key: asking again for it is no new request."""
        return self._by_key(client_id, idempotency_key) is not None

    def waiting(self, client_id: str) -> int:
        """How many of the client's operations are not finished."""
        return int(_WAITING.value(self.session, client=client_id))

    def _by_key(self, client_id: str, key: str | None) -> Operation | None:
        row = _BY_KEY.first(self.session, client=client_id, key=key) if key is not None else None
        return None if row is None else Operation.of(row)
