"""The route of every contract: it knows whose words it speaks, and lets nobody in without a credential.

A credential is asked for before the body is read, unless the endpoint is marked `@public`; what it must be
allowed to do is `read` for GET, `train` for anything else, or what `@needs` says. So a new route is closed
until somebody opens it.
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

from tg_workbench.contracts.failures import Failure
from tg_workbench.contracts.strict_json import StrictRequest
from tg_workbench.contracts.visitors import principal_of

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Handler = Callable[[Request], Coroutine[Any, Any, Response]]
CONTRACT, PRINCIPAL, REQUEST_ID = "tg_contract", "tg_principal", "tg_request_id"
"""Where the request's scope holds them."""


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

    def get_route_handler(self) -> Handler:
        """FastAPI's handler, behind the door, with the body read strictly."""
        handle = super().get_route_handler()
        scope_needed = None if self.is_public else self.needed_scope

        async def behind_the_door(request: Request) -> Response:
            request.scope[CONTRACT] = self.contract
            if scope_needed is not None:
                request.scope[PRINCIPAL] = principal_of(request, scope_needed)
            return await handle(StrictRequest(request.scope, request.receive))

        return behind_the_door


def route_of(contract: Contract) -> type[ContractRoute]:
    """The route class of `contract`, for its routers."""
    return type(f"{contract.name}_route", (ContractRoute,), {"contract": contract})


def request_id_of(scope: Scope) -> str:
    """The id under which this request is in the log."""
    request_id: str = scope.get(REQUEST_ID, "")
    return request_id
