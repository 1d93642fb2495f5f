"""A device in wrong hands: it builds what it sends piece by piece, and sends whatever it likes."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from tests.contracts.machines import Keys, Machine
from tests.federation.conftest import Fleet
from tg_workbench.crypto.envelopes import seal
from tg_workbench.crypto.hpke import SealingKey
from tg_workbench.crypto.manifests import Claim
from tg_workbench.crypto.signatures import SigningKey
from tg_workbench.device.folder import Identity
from tg_workbench.federation.updates import Compression, Layout, compressed
from tg_workbench.sdk.device import Device

OCTETS = "application/octet-stream"


@dataclass
class Attacker:
    """A device that has joined a round that trains, and its keys."""

    fleet: Fleet
    device: Device
    round_id: str

    @property
    def identity(self) -> Identity:
        """Everything that it knows of itself."""
        return self.device._identity

    @property
    def assignment(self) -> dict[str, Any]:
        """What it is told to do."""
        return dict(self.device.join(self.round_id)["assignment"])

    @property
    def layout(self) -> Layout:
        """Of the round's model."""
        return Layout.from_json(self.assignment["model"]["layout"])

    def token(self) -> str:
        """Its bearer token."""
        credential = self.device._connection.credential
        assert credential is not None
        return credential.token()

    def as_machine(self) -> Machine:
        """The same device, as one that speaks by hand; it has signed in."""
        keys = Keys(self.identity.opening_key, self.identity.signing_key)
        machine = Machine(self.fleet.http, keys, {"device_id": self.device.id})
        machine.sign_in()
        return machine

    def vector(self, seed: int = 1, scale: float = 0.01) -> NDArray[np.float32]:
        """Numbers of the right kind and count."""
        generator = np.random.default_rng(seed)
        return (scale * generator.normal(size=self.layout.size)).astype(np.float32)

    def payload(self, vector: NDArray[np.float32] | None = None, kind: str = "none") -> bytes:
        """An update, as devices write it."""
        asked = Compression(kind)  # type: ignore[arg-type]
        return compressed(self.vector() if vector is None else vector, self.layout, asked).payload

    def envelope(
        self,
        payload: bytes | None = None,
        *,
        signing_key: SigningKey | None = None,
        sealing_key: SealingKey | None = None,
        **changes: Any,
    ) -> bytes:
        """A sealed update; `changes` are what its manifest lies about."""
        assignment, identity = self.assignment, self.identity
        honest: dict[str, Any] = {
            "organization_id": identity.organization_id,
            "device_id": identity.device_id,
            "round_id": self.round_id,
            "model_version": f"v{assignment['model']['version']}",
            "key_version": identity.key_version,
            "sample_count": 40,
        }
        seal_to = sealing_key or SealingKey.from_bytes(base64.b64decode(assignment["seal_to"]))
        content = self.payload() if payload is None else payload
        claim = Claim(**{**honest, **changes})
        return b"".join(seal(claim, content, signing_key or identity.signing_key, seal_to))

    def submit(
        self,
        body: bytes | Iterator[bytes],
        *,
        kind: str = OCTETS,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """What the server says to it."""
        told = {"Authorization": f"Bearer {token or self.token()}", "Content-Type": kind, **(headers or {})}
        path = f"/api/v1/fl/rounds/{self.round_id}/submit"
        return self.fleet.http.post(path, content=body, headers=told)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """The number and the code of a refusal, which repeats nothing of what was sent."""
    return answer.status_code, str(answer.json().get("error", {}).get("code"))


def asked(home: Path, question: str, *values: Any) -> list[tuple[Any, ...]]:
    """What the database of a workbench says."""
    with closing(sqlite3.connect(home / "tgsp.db", timeout=30)) as database:
        found = database.execute(question, values).fetchall()
        database.commit()
    return found


def refusals(fleet: Fleet, device_id: str) -> list[str]:
    """Why updates of a device were refused, as those hear it who watch over the organisation."""
    question = (
        "SELECT json_extract(data, '$.reason') FROM events WHERE type = 'update_refused' "
        "AND json_extract(data, '$.device_id') = ? ORDER BY id"
    )
    return [str(row[0]) for row in asked(fleet.server.home, question, device_id)]


def left(fleet: Fleet, before: set[str]) -> set[str]:
    """What lies in the store and did not before, but for checkpoints: others save theirs when they like."""
    found = blobs(fleet) - before
    return found - {row[0] for row in asked(fleet.server.home, "SELECT blob FROM artifacts")}


def blobs(fleet: Fleet) -> set[str]:
    """The files that lie in the store, also those that are only half there."""
    return {path.name for path in (fleet.server.home / "blobs").rglob("*") if path.is_file()}
