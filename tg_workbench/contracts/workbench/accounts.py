"""Our own routes about accounts: sessions, passwords, invitations, and leaving. No document has them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from tg_workbench.contracts.accounts import UNSTORED, Login, NewPassword, Password, Secret
from tg_workbench.contracts.front_desk import Admission, TheDesk
from tg_workbench.contracts.providers import (
    AnyOrganization,
    InvitationId,
    InvitationsRoom,
    Limit,
    MembershipsRoom,
    Offset,
    SessionId,
    SessionsRoom,
    SignedIn,
    UserId,
)
from tg_workbench.contracts.route import FAILURES, needs, public
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.tg_tinker.schemas import ExactForm, Id
from tg_workbench.contracts.tg_tinker.views import View, iso
from tg_workbench.contracts.workbench.schemas import Deleted
from tg_workbench.errors import SessionNotFound
from tg_workbench.identity import Invitation, Principal, UserSession

router = APIRouter(prefix="/workbench/v1", route_class=WorkbenchRoute, tags=["Accounts"], responses=FAILURES)
Role = Literal["owner", "admin", "member", "viewer"]


class SignIn(ExactForm):
    """Who one is, and for which organisation one wants to act: if none is named, the first one joined."""

    login: Login
    password: Password
    organization_id: Id | None = None


class Refresh(ExactForm):
    """What keeps one signed in. It is good once: the answer holds the next one."""

    refresh_token: Secret


class ChangePassword(ExactForm):
    """The password of now, and the next."""

    password: Password
    new_password: NewPassword


class CloseAccount(ExactForm):
    """The password, so that nobody closes an account from somebody's open notebook."""

    password: Password


class Invite(ExactForm):
    """Whom to invite: into one's own organisation; the operator of the workbench may name another."""

    role: Role = "member"
    organization_id: Id | None = None
    expires_in_hours: Annotated[float, Field(gt=0, le=8_760)] = 168.0


class SignedInView(View):
    """Who is signed in, for which organisation, and the tokens that stand for them."""

    user_id: str
    username: str
    organization_id: str
    scopes: list[str]
    session_id: str
    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105  (a kind of token, and no secret)
    expires_in: int

    @classmethod
    def of(cls, admission: Admission) -> SignedInView:
        """Whom the desk has let in."""
        principal = admission.principal
        return cls(
            user_id=admission.user.id,
            username=admission.user.username,
            organization_id=principal.tenant_id,
            scopes=sorted(principal.scopes),
            session_id=principal.session_id or "",
            access_token=admission.access_token,
            refresh_token=admission.refresh_token,
            expires_in=admission.expires_in,
        )


class SessionView(View):
    """A signed-in device, or an application that was let in."""

    session_id: str
    client_id: str | None
    created_at: str
    expires_at: str
    current: bool

    @classmethod
    def of(cls, session: UserSession, asking: Principal) -> SessionView:
        """A session of the room."""
        return cls(
            session_id=session.id,
            client_id=session.client_id,
            created_at=iso(session.created_at),
            expires_at=iso(session.expires_at),
            current=session.id == asking.session_id,
        )


class SessionList(View):
    """A page of sessions, the newest first."""

    sessions: list[SessionView]
    total: int
    limit: int
    offset: int


class Ended(View):
    """How many sessions have ended."""

    ended: int


class InvitationView(View):
    """An open invitation, without its token."""

    invitation_id: str
    organization_id: str
    role: str
    created_at: str
    expires_at: str


class IssuedInvitation(InvitationView):
    """A new invitation. Its token is in this answer and nowhere else."""

    invitation_token: str


class InvitationList(View):
    """A page of open invitations, the newest first."""

    invitations: list[InvitationView]
    total: int
    limit: int
    offset: int


def _shown(invitation: Invitation) -> dict[str, Any]:
    return {
        "invitation_id": invitation.id,
        "organization_id": invitation.organization_id,
        "role": invitation.role,
        "created_at": iso(invitation.created_at),
        "expires_at": iso(invitation.expires_at),
    }


