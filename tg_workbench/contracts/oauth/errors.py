"""How OAuth words a failure: in the RFC's JSON for applications, by a page or a way back for people."""

from __future__ import annotations

from pydantic import BaseModel
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tg_workbench import errors
from tg_workbench.contracts.failures import BodyTooLarge, Failure, MethodNotAllowed
from tg_workbench.contracts.oauth import pages
from tg_workbench.contracts.qflare.errors import QFLARE
from tg_workbench.contracts.route import Contract, failures_in, route_of
from tg_workbench.contracts.statuses import status_of

UNSTORED = {"Cache-Control": "no-store", "Pragma": "no-cache"}
CODES: dict[type[errors.WorkbenchError], tuple[str, int]] = {
    errors.InvalidRequest: ("invalid_request", 400),
    errors.GrantInvalid: ("invalid_grant", 400),
    errors.GrantUnsupported: ("unsupported_grant_type", 400),
    errors.ScopeInvalid: ("invalid_scope", 400),
    errors.Unauthenticated: ("invalid_client", 401),
    errors.PermissionDenied: ("unauthorized_client", 403),
    errors.RateLimited: ("temporarily_unavailable", 429),
    errors.DatabaseUnavailable: ("temporarily_unavailable", 503),
    errors.PublicUrlMissing: ("temporarily_unavailable", 503),
    BodyTooLarge: ("invalid_request", 413),
    MethodNotAllowed: ("invalid_request", 405),
    errors.WorkbenchError: ("server_error", 500),
}


class OAuthFailure(BaseModel):
    """RFC 6749, 5.2."""

    error: str
    error_description: str


def render(failure: Failure, request_id: str) -> Response:
    """The answer to an application."""
    code, status = failure.nearest(CODES)
    plain = failure.message.encode("ascii", "replace").decode().replace('"', "'").replace("\\", "/")
    answer = failure.answer(status, {"error": code, "error_description": plain})
    answer.headers.update(UNSTORED)
    if status == 401:
        answer.headers["WWW-Authenticate"] = 'Basic realm="tg-workbench"'
    return answer


def render_page(failure: Failure, request_id: str) -> Response:
    """The answer to a person: back to the application if that is where it belongs, else a page."""
    location = failure.details.get("location")
    if failure.kind is errors.AuthorizationRefused and isinstance(location, str):
        return RedirectResponse(location, 302, UNSTORED)
    headers = {**failure.headers, **pages.headers(), **UNSTORED}
    return HTMLResponse(pages.refusal(failure.message), status_of(failure), headers)


OAUTH = Contract(QFLARE.name, QFLARE.title, render)
OAUTH_PAGES = Contract(QFLARE.name, QFLARE.title, render_page)
OAuthRoute = route_of(OAUTH)
OAuthPageRoute = route_of(OAUTH_PAGES)
OAUTH_FAILURES = failures_in(OAuthFailure)
