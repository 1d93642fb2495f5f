"""Inference services: made, started, stopped, and what they are doing now.

A service is made stopped. `start` gets it a worker at once; with `min_replicas` 0 that worker leaves after a
while in which nobody asks, and the next question starts another.

Pitfalls: whether a service is ready is never stored, for a worker may die without a word: it is seen by
whether one listens. Who deletes a model has to ask `users_of` first.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import (
    AlreadyExists,
    InvalidRequest,
    ModelNotFound,
    Refused,
    ServiceNotFound,
    ServiceStopped,
)
from tg_workbench.execution import Turn, Work, release_work, request_worker, ring
from tg_workbench.execution.bells import bell_name
from tg_workbench.execution.work import LifeLock
from tg_workbench.identity import Principal
from tg_workbench.models.registry import Models
from tg_workbench.models.serving.places import (
    GENERATION,
    INFERENCE,
    MOST_REPLICAS,
    is_listening,
    work_id,
)
from tg_workbench.models.serving.pool import Target
from tg_workbench.models.serving.tables import Service
from tg_workbench.models.tables import Model
from tg_workbench.storage.database import after_commit, now
from tg_workbench.storage.statements import Statement

TRITON, ONNX_RUNTIME, TORCH = "triton", "onnxruntime", "torch"
RUNTIMES = (TRITON, ONNX_RUNTIME, TORCH)
MOST_SERVICES = 100
"""Of one owner."""
MOST_KEPT = 4
"""Workers that one owner's services may keep although nobody asks them: the places are everybody's."""
_MODEL = Statement(
    sa.select(col(Model.owner_id), col(Model.onnx_blob)).where(
        col(Model.id) == sa.bindparam("model"), col(Model.deleted_at).is_(None)
    )
)
"""Read for every prediction: the ORM takes longer for it than all else that the API does."""
Status = Literal["stopped", "starting", "ready", "failed", "stopping"]


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service as it is asked for."""

    name: str
    model_id: str
    runtime: str = ONNX_RUNTIME
    gpu_count: int = 0
    min_replicas: int = 0
    max_replicas: int = 1

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise InvalidRequest(f"runtime is one of {', '.join(RUNTIMES)}")
        if not 0 <= self.min_replicas <= self.max_replicas or not 1 <= self.max_replicas <= MOST_REPLICAS:
            raise InvalidRequest(
                f"min_replicas is from 0 to max_replicas, and that from 1 to {MOST_REPLICAS}"
            )


@dataclass(frozen=True, slots=True)
class Standing:
    """How a service stands now, and how many workers of it answer."""

    status: Status
    replicas: int


