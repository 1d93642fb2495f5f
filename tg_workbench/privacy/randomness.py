"""SecureRandom: numbers nobody can predict, from AES-256 in counter mode.

It is keyed by the operating system, never seeded, and its state is never saved: noise that can be drawn twice
can be subtracted. `ReplayableRandom` is for the one release that must come out the same after a crash.
"""

from __future__ import annotations

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from tg_workbench.errors import InvalidRequest

SEED_BYTES = 32


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


class ReplayableRandom(SecureRandom):
    """The same stream again for the same secret seed and the same context, and another for any other.

    For one release that a crash may interrupt before it is out. The context must name everything that the
    noise is added to: then the same noise can only ever meet the same sum, and nothing can be subtracted.
    The seed is a secret for as long as the release is; whoever keeps it keeps it sealed.
    """

    __slots__ = ("_seed",)

    def __init__(self, seed: bytes, context: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise InvalidRequest(f"a seed of noise has {SEED_BYTES} bytes")
        self._seed = (seed, context)
        super().__init__()

    @staticmethod
    def new_seed() -> bytes:
        """A seed from the operating system."""
        return os.urandom(SEED_BYTES)

    def _rekey(self) -> None:
        if hasattr(self, "_process"):  # a fork in the middle of the stream has no place to go on from
            raise RuntimeError("noise that can be replayed is drawn in the process that began it")
        self._process = os.getpid()
        seed, context = self._seed
        drawn = HKDF(algorithm=SHA256(), length=48, salt=None, info=b"tg-noise-1|" + context).derive(seed)
        self._stream: CipherContext = Cipher(AES(drawn[:32]), CTR(drawn[32:])).encryptor()
