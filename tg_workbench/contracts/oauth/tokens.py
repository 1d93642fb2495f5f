"""The token desk: tokens for codes, new ones for old, and what a token is good for now."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import unquote_plus

from fastapi import Depends
from starlette.requests import Request

from tg_workbench.contracts.door import count
from tg_workbench.contracts.forms import read_form
from tg_workbench.contracts.limits import CONTRACT, Kind, address_in
from tg_workbench.contracts.premises import Premises
from tg_workbench.contracts.providers import ThePremises
from tg_workbench.contracts.trail import Actor, acts
from tg_workbench.contracts.visitors import bearer_of
from tg_workbench.crypto.access_tokens import ISSUER, LIFETIME_SECONDS, AccessToken
from tg_workbench.errors import (
    GrantInvalid,
    GrantUnsupported,
    InvalidRequest,
    PermissionDenied,
    ScopeInvalid,
    Unauthenticated,
)
from tg_workbench.identity import (
    OAUTH_SCOPES,
    Exchange,
    Membership,
    OAuthClient,
    OAuthClients,
    OAuthCodes,
    Principal,
    Sessions,
    User,
    is_for,
    meant_by,
    written,
)

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class TokenDesk:
    """Knows applications by their secrets, and gives them tokens."""

    def __init__(self, premises: Premises) -> None:
        self.premises = premises

    def client_of(self, request: Request, fields: Mapping[str, str]) -> OAuthClient:
        """The application that sends a form. Raises Unauthenticated, InvalidRequest."""
        client_id, secret = fields.get("client_id", ""), fields.get("client_secret")
        header = request.headers.get("authorization")
        if header is not None:
            named, secret_sent = _basic(header)
            if secret is not None or client_id not in ("", named):
                raise InvalidRequest("an application proves itself in one way")
            client_id, secret = named, secret_sent
        with self.premises.database.read() as session:
            client = OAuthClients(session).authenticated(client_id, secret)
        if client is None:
            raise Unauthenticated("no application has this client_id and this client_secret")
        return client

    def token(self, client: OAuthClient, fields: Mapping[str, str]) -> dict[str, Any]:
        """The answer to a token request. Raises GrantInvalid, GrantUnsupported, ScopeInvalid."""
        match fields.get("grant_type"):
            case "authorization_code":
                return self._exchange(client, fields)
            case "refresh_token":
                return self._refresh(client, fields)
            case _:
                raise GrantUnsupported

    def _exchange(self, client: OAuthClient, fields: Mapping[str, str]) -> dict[str, Any]:
        verifier = fields.get("code_verifier")
        if "code" not in fields or (verifier is not None and not _VERIFIER.fullmatch(verifier)):
            raise InvalidRequest("a code is missing, or the code_verifier has not the form it has to have")
        principal, refresh_token = None, ""
        with self.premises.database.write() as session:
            brought = Exchange(fields["code"], fields.get("redirect_uri"), verifier)
            code = OAuthCodes(session).take(client, brought)
            place = None if code is None else session.get(Membership, code.membership_id)
            if code is not None and place is not None:
                ceiling = written(meant_by(code.scope))
                opened, refresh_token = Sessions(session).begin(place, scopes=ceiling, client_id=client.id)
                code.session_id = opened.id
                session.add(code)
                principal = Sessions(session).principal(opened.id)
            if principal is not None:
                acts(Actor.of(principal))
        if code is None or principal is None:
            raise GrantInvalid
        return self._tokens(principal, principal.scopes, refresh_token, code.scope)

    def _refresh(self, client: OAuthClient, fields: Mapping[str, str]) -> dict[str, Any]:
        narrower = meant_by(fields["scope"]) if "scope" in fields else None
        with self.premises.database.write() as session:
            found = Sessions(session).refresh(
                fields.get("refresh_token", ""), rotating=True, client_id=client.id
            )
            if found is not None:
                acts(Actor.of(found[0]))
                if narrower is not None and not narrower <= found[0].scopes:
                    raise ScopeInvalid  # inside: what is undone with it is that the token was used
        if found is None:
            raise GrantInvalid
        principal, refresh_token = found
        scopes = principal.scopes if narrower is None else narrower
        return self._tokens(principal, scopes, refresh_token, written(scopes))

    def _tokens(
        self, principal: Principal, scopes: frozenset[str], refresh_token: str, scope: str
    ) -> dict[str, Any]:
        token = AccessToken(principal.user_id or "", principal.tenant_id, scopes, principal.session_id or "")
        return {
            "access_token": self.premises.access_tokens.sign(token),
            "token_type": "Bearer",
            "expires_in": LIFETIME_SECONDS,
            "refresh_token": refresh_token,
            "scope": scope,
        }

    def revoke(self, client: OAuthClient, token: str) -> None:
        """End the session behind a token of this application; another's, and none, changes nothing."""
        principal = self._bearer(token)
        with self.premises.database.write() as session:
            if principal is not None and principal.client_id == client.id:
                acts(Actor.of(principal))
            if principal is None:
                Sessions(session).end_with_token(token, client.id)
            elif principal.client_id == client.id:
                Sessions(session).end_by_id(principal.session_id or "")

    def introspect(self, client: OAuthClient, token: str) -> dict[str, Any]:
        """What a token stands for now, if the application may know its owner. Raises PermissionDenied."""
        if client.secret_hash is None:
            raise PermissionDenied("only an application with a secret may ask about tokens")
        principal = self._bearer(token)
        if principal is None:
            return self._introspect_refresh(client, token)
        if not is_for(client, principal.tenant_id):
            return {"active": False}
        read = self.premises.access_tokens.read(token)
        return {
            **self._told(principal),
            "token_type": "Bearer",
            "iat": read.issued_at,
            "exp": read.expires_at,
            "jti": read.token_id,
            "iss": ISSUER,
        }

    def _introspect_refresh(self, client: OAuthClient, token: str) -> dict[str, Any]:
        with self.premises.database.read() as session:
            behind = Sessions(session).behind(token)
            mine = behind is not None and behind.client_id == client.id
            principal = Sessions(session).principal(behind.id) if behind is not None and mine else None
        if behind is None or principal is None:
            return {"active": False}
        return {**self._told(principal), "token_type": "refresh_token", "exp": int(behind.expires_at)}

    def _told(self, principal: Principal) -> dict[str, Any]:
        with self.premises.database.read() as session:
            user = session.get_one(User, principal.user_id)
        return {
            "active": True,
            "scope": written(principal.scopes),
            "sub": user.id,
            "username": user.username,
            "client_id": principal.client_id,
        }

    def _bearer(self, token: str) -> Principal | None:
        try:
            return bearer_of(token, self.premises)
        except Unauthenticated:
            return None


