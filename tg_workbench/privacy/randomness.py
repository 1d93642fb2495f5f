"""SecureRandom: numbers nobody can predict, from AES-256 in counter mode.

It is keyed by the operating system, never seeded, and its state is never saved: noise that can be drawn twice
can be subtracted.
"""

from __future__ import annotations

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray


class SecureRandom:
    """An unpredictable stream of bytes and uniforms. A forked process draws from a new key of its own."""

    __slots__ = ("_process", "_stream")

    def __init__(self) -> None:
        self._rekey()

    def bytes(self, count: int) -> bytearray:
        """`count` fresh random bytes."""
        if self._process != os.getpid():  # after a fork both processes would draw the same noise
            self._rekey()
        drawn = bytearray(count)
        self._stream.update_into(drawn, drawn)
        return drawn

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """`count` uniforms of 53 bits in [0, 1)."""
        bits = np.frombuffer(self.bytes(8 * count), dtype=np.uint64)
        np.right_shift(bits, np.uint64(11), out=bits)
        drawn = bits.view(np.float64)  # all in one place, which the processor's cache keeps
        np.copyto(drawn, bits.view(np.int64))  # signed converts faster
        drawn *= 2.0**-53
        return drawn

    def _rekey(self) -> None:
        self._process = os.getpid()
        self._stream: CipherContext = Cipher(AES(os.urandom(32)), CTR(os.urandom(16))).encryptor()

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a SecureRandom cannot be copied or saved: its numbers must never come twice")
