"""Machines that are enrolled as devices, with keys of their own, as they speak to a running workbench."""

from __future__ import annotations

import base64
import secrets
import time
from dataclasses import dataclass
from typing import Any

import httpx
from cryptography import x509

from tests.contracts.envelopes import refusal
from tests.contracts.people import Person
from tg_workbench.crypto.assertions import CONTEXT, assertion
from tg_workbench.crypto.certificates import request_for
from tg_workbench.crypto.hpke import OpeningKey
from tg_workbench.crypto.signatures import SigningKey

REGISTER, TOKENS = "/api/v1/devices/register", "/workbench/v1/enrollment-tokens"
INFO = {
    "name": "Edge Device 002",
    "type": "raspberry_pi",
    "capabilities": {"cpu_cores": 4, "memory_gb": 4, "storage_gb": 64},
}


def base64_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@dataclass(frozen=True)
class Keys:
    """The private keys of a machine."""

    opening: OpeningKey
    signing: SigningKey

    @classmethod
    def new(cls) -> Keys:
        return cls(OpeningKey.generate(), SigningKey.generate())

    def as_body(self) -> dict[str, Any]:
        """What is sent of them."""
        public = {
            "encryption": base64_of(self.opening.public.raw),
            "signing": base64_of(self.signing.public.raw),
        }
        return {"public_keys": public, "csr": request_for(self.signing).decode()}


def code_of(answer: httpx.Response, contract: str = "qflare") -> tuple[int, str]:
    """The status and the code of a refusal."""
    found = refusal(answer, contract)
    return found.status, found.code


def token_of(person: Person, **more: Any) -> str:
    """An enrolment token for a device of somebody's organisation."""
    answer = person.http.post(TOKENS, json=more)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["enrollment_token"])


def registration(person: Person, token: str | None = None, **more: Any) -> dict[str, Any]:
    """The document's body."""
    return {
        "enrollment_token": token or token_of(person),
        "device_info": INFO,
        "organization_id": person.organization_id,
        **more,
    }


def register(person: Person, **more: Any) -> httpx.Response:
    """What a registration into somebody's organisation is answered with."""
    return person.http.post(REGISTER, json=registration(person, **more))


@dataclass
class Machine:
    """One that was enrolled. It has its person's connection, and sends its own credential."""

    http: httpx.Client
    keys: Keys
    registered: dict[str, Any]
    token: str = ""

    @classmethod
    def enroll(cls, person: Person, **more: Any) -> Machine:
        """A new one, of somebody's organisation, that has signed in."""
        keys = Keys.new()
        answer = person.http.post(REGISTER, json={**registration(person), **keys.as_body(), **more})
        assert answer.status_code == 201, answer.text
        machine = cls(person.http, keys, answer.json())
        machine.sign_in()
        return machine

    @property
    def id(self) -> str:
        return str(self.registered["device_id"])

    @property
    def path(self) -> str:
        return f"/workbench/v1/devices/{self.id}"

    def assertion(self, *, skew: float = 0, keys: Keys | None = None, **more: Any) -> dict[str, Any]:
        """What it signs to sign in."""
        timestamp, nonce = int(time.time() + skew), secrets.token_urlsafe(16)
        signature = (keys or self.keys).signing.sign(assertion(self.id, timestamp, nonce), CONTEXT)
        signed = {"timestamp": timestamp, "nonce": nonce, "signature": base64_of(signature)}
        return {"device_id": self.id, **signed, **more}

    def show(self, assertion: dict[str, Any]) -> httpx.Response:
        """Try to sign in."""
        return self.http.post("/workbench/v1/devices/token", json=assertion)

    def sign_in(self, keys: Keys | None = None) -> str:
        """Sign in; the token is its own from now on."""
        answer = self.show(self.assertion(keys=keys))
        assert answer.status_code == 200, answer.text
        self.token = str(answer.json()["access_token"])
        return self.token

    def post(self, what: str, body: Any = None, token: str | None = None) -> httpx.Response:
        """Do something as this device."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return self.http.post(f"{self.path}/{what}", json=body, headers=headers)

    def beat(self, token: str | None = None, **body: Any) -> httpx.Response:
        """Give a sign of life."""
        return self.post("heartbeat", body, token)

    def shown_to(self, person: Person) -> dict[str, Any]:
        """The device as somebody sees it."""
        answer = person.http.get(f"/api/v1/devices/{self.id}")
        assert answer.status_code == 200, answer.text
        seen: dict[str, Any] = answer.json()
        return seen


def serial_of(machine: Machine) -> int:
    """That of its first certificate."""
    return x509.load_pem_x509_certificate(machine.registered["certificate"].encode()).serial_number


def revoked(http: httpx.Client) -> set[int]:
    """The serial numbers on the list that everybody can get; its signature is looked at."""
    issuing, _ = x509.load_pem_x509_certificates(http.get("/workbench/v1/federation/ca").content)
    answer = http.get("/workbench/v1/federation/crl")
    assert "max-age" in answer.headers["cache-control"]
    found = x509.load_pem_x509_crl(answer.content)
    assert found.is_signature_valid(issuing.public_key())  # type: ignore[arg-type]
    return {entry.serial_number for entry in found}
