"""OAuth clients: applications that users of an organisation may let in.

A confidential one has a secret; a public one has none and proves by PKCE that it asked for its code itself.
Where a browser is sent back to is compared letter by letter, but for the port on this machine, which a native
application gets from the system when it starts (RFC 8252, 7.3).
"""

from __future__ import annotations

import re
import secrets
import unicodedata
import uuid
from dataclasses import dataclass
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.crypto import tokens
from tg_workbench.errors import InvalidRequest, OAuthClientNotFound, PermissionDenied
from tg_workbench.identity.permissions import meant_by
from tg_workbench.identity.principal import LOCAL, Principal
from tg_workbench.identity.tables import OAuthClient, UserSession
from tg_workbench.storage.database import now

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Characters that change how a name looks, and are not seen themselves."""
MOST_ADDRESSES, LONGEST_ADDRESS = 16, 1000
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?@!$&'()*+,=%\[\]-]+")
"""What a URI may hold (RFC 3986), but for a fragment and for `;`, which a policy could not name."""
_HERE = re.compile(r"(http://(?:localhost|127\.0\.0\.1|\[::1\]))(?::\d{1,5})?([/?].*)?")
_PLACE = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")


@dataclass(frozen=True, slots=True)
class NewClient:
    """An application as it is registered."""

    name: str
    redirect_uris: tuple[str, ...]
    scope: str
    confidential: bool = True


class OAuthClients:
    """The applications that are known to a workbench."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def register(self, asking: Principal, new: NewClient) -> tuple[OAuthClient, str | None]:
        """A new application of the asker's organisation and its secret, which is never to be had again.

        The operator's may be let in by every user. Raises InvalidRequest, ScopeInvalid, PermissionDenied.
        """
        if not 1 <= len(new.redirect_uris) <= MOST_ADDRESSES or not new.name.strip():
            raise InvalidRequest(f"an application has a name and 1 to {MOST_ADDRESSES} redirect_uris")
        if any(unicodedata.category(character) in _UNSEEN for character in new.name):
            raise InvalidRequest("an application's name holds no control or format characters")
        for address in new.redirect_uris:
            _check_address(address)
        if beyond := sorted(meant_by(new.scope) - asking.scopes):
            raise PermissionDenied(f"you cannot give away what you do not hold: {', '.join(beyond)}")
        secret = f"tgo_{secrets.token_urlsafe(32)}" if new.confidential else None
        client = OAuthClient(
            id=f"app_{uuid.uuid4().hex}",
            name=new.name.strip(),
            organization_id=asking.tenant_id,
            secret_hash=None if secret is None else tokens.digest(secret),
            redirect_uris=list(new.redirect_uris),
            scope=" ".join(dict.fromkeys(new.scope.split())),
            created_by=asking.id,
        )
        self.session.add(client)
        self.session.flush()
        return client, secret

    def list_page(
        self, asking: Principal, *, limit: int = 50, offset: int = 0
    ) -> tuple[list[OAuthClient], int]:
        """The applications of the asker's organisation, newest first, and how many there are."""
        mine = self._readable(asking)
        total = self.session.exec(select(sa.func.count()).select_from(OAuthClient).where(*mine)).one()
        newest_first = (col(OAuthClient.created_at).desc(), col(OAuthClient.id))
        query = select(OAuthClient).where(*mine).order_by(*newest_first)
        return list(self.session.exec(query.limit(limit).offset(offset))), total

    def remove(self, asking: Principal, client_id: str) -> None:
        """Forget an application; whoever let it in is rid of it at once. Raises OAuthClientNotFound."""
        query = select(OAuthClient).where(*self._readable(asking), OAuthClient.id == client_id)
        client = self.session.exec(query).one_or_none()
        if client is None:
            raise OAuthClientNotFound
        client.deleted_at = now()
        self.session.add(client)
        self.session.flush()
        living = sa.update(UserSession).where(
            col(UserSession.client_id) == client_id, col(UserSession.ended_at).is_(None)
        )
        self.session.exec(living.values(ended_at=client.deleted_at))

    def find(self, client_id: str) -> OAuthClient | None:
        """An application that is not removed."""
        client = self.session.get(OAuthClient, client_id)
        return client if client is not None and client.deleted_at is None else None

    def authenticated(self, client_id: str, secret: str | None) -> OAuthClient | None:
        """The application, if this is its secret; a public one has to come without."""
        client = self.find(client_id)
        if client is None or (client.secret_hash is None) != (secret is None):
            return None
        if secret is not None and not tokens.same(tokens.digest(secret), client.secret_hash or ""):
            return None
        return client

    def _readable(self, asking: Principal) -> tuple[sa.ColumnElement[bool], ...]:
        living = col(OAuthClient.deleted_at).is_(None)
        if asking.is_operator:
            return (living,)
        return (living, col(OAuthClient.organization_id) == asking.tenant_id)


def is_for(client: OAuthClient, organization_id: str) -> bool:
    """Whether members of an organisation may let an application in."""
    return client.organization_id in (organization_id, LOCAL)


def may_lead_to(client: OAuthClient, address: str) -> bool:
    """Whether an application has registered an address, or for this machine the same with another port."""
    if address in client.redirect_uris:
        return True
    here = _but_for_its_port(address)
    return here is not None and here in map(_but_for_its_port, client.redirect_uris)


def _but_for_its_port(address: str) -> tuple[str, ...] | None:
    """An address on this machine without its port; None for any other."""
    found = _HERE.fullmatch(address)
    return None if found is None else found.groups(default="")


def _check_address(address: str) -> None:
    """Raises InvalidRequest unless a code that is sent there reaches the application and nobody between."""
    advice = (
        "a redirect_uri is https://…, http:// on this machine (localhost, 127.0.0.1, [::1]), or a scheme of "
        "the application's own with a dot in it (com.example.app:/…); it has no fragment"
    )
    if len(address) > LONGEST_ADDRESS or not _ADDRESS.fullmatch(address):
        raise InvalidRequest(advice)
    try:
        parts = urlsplit(address)
        host, named = parts.hostname, _PLACE.fullmatch(parts.netloc) is not None
        parts.port  # noqa: B018  (raises where it is none)
    except ValueError:
        raise InvalidRequest(advice) from None
    safe = parts.scheme == "https" and named
    here = parts.scheme == "http" and named and host in LOOPBACK
    own = "." in parts.scheme and (named or not parts.netloc)
    if not (safe or here or own):
        raise InvalidRequest(advice)
