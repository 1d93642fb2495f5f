"""Sealed bytes: AES-256-GCM with the context authenticated, whole or in segments.

Whoever opens them gets exactly what was sealed under the same context, or SealBroken. What is large is sealed
in segments, each under its own tag, so that it is read a segment at a time and every byte that comes out has
been checked. The construction is STREAM (Hoang, Reyhanitabar, Rogaway and Vizár 2015), as `age` has it: a key
for each file, drawn by HKDF from a fresh salt and the context; nonces that count segments and name the last.
So a segment that is missing, repeated, out of order or cut off is noticed.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from itertools import count
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tg_workbench.errors import SealBroken

KEY_BYTES = 32
NONCE_BYTES = 12
"""96 bits, the size NIST SP 800-38D recommends; drawn anew for every seal."""
TAG_BYTES = 16
SALT_BYTES = 32
SEGMENT_BYTES = 1 << 18
IN_SEGMENTS = b"TG-SEALED-STREAM"
"""What segmented bytes start with. Others start with a random nonce, which is never this one (2^-128)."""


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
    return _opened(AESGCM(key), sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated_data)


def seal_pieces(key: bytes, pieces: Iterable[bytes], context: bytes) -> Iterator[bytes]:
    """Encrypt what `pieces` are when they are joined, a segment at a time."""
    salt = secrets.token_bytes(SALT_BYTES)
    cipher = _cipher_of(key, salt, context)
    yield IN_SEGMENTS + salt
    segments = _segments(pieces)
    segment = next(segments)
    for number in count():
        following = next(segments, None)
        yield cipher.encrypt(_nonce(number, last=following is None), segment, None)
        if following is None:
            return
        segment = following


def open_pieces(key: bytes, file: BinaryIO, context: bytes) -> Iterator[bytes]:
    """The plaintext in `file`, a segment at a time, or in one piece where it was sealed whole.

    Raises SealBroken, perhaps after some pieces: what came before was right, and is not all.
    """
    head = file.read(len(IN_SEGMENTS) + SALT_BYTES)
    if not head.startswith(IN_SEGMENTS):
        yield open_sealed(key, head + file.read(), context)
        return
    cipher = _cipher_of(key, head[len(IN_SEGMENTS) :], context)
    segment = file.read(SEGMENT_BYTES + TAG_BYTES)
    for number in count():
        following = file.read(SEGMENT_BYTES + TAG_BYTES)
        yield _opened(cipher, _nonce(number, last=not following), segment, None)
        if not following:
            return
        segment = following


def _segments(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in segments of one size; the last may be shorter, and is there even if it is empty."""
    held = bytearray()
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), SEGMENT_BYTES):
            held += view[start : start + SEGMENT_BYTES]
            if len(held) > SEGMENT_BYTES:
                yield bytes(held[:SEGMENT_BYTES])
                del held[:SEGMENT_BYTES]
    yield bytes(held)


def _cipher_of(key: bytes, salt: bytes, context: bytes) -> AESGCM:
    """The cipher of one file: its key is used for nothing else, so its nonces may count."""
    drawn = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=IN_SEGMENTS + b"|" + context)
    return AESGCM(drawn.derive(key))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(NONCE_BYTES - 1, "big") + (b"\1" if last else b"\0")


def _opened(cipher: AESGCM, nonce: bytes, sealed: bytes, associated_data: bytes | None) -> bytes:
    try:
        return cipher.decrypt(nonce, sealed, associated_data)
    except InvalidTag as failure:
        raise SealBroken from failure
