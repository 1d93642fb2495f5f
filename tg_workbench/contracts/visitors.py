"""Who is at the door: from a request's headers to a principal.

`X-API-Key` comes before `Authorization`, because a proxy may have used the latter for itself. What a bearer
sends is an API key if it looks like one, and else an access token: a person's, or a device's, which has one
scope that nobody else has and opens nothing that is not for devices. Without a credential nobody enters,
except where `TG_AUTH_DISABLED` allows it: in development, from this machine, under a name of this machine (a
page on the internet that points its own name at 127.0.0.1 is turned away), and never from a page of another
site.
"""

from __future__ import annotations

import ipaddress

from starlette.requests import Request

from tg_workbench.contracts.limits import is_unix
from tg_workbench.contracts.premises import Premises, premises_of
from tg_workbench.crypto import tokens
from tg_workbench.errors import CredentialMissing, PermissionDenied, Unauthenticated
from tg_workbench.federation.devices import OF_DEVICES, DeviceSignIn
from tg_workbench.identity import LOCAL_PRINCIPAL, ApiKeys, Principal, Sessions

UNKNOWN_KEY = "this API key is unknown, expired or revoked"


def principal_of(request: Request, scope: str) -> Principal:
    """Who sent `request`. Raises Unauthenticated, and PermissionDenied when `scope` is not held."""
    principal = identify(request)
    admit(principal, scope)
    return principal


def came_by_key(request: Request, visitor: Principal) -> bool:
    """Whether what let `visitor` in is an API key, and not a session; headers beside it do not matter."""
    return visitor.session_id is None and _credential(request) is not None


def admit(principal: Principal, scope: str) -> None:
    """Nothing, unless `scope` is not held: then PermissionDenied."""
    if not principal.may(scope):
        raise PermissionDenied(f"this credential does not hold the scope '{scope}'")


def identify(request: Request) -> Principal:
    """Who sent `request`, whatever it may do. Raises Unauthenticated."""
    premises = premises_of(request)
    credential = _credential(request)
    if credential is None:
        if premises.settings.auth_disabled and comes_from_here(request) and _is_no_strange_page(request):
            return LOCAL_PRINCIPAL
        raise CredentialMissing
    credential = tokens.bare(credential)
    if premises.settings.api_key and tokens.same(credential, tokens.bare(premises.settings.api_key)):
        return LOCAL_PRINCIPAL
    if tokens.looks_like_api_key(credential):
        with premises.database.read() as session:
            principal = ApiKeys(session).principal_for(credential)
        if principal is not None:
            return principal
        raise Unauthenticated(UNKNOWN_KEY)
    if request.headers.get("x-api-key", "").strip():
        raise Unauthenticated(UNKNOWN_KEY)
    return bearer_of(credential, premises)


def person_of(request: Request) -> Principal | None:
    """The user whose own session sent `request`; None without a credential.

    Raises Unauthenticated, and PermissionDenied for a key or an application: neither lets others in.
    """
    if _credential(request) is None:
        return None
    principal = identify(request)
    if principal.session_id is None or principal.client_id is not None:
        raise PermissionDenied("only a person who is signed in may let an application in")
    return principal


def bearer_of(text: str, premises: Premises) -> Principal:
    """Whom an access token stands for. Raises Unauthenticated; TokenExpired when a new one would do.

    Raises DeviceRevoked for a device's that was revoked.
    """
    token = premises.access_tokens.read(text)
    with premises.database.read() as session:
        if token.scopes == OF_DEVICES:
            return DeviceSignIn(session).by_token(token).principal
        principal = Sessions(session).principal_for(token)
    if principal is None:
        raise Unauthenticated("this session has ended: sign in again")
    return principal


def _credential(request: Request) -> str | None:
    if key := request.headers.get("x-api-key", "").strip():
        return key
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() or None if scheme.lower() == "bearer" else None


def comes_from_here(request: Request) -> bool:
    """Whether both ends of the connection, and the name it was made under, are this machine."""
    if is_unix(request.scope):  # whoever has an address there was named by a proxy that is trusted
        return request.client is None or is_loopback(request.client.host)
    ends = [request.scope["server"][0], request.client.host if request.client else "", request.url.hostname]
    passed_on_for = ",".join(request.headers.getlist("x-forwarded-for"))  # by a proxy that stands here
    ends += [end.strip() for end in passed_on_for.split(",") if passed_on_for]
    return all(is_loopback(end or "") for end in ends)


def _is_no_strange_page(request: Request) -> bool:
    """Whether no page of another site sent this: a browser says whose page it is."""
    origin = request.headers.get("origin")
    if origin is None:
        return True
    here = f"{request.url.scheme}://{request.headers.get('host', '')}"
    return origin == here or origin in premises_of(request).settings.allowed_origins


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine and nothing else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