# ----------------------------------------------------------------------------- sessions
@router.post("/sessions", status_code=201)
@public
async def sign_in(body: SignIn, desk: TheDesk, answer: Response) -> SignedInView:
    """Sign in by user name or e-mail address."""
    admission = await desk.sign_in(body.login, body.password, body.organization_id)
    answer.headers.update(UNSTORED)
    return SignedInView.of(admission)


@router.post("/sessions/refresh")
@public
async def refresh_session(body: Refresh, desk: TheDesk, answer: Response) -> SignedInView:
    """Go on with a session. A refresh token that comes a second time ends it."""
    answer.headers.update(UNSTORED)
    return SignedInView.of(desk.refresh(body.refresh_token, rotating=True))


@router.get("/sessions")
async def list_sessions(
    owner: SignedIn, sessions: SessionsRoom, limit: Limit = 50, offset: Offset = 0
) -> SessionList:
    """List your living sessions, on every device and of every application."""
    page, total = sessions.list_page(owner, limit=limit, offset=offset)
    shown = [SessionView.of(session, owner) for session in page]
    return SessionList(sessions=shown, total=total, limit=limit, offset=offset)


@router.delete("/sessions")
@needs("read")
async def sign_out_everywhere(owner: SignedIn, sessions: SessionsRoom) -> Ended:
    """Sign out everywhere, here too; API keys are not sessions: they stay, and cannot ask for it."""
    return Ended(ended=sessions.end_everywhere(owner))


@router.delete("/sessions/current")
@needs("read")
async def sign_out(owner: SignedIn, sessions: SessionsRoom) -> Ended:
    """Sign out here."""
    if owner.session_id is None:
        raise SessionNotFound
    sessions.end(owner, owner.session_id)
    return Ended(ended=1)


@router.delete("/sessions/{session_id}")
@needs("read")
async def end_session(session_id: SessionId, owner: SignedIn, sessions: SessionsRoom) -> Ended:
    """Sign another of your devices out, or take back what an application was let in for."""
    sessions.end(owner, session_id)
    return Ended(ended=1)


# ----------------------------------------------------------------------------- one's own account
@router.put("/account/password")
@needs("read")
async def change_password(body: ChangePassword, owner: SignedIn, desk: TheDesk) -> Deleted:
    """Change your password. Every other session of yours ends."""
    await desk.change_password(owner, body.password, body.new_password)
    return Deleted()


@router.post("/account/close")
@needs("read")
async def close_account(body: CloseAccount, owner: SignedIn, desk: TheDesk) -> Deleted:
    """Close your account, for good: its sessions end and its keys are revoked."""
    await desk.close_account(owner, body.password)
    return Deleted()


# ----------------------------------------------------------------------------- members
@router.post("/invitations", status_code=201)
@needs("admin")
async def invite(body: Invite, owner: SignedIn, invitations: InvitationsRoom) -> IssuedInvitation:
    """Invite somebody: they register with the token, once."""
    invitation, token = invitations.invite(
        owner, body.role, organization_id=body.organization_id, expires_in_hours=body.expires_in_hours
    )
    return IssuedInvitation(**_shown(invitation), invitation_token=token)


@router.get("/invitations")
@needs("admin")
async def list_invitations(
    owner: SignedIn, invitations: InvitationsRoom, limit: Limit = 50, offset: Offset = 0
) -> InvitationList:
    """List your organisation's open invitations."""
    page, total = invitations.list_page(owner, limit=limit, offset=offset)
    shown = [InvitationView(**_shown(invitation)) for invitation in page]
    return InvitationList(invitations=shown, total=total, limit=limit, offset=offset)


@router.delete("/invitations/{invitation_id}")
@needs("admin")
async def withdraw_invitation(
    invitation_id: InvitationId, owner: SignedIn, invitations: InvitationsRoom
) -> Deleted:
    """Withdraw an invitation that nobody has used."""
    invitations.withdraw(owner, invitation_id)
    return Deleted()


@router.delete("/members/{user_id}")
@needs("admin")
async def remove_member(
    user_id: UserId, owner: SignedIn, members: MembershipsRoom, organization_id: AnyOrganization = None
) -> Deleted:
    """Take a member's place in your organisation away: sessions end and keys are revoked at once."""
    members.end(owner, members.of_member(owner, user_id, organization_id))
    return Deleted()
