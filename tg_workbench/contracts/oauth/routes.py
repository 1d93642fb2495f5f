"""OAuth's routes: S2-01 and S2-02, and what the RFCs have beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from tg_workbench.contracts.forms import URLENCODED, once_each, read_form
from tg_workbench.contracts.oauth import pages
from tg_workbench.contracts.oauth.consent import CARRIED, Asked, TheConsentDesk, issuer_of
from tg_workbench.contracts.oauth.errors import (
    OAUTH_FAILURES,
    UNSTORED,
    OAuthPageRoute,
    OAuthRoute,
)
from tg_workbench.contracts.oauth.tokens import TheCaller, TheTokenDesk, metadata
from tg_workbench.contracts.providers import ThePremises
from tg_workbench.contracts.route import asks_only, counts_callers, public
from tg_workbench.contracts.visitors import person_of
from tg_workbench.errors import InvalidRequest

PAGE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/html": {}}, "description": "The consent page."},
    302: {"description": "Back to the application, with a code or an error."},
    "default": {"content": {"text/html": {}}, "description": "A page that says what went wrong."},
}
page_router = APIRouter(prefix="/api/v1/auth", route_class=OAuthPageRoute, tags=["OAuth"], responses=PAGE)
router = APIRouter(route_class=OAuthRoute, tags=["OAuth"], responses=OAUTH_FAILURES)


class TokenAnswer(BaseModel):
    """RFC 6749, 5.1."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str
    scope: str


class Introspection(BaseModel, extra="allow"):
    """RFC 7662, 2.2."""

    active: bool


def _form(*fields: str) -> dict[str, Any]:
    """The OpenAPI words for a form."""
    properties = {field: {"type": "string"} for field in fields}
    content = {URLENCODED: {"schema": {"type": "object", "properties": properties}}}
    return {"requestBody": {"required": True, "content": content}}


def _query(*fields: str) -> dict[str, Any]:
    """The OpenAPI words for a query that is read by hand, because a field may come once only."""
    texts = [{"name": field, "in": "query", "schema": {"type": "string"}} for field in fields]
    return {"parameters": texts}


def _page(asked: Asked, wrong: bool) -> HTMLResponse:
    scopes = asked.scope.split()
    names = pages.Names(asked.client.name, asked.organization, asked.redirect_uri)
    page = pages.consent(names, scopes, asked.fields, wrong)
    return HTMLResponse(page, 401 if wrong else 200, {**pages.headers(asked.redirect_uri), **UNSTORED})


# ----------------------------------------------------------------------------- for people
@page_router.get("/authorize", response_class=HTMLResponse, openapi_extra=_query(*CARRIED))
@public
async def ask_to_be_let_in(request: Request, desk: TheConsentDesk) -> Response:
    """Authorization request: the consent page."""
    return _page(desk.asked(once_each(request.query_params.multi_items())), wrong=False)


@page_router.post(
    "/authorize",
    response_class=HTMLResponse,
    openapi_extra=_form(*CARRIED, "login", "password", "decision"),
)
@public
async def let_in(request: Request, desk: TheConsentDesk) -> Response:
    """The person's answer: by name and password, or by an access token of their own session."""
    fields = await read_form(request)
    asked = desk.asked(fields)
    location = await desk.decide(asked, fields, person_of(request))
    if location is None:
        return _page(asked, wrong=True)
    return RedirectResponse(location, 302, UNSTORED)


# ----------------------------------------------------------------------------- for applications
@router.post(
    "/api/v1/auth/token",
    openapi_extra=_form(
        "grant_type",
        "code",
        "redirect_uri",
        "code_verifier",
        "refresh_token",
        "scope",
        "client_id",
        "client_secret",
    ),
)
@public
@counts_callers
async def exchange(caller: TheCaller, desk: TheTokenDesk, answer: Response) -> TokenAnswer:
    """Token exchange: a code or a refresh token for tokens."""
    answer.headers.update(UNSTORED)
    return TokenAnswer(**desk.token(caller.client, caller.fields))


@router.post(
    "/api/v1/auth/revoke", openapi_extra=_form("token", "token_type_hint", "client_id", "client_secret")
)
@public
@counts_callers
async def revoke(caller: TheCaller, desk: TheTokenDesk, answer: Response) -> dict[str, Any]:
    """Revoke a token, and with it everything that came of the same consent."""
    desk.revoke(caller.client, _token_in(caller.fields))
    answer.headers.update(UNSTORED)
    return {}


@router.post(
    "/api/v1/auth/introspect", openapi_extra=_form("token", "token_type_hint", "client_id", "client_secret")
)
@public
@asks_only
@counts_callers
async def introspect(caller: TheCaller, desk: TheTokenDesk, answer: Response) -> Introspection:
    """What a token is good for now."""
    answer.headers.update(UNSTORED)
    return Introspection(**desk.introspect(caller.client, _token_in(caller.fields)))


@router.get("/.well-known/oauth-authorization-server")
@public
async def read_metadata(request: Request, premises: ThePremises) -> dict[str, Any]:
    """What an application has to know of this authorization server."""
    return metadata(issuer_of(request, premises))


def _token_in(fields: Mapping[str, str]) -> str:
    if "token" not in fields:
        raise InvalidRequest("a token is missing")
    return fields["token"]
