"""QFLARE's routes: S2-03, and S2-17 … S2-25."""

from __future__ import annotations

from fastapi import APIRouter, Response

from tg_workbench.contracts.audit import AskedAudit, AuditEntryView, AuditRoom
from tg_workbench.contracts.front_desk import TheDesk
from tg_workbench.contracts.providers import (
    MembershipsRoom,
    OrganizationId,
    OrganizationsRoom,
    SignedIn,
    ThePremises,
    UserId,
    UsersRoom,
)
from tg_workbench.contracts.qflare import accounts, schemas
from tg_workbench.contracts.qflare.errors import QFLARE_FAILURES, QflareRoute
from tg_workbench.contracts.route import audited, needs, public

router = APIRouter(prefix="/api/v1", route_class=QflareRoute, tags=["QFLARE"], responses=QFLARE_FAILURES)


@router.get("/health", responses={503: {"model": schemas.SystemHealth}})
@public
async def check_health(premises: ThePremises, answer: Response) -> schemas.SystemHealth:
    """Check system health status; 503 when something is not healthy."""
    found = await schemas.SystemHealth.of(premises)
    answer.status_code = 200 if found.status == "healthy" else 503
    return found


# ----------------------------------------------------------------------------- security
@router.get("/security/audit")
@needs("audit")
@audited
async def read_audit_log(
    owner: SignedIn,
    audit: AuditRoom,
    asked: AskedAudit,
    page: accounts.Page = 1,
    size: accounts.Size = 20,
) -> schemas.AuditLogView:
    """Get the audit log of your organisation, the newest first. Reading it is recorded too."""
    found, total = audit.list_page(owner.tenant_id, asked, limit=size, offset=(page - 1) * size)
    shown = [AuditEntryView.of(entry) for entry in found]
    return schemas.AuditLogView(entries=shown, pagination=accounts.Pagination.of(page, size, total))


# ----------------------------------------------------------------------------- organisations
@router.get("/organizations")
async def list_organizations(
    owner: SignedIn,
    organizations: OrganizationsRoom,
    members: MembershipsRoom,
    page: accounts.Page = 1,
    size: accounts.Size = 20,
) -> accounts.OrganizationList:
    """List the organisations that you belong to."""
    found, total = organizations.list_page(owner, limit=size, offset=(page - 1) * size)
    shown = [accounts.OrganizationView.of(each, members.count(each.id)) for each in found]
    pagination = accounts.Pagination.of(page, size, total)
    return accounts.OrganizationList(organizations=shown, pagination=pagination)


@router.post("/organizations", status_code=201)
@needs("admin")
async def create_organization(
    body: accounts.CreateOrganization,
    owner: SignedIn,
    organizations: OrganizationsRoom,
    members: MembershipsRoom,
) -> accounts.OrganizationView:
    """Create a new organisation, which you will own."""
    made = organizations.create(owner, body.name, body.description)
    return accounts.OrganizationView.of(made, members.count(made.id))


@router.get("/organizations/{org_id}")
async def get_organization(
    org_id: OrganizationId, owner: SignedIn, organizations: OrganizationsRoom, members: MembershipsRoom
) -> accounts.OrganizationView:
    """Get organisation details."""
    return accounts.OrganizationView.of(organizations.get(owner, org_id), members.count(org_id))


@router.put("/organizations/{org_id}")
@needs("admin")
async def update_organization(
    org_id: OrganizationId,
    body: accounts.ChangeOrganization,
    owner: SignedIn,
    organizations: OrganizationsRoom,
    members: MembershipsRoom,
) -> accounts.OrganizationView:
    """Update the organisation that you are signed in to."""
    changed = organizations.change(owner, org_id, name=body.name, description=body.description)
    return accounts.OrganizationView.of(changed, members.count(org_id))


# ----------------------------------------------------------------------------- users and permissions
@router.get("/users")
@needs("admin")
async def list_users(
    owner: SignedIn,
    users: UsersRoom,
    members: MembershipsRoom,
    page: accounts.Page = 1,
    size: accounts.Size = 20,
) -> accounts.UserList:
    """List the users of your organisation."""
    found, total = users.list_page(owner, limit=size, offset=(page - 1) * size)
    shown = [accounts.UserView.of(user, members.seen_by(owner, user.id)) for user in found]
    return accounts.UserList(users=shown, pagination=accounts.Pagination.of(page, size, total))


@router.post("/users", status_code=201)
@needs("admin")
async def create_user(body: accounts.CreateUser, owner: SignedIn, desk: TheDesk) -> accounts.UserView:
    """Create a new user in your organisation."""
    user, place = await desk.hire(owner, body.as_application(), body.role, body.organization_id)
    return accounts.UserView.of(user, place)


@router.get("/users/{user_id}")
async def get_user(
    user_id: UserId, owner: SignedIn, users: UsersRoom, members: MembershipsRoom
) -> accounts.UserView:
    """Get the details of a user of your organisation."""
    return accounts.UserView.of(users.get(owner, user_id), members.seen_by(owner, user_id))


@router.put("/users/{user_id}/permissions")
@needs("admin")
async def update_permissions(
    user_id: UserId,
    body: accounts.ChangePermissions,
    owner: SignedIn,
    users: UsersRoom,
    members: MembershipsRoom,
) -> accounts.UserView:
    """Update what a user may do in your organisation. What it takes is gone at once."""
    user = users.get(owner, user_id)
    place = members.permit(owner, members.of_member(owner, user_id), body.role, body.scopes)
    return accounts.UserView.of(user, place)
