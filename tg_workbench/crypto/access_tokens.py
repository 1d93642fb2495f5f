"""Access tokens: short-lived JWTs (RFC 9068), signed with HS256 under a key of this workbench and no other.

The algorithm is pinned, the key is named by `kid`, and a token says whose session it belongs to; whether
that session still lives is asked of the database, not of the token.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tg_workbench.crypto.keyring import SIGNING_FILE, Keyring
from tg_workbench.errors import TokenExpired, Unauthenticated

if TYPE_CHECKING:
    from joserfc.jwk import OctKey

ALGORITHM, KIND, ISSUER = "HS256", "at+jwt", "tg-workbench"
LIFETIME_SECONDS = 1800
LONGEST = 4096
"""Ours have some 400 characters; what is longer is not even decoded."""
LEEWAY_SECONDS = 5
"""How far a clock may have been set back since a token was made."""

BAD = "this token is not valid, or no longer: sign in again"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What an access token says. `scopes` is a ceiling: what its owner has lost since is lost here too."""

    user_id: str
    tenant_id: str
    scopes: frozenset[str]
    session_id: str
    issued_at: int = field(default_factory=lambda: int(time.time()))
    lifetime_seconds: int = LIFETIME_SECONDS
    token_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def expires_at(self) -> int:
        """The second from which it is no longer good."""
        return self.issued_at + self.lifetime_seconds


class AccessTokens:
    """Signs access tokens and reads them. Its keys are made at first use and can be rotated beside it."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def sign(self, token: AccessToken) -> str:
        """The token as a bearer sends it."""
        from joserfc import jwt  # here: the start need not wait for it

        self._look_again()
        key_id = next(iter(self._keys))
        claims = {
            "iss": ISSUER,
            "sub": token.user_id,
            "tenant": token.tenant_id,
            "scope": " ".join(sorted(token.scopes)),
            "sid": token.session_id,
            "jti": token.token_id,
            "iat": token.issued_at,
            "exp": token.expires_at,
        }
        header = {"alg": ALGORITHM, "kid": key_id}
        return jwt.encode(header, claims, self._keys[key_id], [ALGORITHM], default_type=KIND)

    def read(self, text: str) -> AccessToken:
        """What `text` says. Raises Unauthenticated when it is not ours or was changed, and TokenExpired."""
        from joserfc import jwt
        from joserfc.errors import JoseError

        if len(text) > LONGEST or not text.isascii():
            raise Unauthenticated(BAD)
        try:
            decoded = jwt.decode(text, self._key_of, [ALGORITHM])
            token = _token_of(decoded.claims)
        except (JoseError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as failure:
            raise Unauthenticated(BAD) from failure
        now = time.time()
        genuine = decoded.header.get("typ") == KIND and decoded.claims.get("iss") == ISSUER
        if not genuine or now < token.issued_at - LEEWAY_SECONDS:
            raise Unauthenticated(BAD)
        if now >= token.expires_at:
            raise TokenExpired
        return token

    @cached_property
    def _keys(self) -> dict[str, OctKey]:
        from joserfc.jwk import OctKey

        ring = Keyring.open(self.home, SIGNING_FILE)
        self._age = (self.home / "keys" / SIGNING_FILE).stat().st_mtime_ns
        return {key_id: OctKey.import_key(key) for key_id, key in ring.keys.items()}

    def _key_of(self, sent: Any) -> OctKey:
        """The key that a token names. Raises KeyError when it is not on the ring, also as it is now."""
        key_id = str(sent.headers()["kid"])
        if key_id not in self._keys:
            self._look_again()
        return self._keys[key_id]

    def _look_again(self) -> None:
        """Another process may have rotated the keys."""
        if "_keys" in vars(self) and (self.home / "keys" / SIGNING_FILE).stat().st_mtime_ns != self._age:
            del self._keys


def _token_of(claims: dict[str, Any]) -> AccessToken:
    return AccessToken(
        user_id=str(claims["sub"]),
        tenant_id=str(claims["tenant"]),
        scopes=frozenset(str(claims["scope"]).split()),
        session_id=str(claims["sid"]),
        issued_at=int(claims["iat"]),
        lifetime_seconds=int(claims["exp"]) - int(claims["iat"]),
        token_id=str(claims["jti"]),
    )
