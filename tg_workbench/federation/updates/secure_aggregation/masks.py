"""Masks: as many random 32-bit words as a vector has, from a secret of 256 bits by HKDF and AES-256-CTR.

A key is drawn by HKDF from the secret and what the mask is for, so it makes one mask and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    Words: TypeAlias = NDArray[np.uint32]

KEY_BYTES, BLOCK_BYTES = 32, 16
PIECE_WORDS = 1 << 16
"""So much is made and added at a time: it stays in the processor's cache."""


def derived(secret: bytes, info: bytes) -> bytes:
    """A key of 32 bytes for one purpose."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


@dataclass(frozen=True, slots=True)
class Mask:
    """The words that a secret gives for one purpose."""

    secret: bytes = field(repr=False)
    info: bytes

    def add_to(self, vector: Words) -> None:
        """Add the mask to a vector, modulo 2^32, where it lies."""
        import numpy as np

        self._apply(np.add, vector)

    def take_from(self, vector: Words) -> None:
        """Take the mask from a vector, modulo 2^32, where it lies."""
        import numpy as np

        self._apply(np.subtract, vector)

    def _apply(self, operation: Callable[..., Any], vector: Words) -> None:
        import numpy as np

        stream = Cipher(AES256(derived(self.secret, self.info)), CTR(bytes(BLOCK_BYTES))).encryptor()
        zeros, made = bytes(4 * PIECE_WORDS), bytearray(4 * PIECE_WORDS + BLOCK_BYTES)
        words = np.frombuffer(made, dtype="<u4")
        for start in range(0, len(vector), PIECE_WORDS):
            piece = vector[start : start + PIECE_WORDS]
            stream.update_into(memoryview(zeros)[: 4 * len(piece)], made)
            operation(piece, words[: len(piece)], out=piece)
