"""Signatures: ML-DSA-65 (FIPS 204), made by `cryptography` and by nothing else.

Where it cannot make them, nothing is signed and nothing is taken as signed: there is no second-best. A key of
the workbench lies in one PEM file that only its owner may read, made at first use, whole or not at all; a
device keeps its own as a seed of 32 bytes.

Pitfalls: whoever has the file can sign in the workbench's name; a public key proves something only to those
who got it before they had a reason to doubt.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from tg_workbench.errors import QuantumKeyInvalid, SignaturesUnavailable, SigningKeyUnreadable

try:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
except ImportError as failure:  # an older cryptography
    raise SignaturesUnavailable from failure

ALGORITHM = "ML-DSA-65"
FILE = "audit-signing-key.pem"
MOST_KEY_BYTES = 16_384
SEED_BYTES, RAW_BYTES, SIGNATURE_BYTES = 32, 1952, 3309


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """The public half: who has it can tell what the private half has signed."""

    key: MLDSA65PublicKey

    @classmethod
    def of(cls, key: object) -> VerifyingKey:
        """The key that a library's object holds, as a certificate has one. Raises QuantumKeyInvalid."""
        if not isinstance(key, MLDSA65PublicKey):
            raise QuantumKeyInvalid(f"it is not one of {ALGORITHM}")
        return cls(key)

    @classmethod
    def from_bytes(cls, raw: bytes) -> VerifyingKey:
        """The key whose 1,952 bytes these are. Raises QuantumKeyInvalid."""
        try:
            return cls(MLDSA65PublicKey.from_public_bytes(raw))
        except (ValueError, UnsupportedAlgorithm) as failure:
            raise QuantumKeyInvalid(f"a public key of {ALGORITHM} has {RAW_BYTES:,} bytes") from failure

    @classmethod
    def of_pem(cls, pem: bytes, name: str) -> VerifyingKey:
        """The key in a PEM file's bytes; `name` is that file's. Raises SigningKeyUnreadable."""
        try:
            return cls.of(load_pem_public_key(pem))
        except (ValueError, UnsupportedAlgorithm, QuantumKeyInvalid) as failure:
            raise SigningKeyUnreadable(name) from failure

    @classmethod
    def read(cls, path: Path) -> VerifyingKey:
        """The key in a file. Raises SigningKeyUnreadable."""
        return cls.of_pem(_read(path), path.name)

    @property
    def raw(self) -> bytes:
        """The key's own 1,952 bytes (FIPS 204)."""
        return self.key.public_bytes_raw()

    @property
    def pem(self) -> bytes:
        """The key as a SubjectPublicKeyInfo (RFC 9881), to be given away."""
        return self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def key_id(self) -> str:
        """What signatures name it by: the start of the SHA-256 of its bytes."""
        return f"sig-{hashlib.sha256(self.raw).hexdigest()[:16]}"

    def verifies(self, signature: bytes, message: bytes, context: bytes) -> bool:
        """Whether the private half has signed `message` for `context`."""
        try:
            self.key.verify(signature, message, context)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private half."""

    key: MLDSA65PrivateKey

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key. Raises SignaturesUnavailable where ML-DSA is missing."""
        try:
            return cls(MLDSA65PrivateKey.generate())
        except UnsupportedAlgorithm as failure:
            raise SignaturesUnavailable from failure

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """The key that this seed gives (FIPS 204). Raises QuantumKeyInvalid."""
        try:
            return cls(MLDSA65PrivateKey.from_seed_bytes(seed))
        except (ValueError, UnsupportedAlgorithm) as failure:
            raise QuantumKeyInvalid(f"a seed of {ALGORITHM} has {SEED_BYTES} bytes") from failure

    @classmethod
    def open(cls, home: Path, file: str = FILE) -> SigningKey:
        """The key in `home/keys`, made now if there is none.

        Raises SigningKeyUnreadable, and SignaturesUnavailable where ML-DSA is missing.
        """
        path = home / "keys" / file
        if not path.exists():
            _make(path)
        path.chmod(0o600)
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> SigningKey:
        """The key in a file. Raises SigningKeyUnreadable."""
        try:
            key = load_pem_private_key(_read(path), None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as failure:
            raise SigningKeyUnreadable(path.name) from failure
        if not isinstance(key, MLDSA65PrivateKey):
            raise SigningKeyUnreadable(path.name)
        return cls(key)

    @property
    def public(self) -> VerifyingKey:
        """The public half."""
        return VerifyingKey(self.key.public_key())

    @property
    def seed(self) -> bytes:
        """The 32 bytes that are the whole secret."""
        return self.key.private_bytes_raw()

    @property
    def pem(self) -> bytes:
        """The key as PKCS #8, not encrypted: it is for a file that only its owner may read."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, message: bytes, context: bytes) -> bytes:
        """The signature of `message` for `context`: 3,309 bytes."""
        return self.key.sign(message, context)

    def derived(self, purpose: bytes) -> bytes:
        """A secret of 32 bytes for one purpose, which tells nothing about the key or other purposes."""
        return hmac.digest(self.seed, purpose, "sha256")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MOST_KEY_BYTES)
    except OSError as failure:
        raise SigningKeyUnreadable(path.name) from failure


def _make(path: Path) -> None:
    """A complete file appears under its name; when two processes try at once, the first one's stays."""
    key = SigningKey.generate()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.parent.chmod(0o700)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.pem)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(name)
    finally:
        Path(name).unlink(missing_ok=True)
