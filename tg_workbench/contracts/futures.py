"""Operations handed in and waited for, without holding a session or the event loop while they run.

A submission is committed before anybody waits. Whoever waits is woken by a bell and looks again by itself in
case the bell was lost; when the server is asked to stop, every wait ends with what is known then.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Depends, Header
from pydantic import BaseModel
from sqlmodel import Session
from starlette.requests import Request

from tg_workbench.contracts.failures import OperationFailed
from tg_workbench.contracts.premises import Premises, premises_of
from tg_workbench.contracts.providers import IdempotencyKey
from tg_workbench.contracts.route import PRINCIPAL
from tg_workbench.contracts.waiting import Waiting
from tg_workbench.errors import DeadlineExceeded
from tg_workbench.events import Events
from tg_workbench.identity import Principal
from tg_workbench.training import Operation, OperationKind, Operations, TrainingClients

LONGEST_ANSWER_SECONDS = 600.0
LONGEST_PREFERENCE_SECONDS = 60.0
UNFINISHED = ("pending", "running")
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE)


class Payload:
    """What an operation is asked to do, as its worker will read it."""

    def __init__(self, content: bytes, content_type: str = "application/json") -> None:
        self.content = content
        self.content_type = content_type

    @classmethod
    def of(cls, body: BaseModel) -> Payload:
        """A checked body with its defaults filled in; what was not said is left out."""
        return cls(body.model_dump_json(exclude_none=True).encode())


class Futures:
    """The futures of one principal, for one request."""

    def __init__(self, premises: Premises, owner: Principal, key: str | None, prefer: str | None) -> None:
        self.premises = premises
        self.owner = owner
        self.idempotency_key = key
        self.patience = _seconds_in(prefer)

    async def place(
        self, client_id: str, kind: OperationKind, payload: Payload, wait: float = 0.0
    ) -> Operation:
        """Hand in an operation, and look at it once more after `wait` seconds or at its end.

        With `Prefer: wait` its failure is the answer. Raises what `submit` does, OperationFailed.
        """
        operation = self._submit(client_id, kind, payload)
        if self.patience is None:
            return await self._end_of(operation, wait)
        return checked(await self._end_of(operation, self.patience))

    async def answer(self, client_id: str, kind: OperationKind, payload: Payload) -> dict[str, Any]:
        """The answer to an operation. Raises OperationFailed; DeadlineExceeded, and then it goes on."""
        operation = self._submit(client_id, kind, payload)
        operation = checked(await self._end_of(operation, LONGEST_ANSWER_SECONDS))
        if operation.result is None:
            raise DeadlineExceeded(operation.id)
        return operation.result

    async def settled(self, future_id: str, seconds: float) -> Operation:
        """The operation once it has ended, or as it is after `seconds`. Raises FutureNotFound."""
        return await self._end_of(self._look(future_id), seconds)

    def last_event_before(self, operation: Operation) -> int:
        """The id of the newest event of its client from before it was handed in; 0 when there is none."""
        with self.premises.database.read() as session:
            return Events(session).newest_before(operation.client_id, operation.created_at)

    async def _end_of(self, operation: Operation, seconds: float) -> Operation:
        return await Waiting(self.premises, operation.client_id).settled(
            operation,
            seconds,
            look=lambda session: self._operation(session, operation.id),
            is_settled=lambda seen: seen.status not in UNFINISHED,
        )

    def _submit(self, client_id: str, kind: OperationKind, payload: Payload) -> Operation:
        with self.premises.database.write() as session:
            return TrainingClients(session, self.premises.folder).submit(
                self.owner,
                client_id,
                kind,
                payload.content,
                content_type=payload.content_type,
                idempotency_key=self.idempotency_key,
            )

    def _look(self, future_id: str) -> Operation:
        with self.premises.database.read() as session:
            return self._operation(session, future_id)

    def _operation(self, session: Session, future_id: str) -> Operation:
        return Operations(session, self.premises.folder).get(self.owner, future_id)


def checked(operation: Operation) -> Operation:
    """The operation, unless it failed or was cancelled: then OperationFailed says why."""
    if operation.error is not None:
        raise OperationFailed(operation.error, operation.id)
    return operation


def _seconds_in(prefer: str | None) -> float | None:
    """The N of `Prefer: wait=N` (RFC 7240), at most a minute; other preferences are not ours to refuse."""
    found = _WAIT.search(prefer or "")
    return min(float(found[1]), LONGEST_PREFERENCE_SECONDS) if found else None


async def _futures(
    request: Request,
    idempotency_key: IdempotencyKey = None,
    prefer: Annotated[
        str | None, Header(description="`wait=N`: answer with the end, if it comes in N s.")
    ] = None,
) -> Futures:
    return Futures(premises_of(request), request.scope[PRINCIPAL], idempotency_key, prefer)


async def _watch(request: Request) -> Futures:
    return Futures(premises_of(request), request.scope[PRINCIPAL], None, None)


FuturesDesk = Annotated[Futures, Depends(_futures)]
"""For routes that hand in operations."""
FuturesWatch = Annotated[Futures, Depends(_watch)]
"""For routes that only look."""
