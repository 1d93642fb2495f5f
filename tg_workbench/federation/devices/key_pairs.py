"""The keys of a device as they come in: its own, of which only the public halves are ever here, or made here.

A device proves that it holds its signing key by a request for a certificate. Where it brings nothing, the
server makes both pairs and hands the seeds over once: a weaker form, which is marked and may be forbidden.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from tg_workbench.crypto.hpke import OpeningKey, SealingKey
from tg_workbench.crypto.signatures import SigningKey, VerifyingKey
from tg_workbench.errors import DeviceKeysRequired, InvalidField, QuantumKeyInvalid
from tg_workbench.federation.devices.tables import DeviceKey

Origin = Literal["device", "server"]


@dataclass(frozen=True, slots=True)
class KeyPairs:
    """What others need of a device's keys; with the seeds, for the one answer that hands them over."""

    encryption: bytes
    signing: VerifyingKey
    origin: Origin
    seeds: tuple[bytes, bytes] | None = field(default=None, repr=False)
    """The seeds of the encryption and of the signing key, where they were made here."""

    @classmethod
    def made(cls) -> KeyPairs:
        """New ones."""
        opening, signing = OpeningKey.generate(), SigningKey.generate()
        return cls(opening.public.raw, signing.public, "server", (opening.seed, signing.seed))


@dataclass(frozen=True, slots=True)
class Offer:
    """What a device has sent of its keys: base64, and a request for a certificate in PEM."""

    encryption: str | None = None
    signing: str | None = None
    csr: str | None = None

    def pairs(self, *, must_bring: bool) -> KeyPairs:
        """The keys, checked; new ones for a device that brings none, unless it `must_bring` them.

        Raises QuantumKeyInvalid, CertificateInvalid, InvalidField, DeviceKeysRequired.
        """
        if self.encryption is None and self.signing is None and self.csr is None:
            if must_bring:
                raise DeviceKeysRequired
            return KeyPairs.made()
        if self.csr is None:
            raise InvalidField("csr", "it proves that you hold the signing key: send it with public_keys")
        if self.encryption is None:
            raise InvalidField("public_keys.encryption", "send it with the csr")
        from tg_workbench.crypto.certificates import requested_key  # here: most workbenches have no devices

        key = requested_key(self.csr.encode("utf-8", "replace"))
        if self.signing is not None and _decoded(self.signing) != key.raw:
            raise QuantumKeyInvalid("public_keys.signing is another key than that of the csr")
        return KeyPairs(SealingKey.from_bytes(_decoded(self.encryption)).raw, key, "device")


def origin_of(rows: Iterable[Any]) -> str | None:
    """Where the keys in these rows come from, as the audit log says it; None: there are none."""
    found = next((row for row in rows if isinstance(row, DeviceKey)), None)
    return None if found is None else f"key_origin:{found.origin}"


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as failure:
        raise QuantumKeyInvalid("write its bytes in base64") from failure
