"""The parts of an account as every contract takes and tells them: names, addresses, passwords, times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

Username = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,63}$",
        description="2 to 64 letters, digits, dots, hyphens and underscores; upper and lower case are one.",
    ),
]
"""It holds no `@`, so no name is another's address."""
Email = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,188}[A-Za-z0-9])?$",
        description="An e-mail address, without comments, quotes or spaces.",
    ),
]
FullName = Annotated[str, Field(min_length=1, max_length=200)]
NewPassword = Annotated[
    str, Field(min_length=8, max_length=128, repr=False, description="8 to 128 characters.")
]
Password = Annotated[str, Field(max_length=1024, repr=False)]
"""As it is sent to sign in: what cannot be right is wrong, not malformed."""
Login = Annotated[str, Field(min_length=1, max_length=320)]
Secret = Annotated[str, Field(min_length=1, max_length=512)]
"""A refresh token, or an invitation's."""
UNSTORED = {"Cache-Control": "no-store"}
"""For answers that hold a token."""


def utc(seconds: float) -> str:
    """A time of ours as the documents write it: ISO 8601, UTC, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
