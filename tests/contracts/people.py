"""Users of a running workbench, as they sign in: each with a client of their own."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.secrets_in_logs import PASSWORD_MARK
from tests.workbench_server import WorkbenchServer

PASSWORD = f"{PASSWORD_MARK}-staple"
RENEWED_AFTER_SECONDS = 600.0
"""Access tokens last for half an hour, which leaves a test twenty minutes."""


@dataclass
class Person:
    """Somebody who has registered and signed in."""

    name: str
    http: httpx.Client
    signed_in: dict[str, Any]
    renewed_at: float = field(default_factory=time.monotonic)

    def stay_signed_in(self) -> None:
        """Have a fresh access token in the same session, for those whom tests share for long."""
        if time.monotonic() < self.renewed_at + RENEWED_AFTER_SECONDS:
            return
        answer = self.http.post("/auth/refresh", json={"refresh_token": self.signed_in["refresh_token"]})
        assert answer.status_code == 200, answer.text
        self.signed_in.update(answer.json())
        self.http.headers["Authorization"] = f"Bearer {self.signed_in['access_token']}"
        self.renewed_at = time.monotonic()

    @property
    def email(self) -> str:
        return f"{self.name}@example.org"

    @property
    def user_id(self) -> str:
        return str(self.signed_in["user_id"])

    @property
    def organization_id(self) -> str:
        return str(self.signed_in["organization_id"])


class People:
    """Registers and signs in, by S3's and our own contract."""

    def __init__(self, server: WorkbenchServer) -> None:
        self.server = server
        self._clients: list[httpx.Client] = []

    def client(self, **headers: str) -> httpx.Client:
        """A client that sends these headers and no credential of its own."""
        http = self.server.client()
        del http.headers["Authorization"]
        http.headers.update(headers)
        self._clients.append(http)
        return http

    def register(self, name: str = "user", **more: Any) -> Person:
        """Somebody new, signed in; the name gets an ending that nobody else has."""
        name = f"{name}-{uuid.uuid4().hex[:8]}"
        body = {"username": name, "email": f"{name}@example.org", "password": PASSWORD, "full_name": "A B"}
        answer = self.client().post("/auth/register", json={**body, **more})
        assert answer.status_code == 201, answer.text
        return self.sign_in(name)

    def sign_in(self, name: str, **more: Any) -> Person:
        """Another session of somebody who is known."""
        body = {"login": name, "password": PASSWORD, **more}
        answer = self.client().post("/workbench/v1/sessions", json=body)
        assert answer.status_code == 201, answer.text
        signed_in = answer.json()
        return Person(name, self.client(Authorization=f"Bearer {signed_in['access_token']}"), signed_in)

    def invite(self, admin: Person, name: str, role: str = "member") -> Person:
        """Somebody new in the organisation of `admin`."""
        answer = admin.http.post("/workbench/v1/invitations", json={"role": role})
        assert answer.status_code == 201, answer.text
        return self.register(name, invitation_token=answer.json()["invitation_token"])

    def close(self) -> None:
        """Close every client."""
        for http in self._clients:
            http.close()
