"""Training clients as the API sees them: created, found, steered and ended.

The work itself is the worker's.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import uuid
from pathlib import Path

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.datasets import Dataset
from tg_workbench.errors import (
    ClientTerminated,
    DatasetNotFound,
    IdempotencyConflict,
    InvalidRequest,
    PrivacyRefused,
    TrainingClientNotFound,
    UnknownModel,
)
from tg_workbench.events import Events, StatusChanged
from tg_workbench.execution import request_worker, ring
from tg_workbench.identity import Principal
from tg_workbench.storage.database import after_commit
from tg_workbench.storage.statements import Statement
from tg_workbench.training.operations import Operations
from tg_workbench.training.specs import (
    ENDED,
    LANGUAGE_MODELS,
    MODEL_REFS,
    ROW_MODELS,
    WORK_KIND,
    ClientSpec,
    OperationKind,
    Status,
)
from tg_workbench.training.tables import Artifact, Operation, OperationRow, TrainingClient

FEWEST_CANARIES = 20
MOST_CANARY_NUMBERS = 1 << 25
"""Canaries are kept in memory, and made there with as many numbers again."""

_STANDING = Statement(
    sa.select(col(TrainingClient.owner_id), col(TrainingClient.status), col(TrainingClient.reason)).where(
        col(TrainingClient.id) == sa.bindparam("client")
    )
)


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
        self._check(owner, spec)
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
            raise TrainingClientNotFound(client_id)
        return client

    def list_page(
        self, owner: Principal, *, limit: int = 50, offset: int = 0
    ) -> tuple[list[TrainingClient], int]:
        """The owner's clients, newest first, and how many there are. Ended ones are listed too."""
        mine = col(TrainingClient.owner_id) == owner.id
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
            raise TrainingClientNotFound(client_id)
        if standing.status in ENDED and not self.operations.knows(client_id, idempotency_key):
            raise ClientTerminated(client_id, standing.reason)
        return self.operations.submit(
            owner, client_id, kind, payload, content_type=content_type, idempotency_key=idempotency_key
        )

    def terminate(self, owner: Principal, client_id: str, reason: str = "it was deleted") -> TrainingClient:
        """End a client: what waits is cancelled, its worker leaves. What it spent stays in the ledger."""
        client = self.get(owner, client_id)
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
        """How many clients that have not ended read the dataset."""
        query = (
            select(sa.func.count())
            .select_from(TrainingClient)
            .where(TrainingClient.dataset_id == dataset_id, col(TrainingClient.status).not_in(ENDED))
        )
        return self.session.exec(query).one()

    def _steer(self, owner: Principal, client_id: str, *, paused: bool) -> TrainingClient:
        client = self.get(owner, client_id)
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

    def _check(self, owner: Principal, spec: ClientSpec) -> None:
        """Refuse at once what the worker could only refuse later."""
        if spec.model_ref not in MODEL_REFS and not Path(spec.model_ref).is_absolute():
            raise UnknownModel(list(MODEL_REFS))
        if Path(spec.model_ref).is_absolute() and not _is_model_folder(Path(spec.model_ref)):
            raise UnknownModel(list(MODEL_REFS))
        if spec.model_ref in ROW_MODELS and spec.architecture is None and spec.dataset_id is None:
            raise InvalidRequest(
                f"{spec.model_ref} needs an 'architecture' (input_shape, output_size), or a 'dataset_id' "
                "to take it from"
            )
        if spec.dataset_id is not None and spec.gradient_accumulation_steps > 1:
            raise InvalidRequest(
                "with a dataset_id one draw is one step: ask for a larger batch_size instead of "
                "gradient_accumulation_steps"
            )
        if spec.lora is not None and spec.model_ref in MODEL_REFS and spec.model_ref not in LANGUAGE_MODELS:
            raise InvalidRequest(f"{spec.model_ref} has no attention layers for LoRA: leave lora_config out")
        dataset = self._dataset(owner, spec.dataset_id)
        _check_averaging(spec, dataset)
        _check_canaries(spec, dataset)
        if dataset is not None and dataset.privacy == "protected" and spec.dp is not None:
            _check_privacy(spec, dataset)
        if spec.dp is not None and spec.dp.enabled and spec.dp.noise_multiplier is None:
            if spec.dp.target_epsilon is None:
                raise InvalidRequest("dp_config needs a noise_multiplier or a target_epsilon")
            if spec.max_steps is None and dataset is None:
                raise InvalidRequest(
                    "to choose the noise for a target_epsilon, max_steps must be known: set it"
                )

    def _dataset(self, owner: Principal, dataset_id: str | None) -> Dataset | None:
        if dataset_id is None:
            return None
        dataset = self.session.get(Dataset, dataset_id)
        if dataset is None or dataset.deleted_at is not None or dataset.owner_id != owner.id:
            raise DatasetNotFound(dataset_id)
        return dataset


def _is_model_folder(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file()
    except OSError:  # a name that no file system takes, or a folder we may not enter
        return False


def _check_averaging(spec: ClientSpec, dataset: Dataset | None) -> None:
    """A plan over a dataset says how many steps there are; without one the caller must."""
    asked = spec.dp is not None and spec.dp.enabled
    if dataset is None or (dataset.privacy != "protected" and not asked):
        spec.optimizer.average_after(spec.max_steps)


def _check_canaries(spec: ClientSpec, dataset: Dataset | None) -> None:
    """Canaries are learned by the server's own draws, and are few beside the rows."""
    if not spec.audit_canaries:
        return
    if dataset is None:
        raise InvalidRequest(
            "audit_canaries are learned beside a dataset: create the client with a dataset_id"
        )
    if spec.audit_canaries < FEWEST_CANARIES:
        raise InvalidRequest(f"fewer than {FEWEST_CANARIES} audit_canaries prove nothing: ask for more")
    if spec.audit_canaries > dataset.size:
        raise InvalidRequest(f"audit_canaries must not be more than the {dataset.size} rows of the dataset")
    tensors = json.loads(dataset.tensors) if dataset.tensors else {}
    numbers = sum(math.prod(tensor["shape"][1:]) for tensor in tensors.values())
    if spec.audit_canaries * numbers > MOST_CANARY_NUMBERS:
        raise InvalidRequest("so many audit_canaries of this size do not fit in memory: ask for fewer")
    if spec.dp is not None and spec.dp.enabled and spec.dp.noisy_loss_bound is not None:
        raise InvalidRequest(
            "a noisy loss would count the audit_canaries too: leave out noisy_loss_bound or audit_canaries"
        )


def _check_privacy(spec: ClientSpec, dataset: Dataset) -> None:
    dp = spec.dp
    if dp is None:
        return
    if not dp.enabled:
        raise PrivacyRefused(
            f"dataset {dataset.id} is protected: it is only trained on with differential privacy"
        )
    if dp.target_epsilon is not None and dp.target_epsilon > dataset.epsilon_cap:
        raise PrivacyRefused(
            f"target_epsilon {dp.target_epsilon:g} is above the cap of dataset {dataset.id}: ask for at most "
            f"{dataset.epsilon_cap:g}"
        )
    if dp.target_delta is not None and dp.target_delta != dataset.delta:
        raise PrivacyRefused(
            "delta is fixed per dataset so that runs compose: leave target_delta out or give "
            f"{dataset.delta:g}"
        )
