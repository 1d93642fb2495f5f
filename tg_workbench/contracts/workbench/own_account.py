"""One's own account in our own words: registering, and who one is. The documents' answers say less."""

from __future__ import annotations

from fastapi import APIRouter

from tg_workbench.contracts.accounts import Email, FullName, NewPassword, Secret, Username
from tg_workbench.contracts.front_desk import Application, TheDesk
from tg_workbench.contracts.providers import MembershipsRoom, SignedIn, UsersRoom
from tg_workbench.contracts.route import FAILURES, needs, public
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.tg_tinker.schemas import ExactForm
from tg_workbench.contracts.tg_tinker.views import View, iso
from tg_workbench.identity import Membership, Principal, User

router = APIRouter(prefix="/workbench/v1", route_class=WorkbenchRoute, tags=["Accounts"], responses=FAILURES)


class Register(ExactForm):
    """A new account; the invitation leads into the organisation of whoever gave it."""

    username: Username
    email: Email
    password: NewPassword
    full_name: FullName | None = None
    invitation_token: Secret | None = None

    def as_application(self) -> Application:
        """The desk's value."""
        return Application(self.username, self.email, self.password, self.full_name, self.invitation_token)


class Registered(View):
    """Somebody who may sign in now."""

    user_id: str
    username: str
    email: str
    full_name: str | None
    created_at: str

    @classmethod
    def of(cls, user: User) -> Registered:
        """A user of the room."""
        return cls(
            user_id=user.id,
            username=user.username,
            email=user.email,
            full_name=user.full_name,
            created_at=iso(user.created_at),
        )


class AccountView(View):
    """Who is asking, for which organisation, and what they may do. No user stands behind a local key."""

    user_id: str | None
    username: str | None
    email: str | None
    full_name: str | None
    organization_id: str
    role: str | None
    scopes: list[str]
    session_id: str | None
    key_id: str | None

    @classmethod
    def of(cls, asking: Principal, user: User | None, place: Membership | None) -> AccountView:
        """Whoever asks, as the rooms know them."""
        return cls(
            user_id=asking.user_id,
            username=None if user is None else user.username,
            email=None if user is None else user.email,
            full_name=None if user is None else user.full_name,
            organization_id=asking.tenant_id,
            role=None if place is None else place.role,
            scopes=sorted(asking.scopes),
            session_id=asking.session_id,
            key_id=asking.key_id,
        )


@router.post("/account", status_code=201)
@public
async def register(body: Register, desk: TheDesk) -> Registered:
    """Register; sign in afterwards."""
    return Registered.of(await desk.register(body.as_application()))


@router.get("/account")
@needs("read")
async def read_account(owner: SignedIn, users: UsersRoom, members: MembershipsRoom) -> AccountView:
    """Who you are here, and what you may do."""
    place = None if owner.user_id is None else members.find(owner.user_id, owner.tenant_id)
    return AccountView.of(owner, users.of(owner), place)