def metadata(issuer: str) -> dict[str, Any]:
    """RFC 8414."""
    auth = f"{issuer}/api/v1/auth"
    ways = ["client_secret_basic", "client_secret_post"]
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{auth}/authorize",
        "token_endpoint": f"{auth}/token",
        "revocation_endpoint": f"{auth}/revoke",
        "introspection_endpoint": f"{auth}/introspect",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": list(OAUTH_SCOPES),
        "token_endpoint_auth_methods_supported": [*ways, "none"],
        "revocation_endpoint_auth_methods_supported": [*ways, "none"],
        "introspection_endpoint_auth_methods_supported": ways,
        "authorization_response_iss_parameter_supported": True,
    }


def _basic(header: str) -> tuple[str, str]:
    """The name and the secret in a Basic header. Raises Unauthenticated."""
    scheme, _, value = header.partition(" ")
    try:
        name, colon, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        colon = ""
    if scheme.lower() != "basic" or not colon:
        raise Unauthenticated("an application proves itself by Basic, or by client_id and client_secret")
    return unquote_plus(name), unquote_plus(secret)


async def _desk(premises: ThePremises) -> TokenDesk:
    return TokenDesk(premises)


TheTokenDesk = Annotated[TokenDesk, Depends(_desk)]


@dataclass(frozen=True, slots=True)
class Caller:
    """An application, and the form it sends."""

    client: OAuthClient
    fields: Mapping[str, str]


async def _caller(request: Request, desk: TheTokenDesk) -> Caller:
    """Who calls. One that has shown its secret is counted by its name, anybody else by where they are."""
    kind: Kind = "strangers"
    who = address_in(request)
    try:
        fields = await read_form(request)
        client = desk.client_of(request, fields)
        if client.secret_hash is not None:
            kind, who = "api_keys", client.id
    finally:
        await count(request, request.scope[CONTRACT].name, kind, who)
    return Caller(client, fields)


TheCaller = Annotated[Caller, Depends(_caller)]