class Services:
    """Inference services."""

    def __init__(self, session: Session, folder: Path, models: Models) -> None:
        self.session = session
        self.folder = folder
        self.models = models

    def create(self, owner: Principal, spec: ServiceSpec, *, on_triton: bool = False) -> Service:
        """Make a service, stopped. Raises ModelNotFound, AlreadyExists, InvalidRequest.

        `on_triton`: a Triton server was asked for, is there, and has the model.
        """
        model = self.models.get(owner, spec.model_id)
        if self._named(owner, spec.name) is not None:
            raise AlreadyExists("an inference service of this name")
        if self._count(Service.owner_id == owner.id) >= MOST_SERVICES:
            raise InvalidRequest(f"there are {MOST_SERVICES} inference services already; delete one first")
        used = TRITON if on_triton else runtime_of(model)
        service = Service(
            id=f"svc-{uuid.uuid4()}",
            owner_id=owner.id,
            tenant_id=owner.tenant_id,
            name=spec.name,
            model_id=model.id,
            runtime=spec.runtime,
            runtime_used=used,
            gpu_count=spec.gpu_count,
            min_replicas=spec.min_replicas,
            max_replicas=spec.max_replicas,
            warnings=_warnings(spec, used),
        )
        self.session.add(service)
        self.session.flush()
        return service

    def get(self, owner: Principal, id_or_name: str) -> Service:
        """The service. Raises ServiceNotFound, also when it is somebody else's."""
        service = self.session.get(Service, id_or_name) or self._named(owner, id_or_name)
        if service is None or service.owner_id != owner.id:
            raise ServiceNotFound
        return service

    def list_page(self, owner: Principal, *, limit: int = 50, offset: int = 0) -> tuple[list[Service], int]:
        """The owner's services, the newest first, and how many there are."""
        mine = Service.owner_id == owner.id
        query = select(Service).where(mine).order_by(col(Service.created_at).desc(), col(Service.id))
        return list(self.session.exec(query.limit(limit).offset(offset))), self._count(mine)

    def start(self, owner: Principal, id_or_name: str, *, on_triton: bool = False) -> Service:
        """Have it answer, from now on and after every restart. Starting it twice is starting it once.

        Raises ServiceNotFound, ModelNotFound, and Refused where its owner keeps too many workers already.
        """
        service = self.get(owner, id_or_name)
        if service.is_started and service.reason is None:
            return service
        self._require_room(owner, service)
        used = TRITON if on_triton else runtime_of(self.models.get(owner, service.model_id))
        service.runtime_used, service.warnings = used, _warnings(service, used)
        service.is_started, service.reason, service.started_at = True, None, now()
        self.session.add(service)
        self.session.flush()
        if on_triton:
            return service
        target = self.target_of(service)
        works = [work_id(target.id, replica) for replica in range(max(1, service.min_replicas))]
        forgiven = sa.update(Work).where(col(Work.id).in_(works)).values(failures=0)
        self.session.connection().execute(forgiven)
        for work in works:
            request_worker(self.session, self.folder, work, target.kind, Turn(share=target.share))
        return service

    def _require_room(self, owner: Principal, service: Service) -> None:
        others = (Service.owner_id == owner.id, col(Service.is_started), Service.id != service.id)
        query = select(sa.func.coalesce(sa.func.sum(col(Service.min_replicas)), 0)).where(*others)
        kept = int(self.session.exec(query).one())
        if service.min_replicas and kept + service.min_replicas > MOST_KEPT:
            raise Refused(
                f"your services keep {kept} workers although nobody asks them, and {MOST_KEPT} are the most: "
                "stop one, or make this one with fewer min_replicas (0 starts with the first question)"
            )

    def stop(self, owner: Principal, id_or_name: str) -> Service:
        """Have its workers answer what they were asked, and leave."""
        service = self.get(owner, id_or_name)
        if service.is_started:
            service.is_started, service.reason, service.stopped_at = False, None, now()
            self.session.add(service)
            self.session.flush()
            self._release(service.id, service.max_replicas)
        return service

    def delete(self, owner: Principal, id_or_name: str) -> None:
        """Stop it and forget it."""
        service = self.stop(owner, id_or_name)
        self.session.delete(service)
        self.session.flush()

    def users_of(self, model_id: str) -> int:
        """How many services answer with a model: while there are any, it cannot be deleted."""
        return self._count(Service.model_id == model_id)

    def release_model(self, model_id: str) -> None:
        """Have the worker of a model that is deleted leave."""
        self._release(model_id, 1)

    def standing(self, service: Service) -> Standing:
        """What is seen of its workers."""
        works = [work_id(service.id, replica) for replica in range(service.max_replicas)]
        if not service.is_started:
            leaving = any(LifeLock(self.folder, work).is_held() for work in works)
            return Standing("stopping" if leaving else "stopped", 0)
        if service.reason is not None:
            return Standing("failed", 0)
        replicas = sum(is_listening(self.folder, work) for work in works)
        if replicas or service.runtime_used == TRITON:
            return Standing("ready", replicas)
        wanted = select(Work.id).where(col(Work.id).in_(works), col(Work.wanted))
        comes = self.session.exec(wanted.limit(1)).first() is not None
        return Standing("starting" if comes else "ready", 0)

    def target_of(self, service: Service) -> Target:
        """What is to answer for it. Raises ServiceStopped."""
        if not service.is_started:
            raise ServiceStopped
        kind = GENERATION if service.runtime_used == TORCH else INFERENCE
        return Target(service.id, kind, service.owner_id, service.max_replicas)

    def _named(self, owner: Principal, name: str) -> Service | None:
        query = select(Service).where(Service.owner_id == owner.id, Service.name == name)
        return self.session.exec(query).first()

    def _count(self, condition: bool) -> int:
        return self.session.exec(select(sa.func.count()).select_from(Service).where(condition)).one()

    def _release(self, target_id: str, replicas: int) -> None:
        for replica in range(replicas):
            work = work_id(target_id, replica)
            release_work(self.session, work)
            after_commit(self.session, lambda work=work: ring(self.folder, bell_name(work)))  # type: ignore[misc]


def runtime_of(model: Model) -> str:
    """What can answer for a model on this machine."""
    return TORCH if model.onnx_blob is None else ONNX_RUNTIME


def model_target(session: Session, owner: Principal, model_id: str) -> Target:
    """What answers for a model that is asked by itself. Raises ModelNotFound, also for somebody else's."""
    found = _MODEL.first(session, model=model_id)
    if found is None or found.owner_id != owner.id:
        raise ModelNotFound
    return Target(model_id, GENERATION if found.onnx_blob is None else INFERENCE, owner.id)


def _warnings(spec: ServiceSpec | Service, used: str) -> list[str]:
    warnings = []
    if spec.runtime == TRITON != used:
        warnings.append(f"no Triton server has this model: {used} answers for it on this machine")
    if spec.gpu_count and used != TRITON:
        warnings.append(f"{spec.gpu_count} GPU(s) were asked for: models answer on the CPU here")
    if spec.runtime == ONNX_RUNTIME and used == TORCH:
        warnings.append("this model has no ONNX graph, so torch answers for it")
    if spec.runtime == TORCH and used == ONNX_RUNTIME:
        warnings.append("ONNX Runtime answers for this model: it gives the same numbers, and sooner")
    return warnings
