"""Sealing for whoever holds a key: HPKE (RFC 9180) with ML-KEM-768 and X25519, by `cryptography` alone.

The seal holds while either of the two stands (they are joined as X-Wing says). A key is a seed of 32 bytes;
its public half has 1,216. The module seals and opens once when it is imported: where that fails there is no
second-best, and nothing starts.

Pitfalls: a seal does not say who made it, which is for signatures; it opens only with the `info` it was made
with.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHAKE256, Hash

from tg_workbench.errors import QuantumKeyInvalid, SealBroken, SealingUnavailable

try:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
    from cryptography.hazmat.primitives.hpke import (
        AEAD,
        KDF,
        KEM,
        MLKEM768X25519PrivateKey,
        MLKEM768X25519PublicKey,
        Suite,
    )

    _SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
except (ImportError, AttributeError) as failure:  # an older cryptography
    raise SealingUnavailable from failure

ALGORITHM = "MLKEM768-X25519"
SEED_BYTES, RAW_BYTES = 32, 1216
OVERHEAD_BYTES = 1120 + 16
"""How much longer what is sealed is: the encapsulated key and the tag."""
_MLKEM_SEED_BYTES, _MLKEM_RAW_BYTES, _X25519_BYTES = 64, 1184, 32


@dataclass(frozen=True, slots=True)
class SealingKey:
    """The public half: who has it can seal for whoever has the other."""

    raw: bytes
    """The public key of ML-KEM-768, then that of X25519."""
    key: MLKEM768X25519PublicKey = field(repr=False, compare=False)

    @classmethod
    def from_bytes(cls, raw: bytes) -> SealingKey:
        """The key whose bytes these are; one with which nothing can be sealed raises QuantumKeyInvalid."""
        try:
            mlkem = MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_RAW_BYTES])
            x25519 = X25519PublicKey.from_public_bytes(raw[_MLKEM_RAW_BYTES:])
            key = MLKEM768X25519PublicKey(mlkem, x25519)
            _SUITE.encrypt(b"", key, b"")  # X25519 refuses its weak points only when they are used
        except (ValueError, UnsupportedAlgorithm) as failure:
            raise QuantumKeyInvalid(f"a public key of {ALGORITHM} has {RAW_BYTES:,} bytes") from failure
        return cls(bytes(raw), key)

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        """The encapsulated key, then the ciphertext, which the other half opens with the same `info`."""
        return _SUITE.encrypt(plaintext, self.key, info)


@dataclass(frozen=True, slots=True)
class OpeningKey:
    """The private half: it opens what was sealed for it."""

    seed: bytes = field(repr=False)
    """The 32 bytes that are the whole secret."""
    key: MLKEM768X25519PrivateKey = field(repr=False, compare=False)
    public: SealingKey

    @classmethod
    def generate(cls) -> OpeningKey:
        """A new key, from the system's generator."""
        return cls.from_seed(secrets.token_bytes(SEED_BYTES))

    @classmethod
    def from_seed(cls, seed: bytes) -> OpeningKey:
        """The key that this seed gives, expanded as X-Wing says. Raises QuantumKeyInvalid."""
        if len(seed) != SEED_BYTES:
            raise QuantumKeyInvalid(f"a seed of {ALGORITHM} has {SEED_BYTES} bytes")
        expanding = Hash(SHAKE256(_MLKEM_SEED_BYTES + _X25519_BYTES))
        expanding.update(seed)
        expanded = expanding.finalize()
        mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_BYTES])
        x25519 = X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_BYTES:])
        key = MLKEM768X25519PrivateKey(mlkem, x25519)
        raw = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        return cls(bytes(seed), key, SealingKey(raw, key.public_key()))

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The plaintext. Raises SealBroken when a bit differs, or the key or the `info` is another."""
        try:
            return _SUITE.decrypt(sealed, self.key, info)
        except (InvalidTag, ValueError) as failure:
            raise SealBroken("what was sealed for this key") from failure


def _prove() -> None:
    """Seal and open once: a library may have the names and lack what they stand for."""
    try:
        key = OpeningKey.generate()
        if key.open(key.public.seal(b"proof", ALGORITHM.encode()), ALGORITHM.encode()) != b"proof":
            raise SealingUnavailable
    except (UnsupportedAlgorithm, SealBroken) as failure:
        raise SealingUnavailable from failure


_prove()
