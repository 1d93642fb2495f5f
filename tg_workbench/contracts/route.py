"""The route of every contract: it knows whose words it speaks, and lets nobody in without a credential.

A credential is asked for before the body is read, unless the endpoint is marked `@public`; what it must be
allowed to do is `read` for GET, `train` for anything else, or what `@needs` says. So a new route is closed
until somebody opens it. And what it does is in the audit log (`trail`), whether its author thought of it or
not.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from tg_workbench.contracts.door import Door
from tg_workbench.contracts.failures import Failure
from tg_workbench.contracts.limits import CONTRACT, DEVICE_PATHS, PROBES
from tg_workbench.contracts.premises import premises_of
from tg_workbench.contracts.strict_json import StrictRequest
from tg_workbench.contracts.trail import Subject, Trail
from tg_workbench.identity import DEVICE

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Handler = Callable[[Request], Coroutine[Any, Any, Response]]
PRINCIPAL, REQUEST_ID = "tg_principal", "tg_request_id"
"""Where the request's scope holds them."""
EXITS = "fastapi_function_astack"
"""Where FastAPI keeps what ends between the endpoint and the answer; what is put there first ends last."""


@dataclass(frozen=True, slots=True)
class Contract:
    """One of the documents we serve: its name, and how it words a failure."""

    name: str
    title: str
    render: Callable[[Failure, str], Response]


def public(endpoint: Endpoint) -> Endpoint:
    """Mark an endpoint that needs no credential."""
    endpoint.tg_public = True  # type: ignore[attr-defined]
    return endpoint


def needs(scope: str) -> Callable[[Endpoint], Endpoint]:
    """Mark an endpoint with the scope its credential must hold."""

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.tg_needs = scope  # type: ignore[attr-defined]
        return endpoint

    return mark


def asks_only(endpoint: Endpoint) -> Endpoint:
    """Mark an endpoint that changes nothing though its method is not GET: it leaves no entry."""
    endpoint.tg_asks_only = True  # type: ignore[attr-defined]
    return endpoint


def audited(endpoint: Endpoint) -> Endpoint:
    """Mark a GET endpoint whose every use is recorded: what it answers leaves the workbench."""
    endpoint.tg_audited = True  # type: ignore[attr-defined]
    return endpoint


def counts_callers(endpoint: Endpoint) -> Endpoint:
    """Mark an endpoint that counts its callers itself, because what is sent to it says who they are."""
    endpoint.tg_counts_callers = True  # type: ignore[attr-defined]
    return endpoint


class ErrorNote(BaseModel):
    """What went wrong, for a program (`code`) and for a person (`message`)."""

    code: str
    message: str
    details: dict[str, Any]


class ErrorBody(ErrorNote):
    """The same, with the id under which the request is in the log."""

    request_id: str


class ErrorAnswer(BaseModel):
    """TG-Tinker's envelope around an error."""

    error: ErrorBody


Failures = dict[int | str, dict[str, Any]]


def failures_in(envelope: type[BaseModel]) -> Failures:
    """What OpenAPI says of every route of a contract that can fail: `responses` of its routers."""
    return {"default": {"model": envelope, "description": "What went wrong, and what to do."}}


FAILURES = failures_in(ErrorAnswer)
"""Those of TG-Tinker, and of our own contract."""


class ContractRoute(APIRoute):
    """A route of one contract. Subclasses name it."""

    contract: ClassVar[Contract]

    @property
    def is_public(self) -> bool:
        """Whether it is served without a credential."""
        return getattr(self.endpoint, "tg_public", False)

    @property
    def needed_scope(self) -> str:
        """What a credential must be allowed to do here."""
        return getattr(self.endpoint, "tg_needs", "read" if self.methods == {"GET"} else "train")

    @property
    def is_for_devices(self) -> bool:
        """Whether its requests are counted as QFLARE counts those of devices, whatever contract it is of."""
        of_devices = not self.is_public and self.needed_scope == DEVICE
        return of_devices or DEVICE_PATHS.fullmatch(self.path) is not None

    @property
    def is_audited(self) -> bool:
        """Whether a request to it leaves an entry in the audit log."""
        if self.methods == {"GET"}:
            return getattr(self.endpoint, "tg_audited", False)
        return not getattr(self.endpoint, "tg_asks_only", False)

    @property
    def subject(self) -> Subject:
        """What the audit log calls it, and what it is about."""
        return Subject.of(f"{self.contract.name}.{self.name}", self.path)

    def get_route_handler(self) -> Handler:
        """FastAPI's handler, behind the door, with the body read strictly."""
        handle = super().get_route_handler()
        subject = self.subject if self.is_audited else None
        door = Door(
            contract="qflare" if self.is_for_devices else self.contract.name,
            scope=None if self.is_public else self.needed_scope,
            counted=self.path not in PROBES and not getattr(self.endpoint, "tg_counts_callers", False),
            for_devices=self.is_for_devices,
        )

        async def behind_the_door(request: Request) -> Response:
            request.scope[CONTRACT] = self.contract
            trail = None if subject is None else _trail(request, subject)
            if (principal := await door.enter(request, trail)) is not None:
                request.scope[PRINCIPAL] = principal
            response = await handle(StrictRequest(request.scope, request.receive))
            if trail is not None:
                trail.status = response.status_code
            return response

        return behind_the_door


def _trail(request: Request, subject: Subject) -> Trail:
    """The request's entry in the audit log, to be written when all else has been committed or undone."""
    trail = Trail(premises_of(request).audit, subject, request, request_id_of(request.scope))
    request.scope[EXITS].enter_context(trail)
    return trail


def route_of(contract: Contract) -> type[ContractRoute]:
    """The route class of `contract`, for its routers."""
    return type(f"{contract.name}_route", (ContractRoute,), {"contract": contract})


def request_id_of(scope: Scope) -> str:
    """The id under which this request is in the log."""
    request_id: str = scope.get(REQUEST_ID, "")
    return request_id
