"""Training clients as the API sees them: created, found, steered and ended.

The work itself is the worker's.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import uuid
from pathlib import Path

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.datasets import Dataset, require_ready
from tg_workbench.errors import (
    ClientTerminated,
    DatasetNotFound,
    IdempotencyConflict,
    Refused,
    TrainingClientNotFound,
)
from tg_workbench.events import Events, StatusChanged
from tg_workbench.execution import request_worker, ring
from tg_workbench.identity import Principal
from tg_workbench.storage.database import after_commit
from tg_workbench.storage.statements import Statement
from tg_workbench.training.admission import check
from tg_workbench.training.operations import Operations
from tg_workbench.training.specs import (
    ACTIVE_JOBS,
    ENDED,
    WORK_KIND,
    ClientSpec,
    OperationKind,
    Status,
)
from tg_workbench.training.tables import Artifact, Job, Operation, OperationRow, TrainingClient

_STANDING = Statement(
    sa.select(
        col(TrainingClient.owner_id),
        col(TrainingClient.status),
        col(TrainingClient.reason),
        col(TrainingClient.job_id),
    ).where(col(TrainingClient.id) == sa.bindparam("client"))
)
_SEEN = Statement(sa.select(TrainingClient).where(col(TrainingClient.id) == sa.bindparam("client")))


class TrainingClients:
    """The training clients of a workbench."""

    def __init__(self, session: Session, folder: Path) -> None:
        self.session = session
        self.folder = folder
        self.operations = Operations(session, folder)

    def create(
        self, owner: Principal, spec: ClientSpec, *, idempotency_key: str | None = None
    ) -> TrainingClient:
        """Accept a new client; its worker builds the model. The same key gives the same client.

        Raises UnknownModel, InvalidRequest, DatasetNotFound, PrivacyRefused, IdempotencyConflict.
        """
        fingerprint = hashlib.sha256(json.dumps(spec.as_json(), sort_keys=True).encode()).hexdigest()
        if known := self._by_key(owner, idempotency_key):
            if known.fingerprint != fingerprint:
                raise IdempotencyConflict
            return known
        check(spec, self._dataset(owner, spec.dataset_id))
        client = TrainingClient(
            id=f"tc-{uuid.uuid4()}",
            owner_id=owner.id,
            tenant_id=owner.tenant_id,
            model_ref=spec.model_ref,
            dataset_id=spec.dataset_id,
            config={**spec.as_json(), "audit_seed": secrets.token_hex(32) if spec.audit_canaries else None},
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
        )
        self.session.add(client)
        self.session.flush()
        self._tell(client)
        request_worker(self.session, self.folder, client.id, WORK_KIND)
        return client

    def get(self, owner: Principal, client_id: str) -> TrainingClient:
        """The client. Raises TrainingClientNotFound, also when it is somebody else's."""
        client = self.session.get(TrainingClient, client_id)
        if client is None or client.owner_id != owner.id:
            raise TrainingClientNotFound
        return client

    def look_at(self, owner: Principal, client_id: str) -> TrainingClient:
        """The client as it is now, to be shown: a copy, which stores no change. Raises as `get`.

        Panels ask this over and over, and it costs a third of `get`.
        """
        row = _SEEN.first(self.session, client=client_id)
        if row is None or row.owner_id != owner.id:
            raise TrainingClientNotFound
        return TrainingClient.of(row)

    def list_page(
        self, owner: Principal, *, limit: int = 50, offset: int = 0
    ) -> tuple[list[TrainingClient], int]:
        """The owner's clients, newest first, and how many there are. Ended ones are listed too."""
        mine = sa.and_(col(TrainingClient.owner_id) == owner.id, col(TrainingClient.job_id).is_(None))
        total = self.session.exec(select(sa.func.count()).select_from(TrainingClient).where(mine)).one()
        newest_first = (col(TrainingClient.created_at).desc(), col(TrainingClient.id))
        query = select(TrainingClient).where(mine).order_by(*newest_first)
        return list(self.session.exec(query.limit(limit).offset(offset))), total

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
        """Queue an operation.

        Raises TrainingClientNotFound, ClientTerminated, and what `Operations.submit` does.
        """
        standing = _STANDING.first(self.session, client=client_id)
        if standing is None or standing.owner_id != owner.id:
            raise TrainingClientNotFound
        _require_free(standing.job_id)
        if standing.status in ENDED and not self.operations.knows(client_id, idempotency_key):
            raise ClientTerminated(client_id, standing.reason)
        return self.operations.submit(
            owner, client_id, kind, payload, content_type=content_type, idempotency_key=idempotency_key
        )

    def terminate(self, owner: Principal, client_id: str, reason: str = "it was deleted") -> TrainingClient:
        """End a client: what waits is cancelled, its worker leaves. What it spent stays in the ledger."""
        client = self.get(owner, client_id)
        _require_free(client.job_id)
        if client.status == Status.TERMINATED:
            return client
        client.status, client.reason, client.stop_requested = Status.TERMINATED, reason, True
        self.operations.cancel_waiting(
            client.id, reason="its training client was deleted before the operation began"
        )
        rows = sa.update(OperationRow).where(col(OperationRow.client_id) == client.id)
        self.session.connection().execute(rows.values(payload=None))  # nobody needs what callers sent
        return self._changed(client)

    def pause(self, owner: Principal, client_id: str) -> TrainingClient:
        """Hold the client at the next step border; operations wait."""
        return self._steer(owner, client_id, paused=True)

    def resume(self, owner: Principal, client_id: str) -> TrainingClient:
        """Let a paused client go on."""
        return self._steer(owner, client_id, paused=False)

    def stop(self, owner: Principal, client_id: str) -> TrainingClient:
        """End running and waiting `train` operations at the next step border; the client stays usable."""
        client = self._steer(owner, client_id, paused=False)
        client.stop_requested = True
        query = select(OperationRow.id).where(
            OperationRow.client_id == client_id,
            OperationRow.status == "pending",
            OperationRow.kind == OperationKind.TRAIN,
        )
        for future_id in list(self.session.exec(query)):
            self.operations.cancel_waiting(
                client_id, only=future_id, reason="training was stopped before it began"
            )
        return self._changed(client)

    def status_of(self, client: TrainingClient) -> Status:
        """The status to show: what is stored, refined by whether it is held or has something to do."""
        if client.status in (*ENDED, Status.INITIALIZING):
            return Status(client.status)
        if client.paused:
            return Status.PAUSED
        return Status.BUSY if self.operations.waiting(client.id) else Status.READY

    def is_over(self, client_id: str) -> bool:
        """Whether nothing more can happen: the client has ended, and all it was asked is answered."""
        standing = _STANDING.first(self.session, client=client_id)
        return standing is None or (standing.status in ENDED and not self.operations.waiting(client_id))

    def artifacts(
        self, owner: Principal, client_id: str, *, limit: int = 50, offset: int = 0
    ) -> tuple[list[Artifact], int]:
        """The client's checkpoints, newest first, and how many there are."""
        self.get(owner, client_id)
        its = col(Artifact.client_id) == client_id
        total = self.session.exec(select(sa.func.count()).select_from(Artifact).where(its)).one()
        newest_first = (col(Artifact.created_at).desc(), col(Artifact.id))
        query = select(Artifact).where(its).order_by(*newest_first)
        return list(self.session.exec(query.limit(limit).offset(offset))), total

    def users_of(self, dataset_id: str) -> int:
        """How many clients and jobs that have not ended read the dataset."""
        active = select(Job.id).where(Job.dataset_id == dataset_id, col(Job.status).in_(ACTIVE_JOBS))
        query = (
            select(sa.func.count())
            .select_from(TrainingClient)
            .where(TrainingClient.dataset_id == dataset_id, col(TrainingClient.status).not_in(ENDED))
            .where(sa.or_(col(TrainingClient.job_id).is_(None), col(TrainingClient.job_id).in_(active)))
        )
        return self.session.exec(query).one()

    def _steer(self, owner: Principal, client_id: str, *, paused: bool) -> TrainingClient:
        client = self.get(owner, client_id)
        _require_free(client.job_id)
        if client.status in ENDED:
            raise ClientTerminated(client_id, client.reason)
        client.paused = paused
        return self._changed(client)

    def _changed(self, client: TrainingClient) -> TrainingClient:
        self.session.add(client)
        self._tell(client)
        request_worker(self.session, self.folder, client.id, WORK_KIND)
        self.session.flush()
        return client

    def _tell(self, client: TrainingClient) -> None:
        fact = StatusChanged(client.status, client.step, client.paused, client.reason)
        Events(self.session).record(client.id, fact)
        after_commit(self.session, lambda: ring(self.folder, "api-*", client.id))

    def _by_key(self, owner: Principal, key: str | None) -> TrainingClient | None:
        if key is None:
            return None
        query = select(TrainingClient).where(
            TrainingClient.owner_id == owner.id, TrainingClient.idempotency_key == key
        )
        return self.session.exec(query).first()

    def _dataset(self, owner: Principal, dataset_id: str | None) -> Dataset | None:
        if dataset_id is None:
            return None
        dataset = self.session.get(Dataset, dataset_id)
        if dataset is None or dataset.deleted_at is not None or dataset.owner_id != owner.id:
            raise DatasetNotFound
        require_ready(dataset)
        return dataset


def _require_free(job_id: str | None) -> None:
    """Raise Refused for the client of a job: that goes on by itself."""
    if job_id is not None:
        raise Refused(f"this training client belongs to {job_id}: stop or restart the job instead")
