"""AITIP's bodies and answers. An unknown member is ignored, as the document's own server does."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field

from tg_workbench.contracts.accounts import Email, Login, NewPassword, Password, Secret, Username, utc
from tg_workbench.contracts.front_desk import Admission, Application
from tg_workbench.contracts.tg_tinker.schemas import Form, Id
from tg_workbench.identity import Principal, User
from tg_workbench.models.serving import Service, ServiceSpec, Standing

Data = TypeVar("Data")
Page = Annotated[int, Query(ge=1, le=10**9)]
PageSize = Annotated[int, Query(ge=1, le=100)]
ServiceName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="1 to 64 letters, digits, dots, hyphens and underscores: it is part of an address.",
    ),
]


class Register(Form):
    """A new account. `invitation_token` is ours: for where registration is by invitation."""

    email: Email
    username: Username
    password: NewPassword
    invitation_token: Secret | None = None

    def as_application(self) -> Application:
        """The desk's value."""
        return Application(self.username, self.email, self.password, invitation=self.invitation_token)


class SignIn(Form):
    """Who one is."""

    email: Login
    password: Password


class Success(BaseModel, Generic[Data]):
    """AITIP's envelope around an answer."""

    success: Literal[True] = True
    data: Data


class UserView(BaseModel):
    """A user; a credential that is no user's has a name and no address."""

    id: str
    email: str | None
    username: str

    @classmethod
    def of(cls, user: User | None, asking: Principal | None = None) -> UserView:
        """A user of the room, or else whoever is asking."""
        if user is None:
            name = asking.id if asking is not None else ""
            return cls(id=name, email=None, username=name)
        return cls(id=user.id, email=user.email, username=user.username)


class SignedInView(BaseModel):
    """A user and the token that stands for them."""

    user: UserView
    token: str

    @classmethod
    def of(cls, admission: Admission) -> SignedInView:
        """Whom the desk has let in. There is no refresh token in this document."""
        return cls(user=UserView.of(admission.user), token=admission.access_token)


class Meta(BaseModel):
    """Where in a list one is."""

    page: int
    page_size: int
    total: int


class PageOf(BaseModel, Generic[Data]):
    """AITIP's envelope around a page of a list."""

    success: Literal[True] = True
    data: list[Data]
    meta: Meta


class CreateService(Form):
    """A service. The numbers of replicas are ours: with `min_replicas` 0 the first call starts a worker."""

    name: ServiceName
    model_id: Id
    runtime: Literal["triton", "onnxruntime", "torch"] = "onnxruntime"
    gpu_count: int = Field(default=0, ge=0, le=64)
    min_replicas: int = Field(default=0, ge=0, le=16)
    max_replicas: int = Field(default=1, ge=1, le=16)

    def as_spec(self) -> ServiceSpec:
        """The room's value."""
        return ServiceSpec(**self.model_dump())


class ServiceView(BaseModel):
    """A service. `runtime` is what was asked for, `runtime_used` what answers, and `warnings` say why."""

    id: str
    name: str
    model_id: str
    status: Literal["stopped", "starting", "ready", "failed", "stopping"]
    reason: str | None
    runtime: str
    runtime_used: str
    gpu_count: int
    min_replicas: int
    max_replicas: int
    replicas: int
    warnings: list[str]
    created_at: str
    started_at: str | None
    stopped_at: str | None

    @classmethod
    def of(cls, service: Service, standing: Standing) -> ServiceView:
        """A service of the room, and how it stands."""
        told: dict[str, Any] = service.model_dump()
        for name in ("created_at", "started_at", "stopped_at"):
            told[name] = None if told[name] is None else utc(told[name])
        return cls(**told, status=standing.status, replicas=standing.replicas)
