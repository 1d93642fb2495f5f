"""The front desk: where accounts are made and people sign in, in every contract alike.

A password is looked at between two transactions and never inside one: it takes a tenth of a second, and a
writer waits for no other longer than it must.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from tg_workbench.contracts.limits import address_in
from tg_workbench.contracts.password_queue import Tried
from tg_workbench.contracts.premises import Premises
from tg_workbench.contracts.providers import ThePremises
from tg_workbench.contracts.trail import Actor, acts, aims
from tg_workbench.crypto.access_tokens import AccessToken
from tg_workbench.crypto.passwords import needs_rehash
from tg_workbench.errors import InvalidRequest, RegistrationClosed, Unauthenticated, WrongPassword
from tg_workbench.identity import (
    Invitations,
    Membership,
    Memberships,
    NewAccount,
    Principal,
    Sessions,
    User,
    Users,
    compared,
)
from tg_workbench.storage.database import now

REMEMBERED_SECONDS = 30 * 86_400.0
"""How long an ended session is kept, so that its tokens are still known for what they are."""


@dataclass(frozen=True, slots=True)
class Application:
    """Somebody who wants an account."""

    username: str
    email: str
    password: str = field(repr=False)
    full_name: str | None = None
    invitation: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Admission:
    """Somebody who is signed in now."""

    user: User
    principal: Principal
    access_token: str = field(repr=False)
    expires_in: int
    refresh_token: str = field(repr=False)


class FrontDesk:
    """Registers people and signs them in. `address` is where they come from, if that is a place."""

    def __init__(self, premises: Premises, address: str | None = None) -> None:
        self.premises = premises
        self.address = address

    async def register(self, applicant: Application) -> User:
        """A new account.

        Raises RegistrationClosed, InvitationInvalid, PasswordUnfit, AccountTaken, and what `known` does when
        too many come.
        """
        await self._count()
        mode = self.premises.settings.registration
        if mode == "closed" or (mode == "invite" and applicant.invitation is None):
            raise RegistrationClosed(by_invitation=mode == "invite")
        if applicant.invitation is not None:
            with self.premises.database.read() as session:
                Invitations(session).look_at(applicant.invitation)
        hashed = await self.premises.passwords.hashed(applicant.password, self.address)
        account = NewAccount(applicant.username, applicant.email, hashed, applicant.full_name)
        with self.premises.database.write() as session:
            user, place = Users(session).register(account, applicant.invitation)
            acts(Actor(place.organization_id, user.id, "user"))
        return user

    async def hire(
        self, asking: Principal, applicant: Application, role: str, where: str | None
    ) -> tuple[User, Membership]:
        """A new account that an administrator makes. Raises what `register` and `Users.create` do."""
        hashed = await self.premises.passwords.hashed(applicant.password)
        account = NewAccount(applicant.username, applicant.email, hashed, applicant.full_name)
        with self.premises.database.write() as session:
            return Users(session).create(asking, account, role, where)

    async def sign_in(self, login: str, password: str, organization_id: str | None = None) -> Admission:
        """A session for whoever has this name or address and this password.

        Raises WrongPassword, also when they have no place in the organisation, and what `known` does.
        """
        user = await self.known(login, password)
        return self.admit(user.id, organization_id)

    def admit(self, user_id: str, organization_id: str | None = None) -> Admission:
        """A session for a user who is known to be one. Raises WrongPassword when they have no place."""
        with self.premises.database.write() as session:
            Sessions(session).forget_ended(now() - REMEMBERED_SECONDS)
            place = Memberships(session).find(user_id, organization_id)
            if place is None:
                raise WrongPassword
            opened, refresh_token = Sessions(session).begin(place)
            principal = Sessions(session).principal(opened.id)
            if principal is not None:
                acts(Actor.of(principal))
            user = session.get_one(User, user_id)
        if principal is None:
            raise WrongPassword
        return self.admission(user, principal, refresh_token)

    def refresh(
        self, refresh_token: str, *, rotating: bool = False, client_id: str | None = None
    ) -> Admission:
        """The session goes on. Raises Unauthenticated; a token that was used up ends its session, too."""
        with self.premises.database.write() as session:
            found = Sessions(session).refresh(refresh_token, rotating=rotating, client_id=client_id)
            user = Users(session).of(found[0]) if found is not None else None
            if found is not None:
                acts(Actor.of(found[0]))
        if found is None or user is None:
            raise Unauthenticated("this refresh token is not good any more: sign in again")
        return self.admission(user, *found)

    def admission(self, user: User, principal: Principal, refresh_token: str) -> Admission:
        """The tokens of a session that lives."""
        token = AccessToken(user.id, principal.tenant_id, principal.scopes, principal.session_id or "")
        signed = self.premises.access_tokens.sign(token)
        return Admission(user, principal, signed, token.lifetime_seconds, refresh_token)

    async def change_password(self, asking: Principal, password: str, new: str) -> None:
        """Another password; every other session of the user ends. Raises WrongPassword, PasswordUnfit."""
        user = await self._self(asking, password)
        hashed = await self.premises.passwords.hashed(new)
        with self.premises.database.write() as session:
            Users(session).set_password(user.id, hashed)
            Sessions(session).end_all(user.id, keep=asking.session_id)

    async def close_account(self, asking: Principal, password: str) -> None:
        """Close the asker's account. Raises WrongPassword, LastOwner."""
        user = await self._self(asking, password)
        with self.premises.database.write() as session:
            Users(session).deactivate(session.get_one(User, user.id))

    async def _self(self, asking: Principal, password: str) -> User:
        if asking.user_id is None:
            raise InvalidRequest("this credential is no user's, so there is no account and no password")
        with self.premises.database.read() as session:
            user = session.get_one(User, asking.user_id)
        return await self._proven(user, Tried("session" if asking.is_person else "user", user.id), password)

    async def known(self, login: str, password: str) -> User:
        """Whose name and password this is; nobody's takes as long.

        Raises WrongPassword, TooManyAttempts, TooManyVisits, PasswordsBusy.
        """
        await self._count()
        with self.premises.database.read() as session:
            user = Users(session).find_by_login(login)
            place = Memberships(session).find("" if user is None else user.id)  # asked of nobody, too
        if place is not None:
            aims(place.organization_id, place.user_id)
        if user is None:
            return await self._proven(None, Tried("name", compared(login), self.address), password)
        return await self._proven(user, Tried("user", user.id, self.address), password)

    async def _count(self) -> None:
        if self.address is not None:
            await self.premises.limits.count_visit(self.address)

    async def _proven(self, user: User | None, tried: Tried, password: str) -> User:
        stored = None if user is None else user.password_hash
        right = await self.premises.passwords.verify(tried, password, stored)
        if user is None or stored is None or not right:
            raise WrongPassword
        if needs_rehash(stored):
            hashed = await self.premises.passwords.hashed(password)
            with self.premises.database.write() as session:
                Users(session).set_password(user.id, hashed)
        return user


async def _desk(request: Request, premises: ThePremises) -> FrontDesk:
    return FrontDesk(premises, address_in(request))


TheDesk = Annotated[FrontDesk, Depends(_desk)]
