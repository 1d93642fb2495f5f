"""QFLARE's bodies and answers about organisations and users. The paths are the document's."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, Field, model_validator

from tg_workbench.contracts.accounts import Email, FullName, NewPassword, Username, utc
from tg_workbench.contracts.front_desk import Application
from tg_workbench.contracts.tg_tinker.schemas import Form, Id
from tg_workbench.identity import Membership, Organization, User, scopes_of

Role = Literal["owner", "admin", "member", "viewer"]
Scope = Literal["read", "train", "datasets", "devices", "keys", "webhooks", "audit", "monitoring", "admin"]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
Description = Annotated[str, Field(max_length=2000)]
Page = Annotated[int, Query(ge=1, le=10**9)]
Size = Annotated[int, Query(ge=1, le=100)]


class CreateOrganization(Form):
    """A new organisation."""

    name: Name
    description: Description | None = None


class ChangeOrganization(Form):
    """What is given changes; what is not stays."""

    name: Name | None = None
    description: Description | None = None


class CreateUser(Form):
    """A new user in one's own organisation; the operator of the workbench may name another."""

    username: Username
    email: Email
    password: NewPassword
    full_name: FullName | None = None
    role: Role = "member"
    organization_id: Id | None = None

    def as_application(self) -> Application:
        """The desk's value."""
        return Application(self.username, self.email, self.password, self.full_name)


class ChangePermissions(Form):
    """Another role, with what it brings; or `permissions` by name instead of the role's."""

    role: Role | None = None
    permissions: Annotated[list[Scope], Field(max_length=16)] | None = None

    @model_validator(mode="after")
    def _one_at_least(self) -> ChangePermissions:
        if self.role is None and self.permissions is None:
            raise ValueError("give a role, permissions or both")
        return self

    @property
    def scopes(self) -> frozenset[str] | None:
        """The permissions, as the room takes them."""
        return None if self.permissions is None else frozenset(self.permissions)


class Pagination(BaseModel):
    """Where in a list one is."""

    page: int
    size: int
    total: int
    pages: int

    @classmethod
    def of(cls, page: int, size: int, total: int) -> Pagination:
        """The page of a list that holds `total`."""
        return cls(page=page, size=size, total=total, pages=math.ceil(total / size))


class OrganizationView(BaseModel):
    """An organisation."""

    id: str
    name: str
    description: str | None
    member_count: int
    created_at: str

    @classmethod
    def of(cls, organization: Organization, members: int) -> OrganizationView:
        """An organisation of the room."""
        return cls(
            id=organization.id,
            name=organization.name,
            description=organization.description,
            member_count=members,
            created_at=utc(organization.created_at),
        )


class OrganizationList(BaseModel):
    """A page of organisations, the newest first."""

    organizations: list[OrganizationView]
    pagination: Pagination


class UserView(BaseModel):
    """A user, and their place in the organisation through which they are seen."""

    id: str
    username: str
    email: str
    full_name: str | None
    status: Literal["active", "deactivated"]
    organization_id: str | None
    role: str | None
    permissions: list[str]
    created_at: str

    @classmethod
    def of(cls, user: User, place: Membership | None) -> UserView:
        """A user of the room."""
        return cls(
            id=user.id,
            username=user.username,
            email=user.email,
            full_name=user.full_name,
            status="active" if user.deactivated_at is None else "deactivated",
            organization_id=None if place is None else place.organization_id,
            role=None if place is None else place.role,
            permissions=[] if place is None else sorted(scopes_of(place.role, place.permissions)),
            created_at=utc(user.created_at),
        )


class UserList(BaseModel):
    """A page of users, the newest first."""

    users: list[UserView]
    pagination: Pagination
