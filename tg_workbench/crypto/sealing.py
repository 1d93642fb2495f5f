"""Sealed bytes: AES-256-GCM with a fresh 96-bit nonce in front and the context authenticated.

Whoever opens them gets exactly what was sealed under the same context, or SealBroken.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tg_workbench.errors import SealBroken

KEY_BYTES = 32
NONCE_BYTES = 12
"""96 bits, the size NIST SP 800-38D recommends; drawn anew for every seal."""
TAG_BYTES = 16


def new_key() -> bytes:
    """A key for AES-256 from the system's generator."""
    return secrets.token_bytes(KEY_BYTES)


def seal(key: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
    """Encrypt `plaintext` and bind it to `associated_data`: nonce, ciphertext, tag."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, associated_data)


def open_sealed(key: bytes, sealed: bytes, associated_data: bytes) -> bytes:
    """The plaintext. Raises SealBroken when a bit differs, or the key or the context is another."""
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise SealBroken
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated_data)
    except InvalidTag as failure:
        raise SealBroken from failure
