"""The consent desk: what an application may put before a person, and where the person's answer leads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, NoReturn
from urllib.parse import urlencode

from fastapi import Depends
from starlette.requests import Request

from tg_workbench.contracts.front_desk import FrontDesk
from tg_workbench.contracts.limits import address_in
from tg_workbench.contracts.premises import Premises
from tg_workbench.contracts.providers import ThePremises
from tg_workbench.contracts.trail import Actor, acts
from tg_workbench.errors import AuthorizationRefused, InvalidRequest, PublicUrlMissing, WrongPassword
from tg_workbench.identity import (
    LOCAL,
    OAUTH_SCOPES,
    Membership,
    Memberships,
    OAuthClient,
    OAuthClients,
    OAuthCodes,
    Organization,
    Principal,
    is_for,
    may_lead_to,
    scopes_of,
)

CARRIED = (
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
)
"""The fields of an authorization request: those the consent page sends on."""
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Asked:
    """An authorization request that may be put before a person."""

    client: OAuthClient
    organization: str | None
    """The name of the one it acts in; None: in that which the person has joined first."""
    redirect_uri: str
    scope: str
    state: str | None
    challenge: str | None
    fields: Mapping[str, str]


class ConsentDesk:
    """Checks what is asked for, and lets applications in.

    `issuer` is the address this workbench goes by, `address` the one a person comes from.
    """

    def __init__(self, premises: Premises, issuer: str, address: str | None) -> None:
        self.premises = premises
        self.issuer = issuer
        self.front = FrontDesk(premises, address)

    def asked(self, fields: Mapping[str, str]) -> Asked:
        """The request in `fields`.

        Raises InvalidRequest while nobody knows where to send the person back to, then AuthorizationRefused.
        """
        with self.premises.database.read() as session:
            client = OAuthClients(session).find(fields.get("client_id", ""))
            theirs = None if client is None else session.get(Organization, client.organization_id)
        redirect_uri = fields.get("redirect_uri", "")
        if client is None:
            raise InvalidRequest("no application has this client_id")
        if not may_lead_to(client, redirect_uri):
            raise InvalidRequest("this redirect_uri is not one that the application has registered")
        scope = " ".join(dict.fromkeys(fields.get("scope", client.scope).split()))
        challenge = fields.get("code_challenge")
        carried = {name: fields[name] for name in CARRIED if name in fields}
        named = None if theirs is None or theirs.id == LOCAL else theirs.name
        asked = Asked(client, named, redirect_uri, scope, fields.get("state"), challenge, carried)
        if fields.get("response_type") != "code":
            self._refuse(asked, "unsupported_response_type")
        if not _is_proof(client, challenge, fields.get("code_challenge_method")):
            self._refuse(asked, "invalid_request")
        if not scope or not set(scope.split()) <= set(client.scope.split()):
            self._refuse(asked, "invalid_scope")
        return asked

    async def decide(
        self, asked: Asked, fields: Mapping[str, str], signed_in: Principal | None
    ) -> str | None:
        """Where the person goes with a code; None when the password is wrong. Raises AuthorizationRefused."""
        if fields.get("decision") != "allow":
            self._refuse(asked, "access_denied")
        user_id = signed_in.user_id if signed_in is not None else await self._user(fields)
        if user_id is None:
            return None
        theirs = None if asked.client.organization_id == LOCAL else asked.client.organization_id
        with self.premises.database.write() as session:
            where = theirs if signed_in is None else signed_in.tenant_id
            place = Memberships(session).find(user_id, where)
            scope = _granted(asked, place, signed_in)
            code = None
            if place is not None and scope:
                acts(Actor(place.organization_id, user_id, "user"))
                code = OAuthCodes(session).issue(
                    place,
                    asked.client,
                    redirect_uri=asked.redirect_uri,
                    scope=scope,
                    challenge=asked.challenge,
                )
        return self._back(asked, code=code) if code else self._refuse(asked, "access_denied")

    async def _user(self, fields: Mapping[str, str]) -> str | None:
        try:
            user = await self.front.known(fields.get("login", ""), fields.get("password", ""))
        except WrongPassword:
            return None
        return user.id

    def _refuse(self, asked: Asked, error: str) -> NoReturn:
        raise AuthorizationRefused(self._back(asked, error=error))

    def _back(self, asked: Asked, **answer: str) -> str:
        state = {} if asked.state is None else {"state": asked.state}
        joint = "&" if "?" in asked.redirect_uri else "?"
        return f"{asked.redirect_uri}{joint}{urlencode({**answer, **state, 'iss': self.issuer})}"


def _is_proof(client: OAuthClient, challenge: str | None, method: str | None) -> bool:
    """S256 and nothing else; an application that has a secret may do without, as QFLARE's example does."""
    if challenge is None:
        return method is None and client.secret_hash is not None
    return method == "S256" and _CHALLENGE.fullmatch(challenge) is not None


def _granted(asked: Asked, place: Membership | None, signed_in: Principal | None) -> str:
    """Those of the scopes asked for that the person can give, in OAuth's words."""
    if place is None or not is_for(asked.client, place.organization_id):
        return ""
    held = scopes_of(place.role, place.permissions)
    held &= held if signed_in is None else signed_in.scopes
    return " ".join(name for name in asked.scope.split() if OAUTH_SCOPES[name] <= held)


def issuer_of(request: Request, premises: Premises) -> str:
    """The address that this workbench goes by. Raises PublicUrlMissing in production."""
    if premises.settings.public_url is None and premises.settings.production:
        raise PublicUrlMissing
    return premises.settings.public_url or str(request.base_url).rstrip("/")


async def _desk(request: Request, premises: ThePremises) -> ConsentDesk:
    return ConsentDesk(premises, issuer_of(request, premises), address_in(request))


TheConsentDesk = Annotated[ConsentDesk, Depends(_desk)]
