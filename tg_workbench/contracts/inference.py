"""Asking models: finds whose a model or a service is, and has its workers, or Triton, answer.

No session is held while a worker computes. What a worker refuses is told like any error of ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from sqlmodel import Session
from starlette.requests import Request
from starlette.responses import Response

from tg_workbench.contracts.bodies import read_value
from tg_workbench.contracts.failures import OperationFailed
from tg_workbench.contracts.premises import Premises
from tg_workbench.contracts.providers import SignedIn, ThePremises
from tg_workbench.errors import ModelNotFound
from tg_workbench.identity import Principal
from tg_workbench.models import Model, Models
from tg_workbench.models.serving import Frame, Service, Services, Standing, Target, model_target
from tg_workbench.models.serving.services import TRITON

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answering:
    """A service, its model, and what answers for it. `name` is what the caller calls the model."""

    service: Service
    model: Model
    target: Target
    name: str


class Inference:
    """The models of one principal, for one request."""

    def __init__(self, premises: Premises, owner: Principal) -> None:
        self.premises = premises
        self.owner = owner

    async def predict(self, model_id: str, question: bytes) -> Response:
        """The answer to raw rows. Raises ModelNotFound, OperationFailed, ModelNotReady."""
        with self.premises.database.read() as session:
            target = model_target(session, self.owner, model_id)
        answer = await self._asked(target, Frame({"op": "predict"}, question))
        return Response(answer.payload, media_type=JSON)

    async def predict_by(self, id_or_name: str, question: bytes) -> Response:
        """The same, by a service. Raises ServiceNotFound, ServiceStopped, OperationFailed, ModelNotReady.

        Triton reads numbers only, so where it answers for the service, raw rows are the model's own workers'.
        """
        with self.premises.database.read() as session:
            services = self._services(session)
            service = services.get(self.owner, id_or_name)
            target = services.target_of(service)
            if service.runtime_used == TRITON:
                target = model_target(session, self.owner, service.model_id)
        answer = await self._asked(target, Frame({"op": "predict"}, question))
        return Response(answer.payload, media_type=JSON)

    def service(self, id_or_name: str) -> tuple[Service, Standing]:
        """A service and how it stands. Raises ServiceNotFound."""
        with self.premises.database.read() as session:
            services = self._services(session)
            service = services.get(self.owner, id_or_name)
            return service, services.standing(service)

    def described(self, id_or_name: str, name: str, version: str | None) -> Model:
        """A service's model. Raises ServiceNotFound, and ModelNotFound for another name or version."""
        with self.premises.database.read() as session:
            return self._found(self._services(session), id_or_name, name, version)[1]

    def answering(self, id_or_name: str, name: str, version: str | None) -> Answering:
        """The same, and what answers for it. Raises ServiceStopped as well."""
        with self.premises.database.read() as session:
            services = self._services(session)
            service, model = self._found(services, id_or_name, name, version)
            return Answering(service, model, services.target_of(service), name)

    @contextlib.contextmanager
    def changing(self) -> Iterator[Services]:
        """The services, to be changed in a transaction of its own: after what had to be waited for."""
        with self.premises.database.write() as session:
            yield self._services(session)

    async def infer(self, asked: Answering, question: bytes, json_bytes: int) -> Frame:
        """The protocol's answer. Raises InvalidRequest, OperationFailed, ModelNotReady."""
        frame = Frame({"op": "infer", "name": asked.name, "json_bytes": json_bytes}, question)
        triton = self.premises.triton
        if asked.service.runtime_used == TRITON and triton is not None:
            return await triton.infer(asked.model.id, frame)
        return await self._asked(asked.target, frame)

    async def generate(self, asked: Answering, question: dict[str, Any]) -> Frame:
        """A whole text. Raises InvalidRequest, OperationFailed, ModelNotReady."""
        return await self._asked(asked.target, Frame({"op": "generate"}, to_json(question)))

    async def generate_stream(self, asked: Answering, question: dict[str, Any]) -> AsyncIterator[Frame]:
        """A text as it is written; the first piece is waited for, so that a refusal is the answer."""
        frame = Frame({"op": "generate", "stream": True}, to_json(question))
        pieces = self.premises.pool.stream(asked.target, frame)
        try:
            first = checked(await anext(pieces))
        except BaseException:
            await pieces.aclose()
            raise
        return _after(first, pieces)

    async def on_triton(self, model_id: str, runtime: str) -> bool:
        """Whether Triton is asked for, is there and has the model, which is the caller's."""
        triton = self.premises.triton
        if runtime != TRITON or triton is None:
            return False
        with self.premises.database.read() as session:
            self._models(session).get(self.owner, model_id)
        return await triton.serves(model_id)

    async def _asked(self, target: Target, frame: Frame) -> Frame:
        return checked(await self.premises.pool.ask(target, frame))

    def _found(
        self, services: Services, id_or_name: str, name: str, version: str | None
    ) -> tuple[Service, Model]:
        service = services.get(self.owner, id_or_name)
        model = services.models.get(self.owner, service.model_id)
        if name not in (model.id, service.name, service.id) or version not in (None, str(model.version)):
            raise ModelNotFound
        return service, model

    def _models(self, session: Session) -> Models:
        return Models(session, self.premises.blobs, self.premises.settings.home)

    def _services(self, session: Session) -> Services:
        return Services(session, self.premises.folder, self._models(session))


async def _inference(premises: ThePremises, owner: SignedIn) -> Inference:
    return Inference(premises, owner)


TheInference = Annotated[Inference, Depends(_inference)]


def checked(answer: Frame) -> Frame:
    """A worker's answer. Raises OperationFailed when it is a refusal."""
    if "error" in answer.header:
        raise OperationFailed(answer.header["error"])
    return answer


async def _after(first: Frame, pieces: AsyncGenerator[Frame, None]) -> AsyncIterator[Frame]:
    async with contextlib.aclosing(pieces):
        yield first
        async for piece in pieces:
            yield piece


async def _rows(request: Request) -> bytes:
    """A body with `input` or `inputs`, as it came: read strictly here, and again by the worker."""
    value = await read_value(request)
    if not isinstance(value, dict):
        raise RequestValidationError([{"type": "model_type", "loc": ("body",), "msg": ""}])
    if ("input" in value) == ("inputs" in value):
        says = "send either input, which is one row, or inputs, which is a list of rows"
        raise RequestValidationError([{"type": "value_error", "loc": ("body",), "msg": says}])
    return await request.body()


RowsAsked = Annotated[bytes, Depends(_rows)]
