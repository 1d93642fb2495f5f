"""Operations: the ordered queue of each training client, and the futures of their answers.

The same Idempotency-Key gives the same operation back, so a retry is never done twice; the same key with
another body is refused. Operations of one client run in the order they were accepted.
"""

from __future__ import annotations

import hashlib
import json
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
from tg_workbench.training.specs import WORK_KIND, OperationKind
from tg_workbench.training.tables import Operation, TrainingClient

MOST_WAITING = 1000

_WAITING = Statement(
    sa.select(sa.func.count())
    .select_from(Operation)
    .where(
        col(Operation.client_id) == sa.bindparam("client"),
        sa.or_(col(Operation.status) == "pending", col(Operation.status) == "running"),
    )
)
_BY_KEY = Statement(
    sa.select(col(Operation.id)).where(
        col(Operation.client_id) == sa.bindparam("client"),
        col(Operation.idempotency_key) == sa.bindparam("key"),
    )
)
_NEXT_SEQ = Statement(
    sa.update(TrainingClient)
    .where(col(TrainingClient.id) == sa.bindparam("client"))
    .values(next_seq=col(TrainingClient.next_seq) + 1)
    .returning(col(TrainingClient.next_seq))
)
_INSERT = insertion(Operation)
_WITHOUT_ROWS = Statement(
    sa.select(
        *(column for column in sa.inspect(Operation).local_table.columns if column.name != "payload")
    ).where(col(Operation.id) == sa.bindparam("future"))
)
_STATUS = Statement(sa.select(col(Operation.status)).where(col(Operation.id) == sa.bindparam("future")))


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
            seq=_NEXT_SEQ.run(self.session, client=client_id).scalar_one() - 1,
            kind=kind,
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
            content_type=content_type,
            payload=payload,
        )
        _INSERT.run(self.session, **operation.model_dump())
        request_worker(self.session, self.folder, client_id, WORK_KIND)
        return operation

    def get(self, owner: Principal, future_id: str) -> Operation:
        """The operation, without its payload. Raises FutureNotFound, also when it is somebody else's."""
        row = _WITHOUT_ROWS.run(self.session, future=future_id).mappings().first()
        if row is None or row["owner_id"] != owner.id:
            raise FutureNotFound(future_id)
        read = {name: json.loads(row[name]) for name in ("progress", "result", "error") if row[name]}
        return Operation(**{**row, "progress": None, "result": None, "error": None, **read})

    def has_ended(self, future_id: str) -> bool:
        """Whether it has completed, failed or was cancelled. Cheap: whoever waits asks often."""
        return _STATUS.run(self.session, future=future_id).scalar() not in ("pending", "running")

    def cancel(self, owner: Principal, future_id: str) -> bool:
        """Cancel an operation that has not begun; False when it is too late. Raises FutureNotFound."""
        operation = self.get(owner, future_id)
        return self.cancel_waiting(operation.client_id, only=operation.id) == 1

    def cancel_waiting(
        self,
        client_id: str,
        *,
        only: str | None = None,
        reason: str = "the operation was cancelled before it began",
    ) -> int:
        """Cancel what waits in a client's queue and return how many operations that were."""
        query = select(Operation).where(Operation.client_id == client_id, Operation.status == "pending")
        if only is not None:
            query = query.where(Operation.id == only)
        operations = list(self.session.exec(query.order_by(col(Operation.seq))))
        for operation in operations:
            operation.status, operation.completed_at, operation.payload = "cancelled", now(), None
            operation.error = OperationCancelled(reason).as_record()
            self.session.add(operation)
            fact = OperationEnded(operation.id, operation.kind, operation.status, operation.error)
            Events(self.session).record(client_id, fact)
        after_commit(self.session, lambda: ring(self.folder, "api-*", client_id))
        self.session.flush()
        return len(operations)

    def waiting(self, client_id: str) -> int:
        """How many of the client's operations are not finished."""
        return int(_WAITING.run(self.session, client=client_id).scalar_one())

    def _by_key(self, client_id: str, key: str | None) -> Operation | None:
        known = _BY_KEY.run(self.session, client=client_id, key=key).scalar() if key is not None else None
        return self.session.get(Operation, known) if known is not None else None
