"""The Deep Learning Platform's bodies and answers. An unknown member is ignored."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from tg_workbench.contracts.accounts import (
    Email,
    FullName,
    Login,
    NewPassword,
    Password,
    Secret,
    Username,
    utc,
)
from tg_workbench.contracts.front_desk import Admission, Application
from tg_workbench.contracts.tg_tinker.schemas import Form
from tg_workbench.identity import User


class Register(Form):
    """A new account. `invitation_token` is ours: for where registration is by invitation."""

    username: Username
    email: Email
    password: NewPassword
    full_name: FullName | None = None
    invitation_token: Secret | None = None

    def as_application(self) -> Application:
        """The desk's value."""
        return Application(self.username, self.email, self.password, self.full_name, self.invitation_token)


class SignIn(Form):
    """Who one is."""

    username: Login
    password: Password


class Refresh(Form):
    """What keeps one signed in."""

    refresh_token: Secret


class UserView(BaseModel):
    """A user who has just registered."""

    id: str
    username: str
    email: str
    full_name: str | None
    created_at: str

    @classmethod
    def of(cls, user: User) -> UserView:
        """A user of the room."""
        return cls(
            id=user.id,
            username=user.username,
            email=user.email,
            full_name=user.full_name,
            created_at=utc(user.created_at),
        )


class Tokens(BaseModel):
    """What stands for a user now, and what gets the next one."""

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105  (a kind of token, and no secret)
    expires_in: int

    @classmethod
    def of(cls, admission: Admission) -> Tokens:
        """Whom the desk has let in."""
        return cls(
            access_token=admission.access_token,
            refresh_token=admission.refresh_token,
            expires_in=admission.expires_in,
        )


class Prediction(BaseModel):
    """What a model says of a row: a class and how sure it is, or a value."""

    class_name: str | None = Field(None, alias="class")
    confidence: float | None = None
    value: float | list[float] | None = None


class Predictions(BaseModel):
    """One for each row, in order."""

    predictions: list[Prediction]


ROWS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "input": {"description": "One row: a list, or an object by the columns' names."},
                        "inputs": {"type": "array", "minItems": 1, "maxItems": 10_000, "items": {}},
                    },
                    "oneOf": [{"required": ["input"]}, {"required": ["inputs"]}],
                }
            }
        },
    }
}
"""Not a class: a million numbers are read ten times as fast without one."""
