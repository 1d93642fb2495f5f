"""A device's folder: who it is, its private keys, and what it must remember between two rounds.

Files appear whole or not at all, and only their owner may read them.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from tg_workbench.crypto.hpke import OpeningKey
from tg_workbench.crypto.manifests import text_of
from tg_workbench.crypto.signatures import SigningKey, VerifyingKey
from tg_workbench.errors import DeviceFolderUnusable, QuantumKeyInvalid

FILE, TRIAL, NEW = "device.json", ".trial", ".new-"
MOST_BYTES = 1 << 16
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,150}")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a device is, to whom it belongs, and how it shows it."""

    base_url: str
    socket: str | None
    device_id: str
    organization_id: str
    key_version: str
    certificate: str = field(repr=False)
    opening_key: OpeningKey = field(repr=False)
    signing_key: SigningKey = field(repr=False)
    server_key: VerifyingKey = field(repr=False)
    """What the server signs assignments and receipts with."""
    server_key_version: str = "v1.0"


class DeviceFolder:
    """The folder of one device."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser()

    @property
    def is_taken(self) -> bool:
        """Whether a device lives here."""
        return (self.path / FILE).exists()

    def make(self) -> None:
        """Make the folder, and see that a file can be kept there. Raises DeviceFolderUnusable."""
        self.put(TRIAL, b"")
        (self.path / TRIAL).unlink(missing_ok=True)

    def write(self, identity: Identity) -> None:
        """Remember who this device is. Raises DeviceFolderUnusable."""
        told = {
            "base_url": identity.base_url,
            "socket": identity.socket,
            "device_id": identity.device_id,
            "organization_id": identity.organization_id,
            "key_version": identity.key_version,
            "certificate": identity.certificate,
            "opening_key": text_of(identity.opening_key.seed),
            "signing_key": text_of(identity.signing_key.seed),
            "server_key": text_of(identity.server_key.raw),
            "server_key_version": identity.server_key_version,
        }
        self.put(FILE, json.dumps(told, indent=1).encode())

    def read(self) -> Identity:
        """Who this device is. Raises DeviceFolderUnusable."""
        try:
            with (self.path / FILE).open("rb") as file:
                told = json.loads(file.read(MOST_BYTES))
            return Identity(
                base_url=str(told["base_url"]),
                socket=told["socket"],
                device_id=str(told["device_id"]),
                organization_id=str(told["organization_id"]),
                key_version=str(told["key_version"]),
                certificate=str(told["certificate"]),
                opening_key=OpeningKey.from_seed(base64.b64decode(told["opening_key"])),
                signing_key=SigningKey.from_seed(base64.b64decode(told["signing_key"])),
                server_key=VerifyingKey.from_bytes(base64.b64decode(told["server_key"])),
                server_key_version=str(told["server_key_version"]),
            )
        except FileNotFoundError:
            raise DeviceFolderUnusable(str(self.path), "no device was enrolled there") from None
        except (OSError, ValueError, KeyError, TypeError, QuantumKeyInvalid):
            raise DeviceFolderUnusable(str(self.path), f"its {FILE} cannot be read") from None

    def remembered(self, kind: str, campaign_id: str, size: int) -> NDArray[np.float32]:
        """What was remembered of a campaign under `kind`, as one vector; zeros without one that fits."""
        zeros = np.zeros(size, np.float32)
        try:
            found = safetensors.numpy.load((self.path / file_name(kind, campaign_id)).read_bytes())["vector"]
        except (OSError, KeyError, safetensors.SafetensorError):
            return zeros
        return found if found.shape == (size,) and found.dtype == np.float32 else zeros

    def remember(self, kind: str, campaign_id: str, vector: NDArray[np.float32]) -> None:
        """Remember a vector for the next round. Raises DeviceFolderUnusable."""
        self.put(
            file_name(kind, campaign_id), safetensors.numpy.save({"vector": np.ascontiguousarray(vector)})
        )

    def put(self, name: str, content: bytes) -> None:
        """Write a file of this name. Raises DeviceFolderUnusable."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            file, new = self._new()
            with file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                new.replace(self.path / name)
        except OSError as failure:
            raise DeviceFolderUnusable(str(self.path), failure.strerror or "it cannot be written") from None

    def tidy(self) -> None:
        """Remove what one that was killed has left half written; a file may hold private keys."""
        for path in self.path.glob(f"{NEW}*"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # who still writes holds it
                path.unlink()

    def _new(self) -> tuple[IO[bytes], Path]:
        """A new file, and a lock on it, which whoever tidies looks for."""
        while True:
            descriptor, name = tempfile.mkstemp(dir=self.path, prefix=NEW)  # mkstemp makes it 0600
            file = os.fdopen(descriptor, "wb")
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:  # else it was tidied away before it was locked
                return file, Path(name)
            file.close()


def file_name(kind: str, id_: str, ending: str = "safetensors") -> str:
    """A name in the folder, and never a path: the campaign's or round's id came over the wire."""
    if not _NAME.fullmatch(id_):
        raise DeviceFolderUnusable("", "the server named a campaign or a round as none is named")
    return f"{kind}-{id_}.{ending}"
