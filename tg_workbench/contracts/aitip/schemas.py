"""AITIP's bodies and answers. An unknown member is ignored, as the document's own server does."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel

from tg_workbench.contracts.accounts import Email, Login, NewPassword, Password, Secret, Username
from tg_workbench.contracts.front_desk import Admission, Application
from tg_workbench.contracts.tg_tinker.schemas import Form
from tg_workbench.identity import Principal, User

Data = TypeVar("Data")


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
