"""Signing in: a session that keeps itself alive, and who one is in it.

A password is sent once and kept nowhere. The access token is good for half an hour; before it ends, or when
it is refused, the refresh token gets the next one and is used up by that.

Pitfalls: a session is one process's. Two that share it (after a fork, say) use one refresh token twice, which
is what a thief would do, and ends it. Give other processes an API key.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tg_workbench.errors import Refused, Unauthenticated
from tg_workbench.sdk.connection import AWAY, Body, Call, Connection, error_of, object_in
from tg_workbench.sdk.values import Value
from tg_workbench.sdk.wire import Answer, WireBroken

SESSIONS = "/workbench/v1/sessions"
EARLY_SECONDS = 60.0
"""So long before its end a token is renewed, or a tenth of its life when that is less."""


@dataclass(frozen=True, slots=True)
class Account(Value):
    """Who asks, for which organisation, and what they may do. No user stands behind a local key."""

    user_id: str | None = None
    username: str | None = None
    email: str | None = None
    full_name: str | None = None
    organization_id: str = ""
    role: str | None = None
    scopes: Sequence[str] = ()
    session_id: str | None = None
    key_id: str | None = None

    def __str__(self) -> str:
        """One line: the name, the role, and what it comes to."""
        place = f"{self.role} of {self.organization_id}" if self.role else self.organization_id
        who = f"{self.username} ({place})" if self.username else "this workbench's own key"
        return f"{who} may {', '.join(self.scopes) or 'do nothing'}"


@dataclass(frozen=True, slots=True)
class Tokens(Value):
    """What a sign-in or a refresh answers. The tokens are never shown by `repr`."""

    username: str = ""
    access_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    expires_in: float = 0.0


class Session:
    """Somebody signed in. Renews its token by itself; safe to share between threads."""

    def __init__(self, login: str, tokens: Tokens, refresh: Callable[[str], Answer]) -> None:
        self.login = login
        self.over = False
        self._refresh = refresh
        self._lock = threading.Lock()
        self._take(tokens)

    @property
    def username(self) -> str:
        """Who is signed in."""
        return self._tokens.username

    def token(self) -> str:
        """A token that is good for a while. Raises Unauthenticated when the session is over, WireBroken."""
        with self._lock:
            if not self.over and time.monotonic() >= self._renew_at:
                self._renew()
            if self.over:
                raise Unauthenticated(f"{self.username}'s session has ended: call wb.login(…) again")
            return self._tokens.access_token

    def renew(self, refused: str) -> None:
        """Another token, unless some other thread has got one. Raises Unauthenticated, WireBroken."""
        with self._lock:
            if not self.over and self._tokens.access_token == refused:
                self._renew()

    def _renew(self) -> None:
        """The next token. One whose answer was lost is asked for again: it cannot get worse by that."""
        answer = self._refresh(self._tokens.refresh_token)
        if answer.status_code < 300:
            self._take(Tokens.from_wire(object_in(answer)))
            return
        error = error_of(answer)
        if answer.status_code in AWAY:
            raise WireBroken(str(error))
        if not isinstance(error, Unauthenticated):
            raise error
        self.over = True

    def _take(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._renew_at = time.monotonic() + tokens.expires_in - min(EARLY_SECONDS, tokens.expires_in / 10)

    def __repr__(self) -> str:
        """Who; never a token."""
        return f"<Session of {self.username}{', ended' if self.over else ''}>"


class Accounts:
    """Registering, signing in and out: what `wb.register`, `wb.login` and `wb.logout` do."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._session: Session | None = None

    @property
    def session(self) -> Session | None:
        """Who is signed in, if somebody is."""
        return self._session

    def register(self, applicant: dict[str, Any]) -> Account:
        """A new account. Raises AccountTaken, PasswordUnfit, InvitationInvalid, RegistrationClosed."""
        body = Body.of_json({name: value for name, value in applicant.items() if value is not None})
        call = Call("POST", "/workbench/v1/account", body=body, is_anonymous=True)
        return Account.from_wire(self._connection.send(call))

    def sign_in(self, login: str, password: str, organization_id: str | None) -> None:
        """Sign in; the same name again begins a new session. Raises WrongPassword, Refused."""
        current = self._session
        if current is not None and not current.over and current.login != login:
            raise Refused(
                f"{current.username} is signed in with this Workbench: wb.logout() first, "
                "or let each person have a Workbench of their own"
            )
        asked = {"login": login, "password": password}
        if organization_id is not None:
            asked["organization_id"] = organization_id
        call = Call("POST", SESSIONS, body=Body.of_json(asked), is_anonymous=True)
        tokens = Tokens.from_wire(self._connection.send(call))
        if current is not None:
            self.sign_out()
        self._session = self._connection.credential = Session(login, tokens, self._refreshed)

    def sign_out(self) -> None:
        """End the session, there and here; nothing when nobody is signed in."""
        if self._session is None:
            return
        try:
            self._connection.delete(f"{SESSIONS}/current")
        except Unauthenticated:
            pass  # it had ended already
        finally:
            self._forget()

    def sign_out_everywhere(self) -> int:
        """End every session of whoever is signed in; how many those were."""
        ended = self._connection.delete(SESSIONS).get("ended", 0)
        self._forget()
        return int(ended)

    def me(self) -> Account:
        """Who asks, as the workbench sees it now."""
        return Account.from_wire(self._connection.get("/workbench/v1/account"))

    def _forget(self) -> None:
        self._session = self._connection.credential = None

    def _refreshed(self, refresh_token: str) -> Answer:
        body = Body.of_json({"refresh_token": refresh_token})
        return self._connection.answer(Call("POST", f"{SESSIONS}/refresh", body=body, is_anonymous=True))
