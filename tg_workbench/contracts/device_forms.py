"""What a device says of itself and is told, in both contracts that devices speak."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends
from pydantic import Field
from starlette.requests import Request

from tg_workbench.contracts.accounts import utc
from tg_workbench.contracts.oauth.consent import issuer_of
from tg_workbench.contracts.premises import premises_of
from tg_workbench.contracts.tg_tinker.schemas import Form
from tg_workbench.crypto.manifests import text_of
from tg_workbench.federation.devices import Device, DeviceKey, Enrolled, Offer, ServerKey

Amount = Annotated[int | float, Field(ge=0, le=1e9)]
Key64 = Annotated[str, Field(min_length=1, max_length=4096)]
Csr = Annotated[str, Field(min_length=1, max_length=16_384)]
TRAINING = {"batch_size": 32, "learning_rate": 0.001}
"""What a device trains with unless somebody changes it."""


class Capabilities(Form):
    """What a machine has; what it does not say counts as nothing."""

    cpu_cores: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    memory_gb: Amount = 0
    storage_gb: Amount = 0
    gpu: bool = False


class PublicKeys(Form):
    """A device's own public keys in base64: X-Wing's 1,216 bytes, and ML-DSA-65's 1,952."""

    encryption: Key64
    signing: Key64 | None = None


class KeysOffered(Form):
    """Keys that a device brings, and a request for a certificate (PKCS #10, PEM) as a proof of the second."""

    public_keys: PublicKeys | None = None
    csr: Csr | None = None

    def as_offer(self) -> Offer:
        """The room's value."""
        if self.public_keys is None:
            return Offer(csr=self.csr)
        return Offer(self.public_keys.encryption, self.public_keys.signing, self.csr)


def server_keys_shown(key: ServerKey) -> dict[str, str]:
    """The server's own public keys."""
    return {
        "key_version": key.version,
        "encryption_key": text_of(key.encryption_key),
        "signing_key": text_of(key.signing_key),
    }


def quantum_keys_shown(enrolled: Enrolled, server: ServerKey) -> dict[str, str]:
    """What the document calls a device's quantum keys.

    A device that brought its own gets the server's public keys, to seal to and to verify receipts with; one
    that brought none gets the seeds of its own private keys, here and never again.
    """
    seeds = enrolled.pairs.seeds or (server.encryption_key, server.signing_key)
    return {"encryption_key": text_of(seeds[0]), "signing_key": text_of(seeds[1])}


def certified(key: DeviceKey, chain_pem: str) -> dict[str, str]:
    """A device's newest certificate, the chain above it, and until when its keys are good."""
    return {
        "certificate": key.certificate,
        "certificate_chain": chain_pem,
        "certificate_expiry": utc(key.certificate_expires_at),
        "key_version": key.version,
        "key_origin": key.origin,
        "keys_expire_at": utc(key.expires_at),
    }


async def _endpoint(request: Request) -> str:
    return issuer_of(request, premises_of(request))


ServerEndpoint = Annotated[str, Depends(_endpoint)]
"""Where devices reach this workbench."""


def config_of(device: Device, endpoint: str) -> dict[str, Any]:
    """How a device is to behave."""
    return {
        "server_endpoint": endpoint,
        "update_interval": int(device.update_interval),
        "training_config": {**TRAINING, **device.config},
    }
