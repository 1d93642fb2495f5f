"""Envelopes: updates of devices, signed by the device and sealed to the round, streamed in constant memory.

`TGUPDATE`, the length of the manifest (32 bits), the manifest, its signature by ML-DSA-65, then the payload
in chunks of 1 MiB under AES-256-GCM. The construction of the chunks is STREAM (Hoang, Reyhanitabar, Rogaway
and Vizár 2015): nonces count them and name the last, and every chunk is bound to the manifest. The payload's
key is drawn for this envelope and sealed with HPKE to the round's key, for one round and one device.

Pitfalls: a payload is whole only when the last piece has come without an error; until then keep it apart. The
manifest says for whom it is: ask it (`must_be_for`), and whether its nonce was seen before.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tg_workbench.crypto.hpke import OpeningKey, SealingKey
from tg_workbench.crypto.manifests import MOST_BYTES, Claim, Manifest, content_of, members_of, text_of
from tg_workbench.crypto.sealing import KEY_BYTES, NONCE_BYTES, TAG_BYTES
from tg_workbench.crypto.signatures import SIGNATURE_BYTES, SigningKey, VerifyingKey
from tg_workbench.errors import EnvelopeBroken, SealBroken

MAGIC = b"TGUPDATE"
CONTEXT = b"tg-fl-update-v1"
LENGTH_BYTES = 4
MOST_HEAD_BYTES = len(MAGIC) + LENGTH_BYTES + MOST_BYTES + SIGNATURE_BYTES
CHUNK_BYTES = 1 << 20
MOST_JSON_BYTES = 5 << 20
"""What a payload may have as JSON, which nothing can read a piece at a time."""
TOO_LARGE = "it is too large for JSON: send it as application/octet-stream"
NO_ENVELOPE = "it does not begin as an envelope does, or ends before its payload"
TAMPERED = "it was changed, or cut off, or sealed for another key, round or device"
"""The one reason for all that is sealed: which check failed is nobody's business."""


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of an envelope, which anybody may have written."""

    manifest: Manifest
    signature: bytes
    raw: bytes
    """The manifest's bytes as they came: they are what was signed."""

    @property
    def total_bytes(self) -> int:
        """How long the whole envelope is, by its own word."""
        payload, last = self.manifest.payload_bytes, (self.manifest.payload_bytes - 1) // CHUNK_BYTES
        return MOST_HEAD_BYTES - MOST_BYTES + len(self.raw) + payload + TAG_BYTES * (last + 1)

    def verify(self, key: VerifyingKey) -> VerifiedHead:
        """The same, as the device's own word. Raises EnvelopeBroken when that device did not sign it."""
        if not key.verifies(self.signature, self.raw, CONTEXT):
            raise EnvelopeBroken("its device did not sign it")
        return VerifiedHead(self.manifest, self.signature, self.raw)


@dataclass(frozen=True, slots=True)
class VerifiedHead(Head):
    """A head whose signature was checked; only what comes after such a one is opened."""


def seal(
    claim: Claim, payload: bytes | BinaryIO, signing_key: SigningKey, sealing_key: SealingKey
) -> Iterator[bytes]:
    """The envelope, piece by piece; a file is read twice, from where it stands. Raises EnvelopeBroken."""
    file = None if isinstance(payload, bytes) else payload
    start = 0 if file is None else file.tell()
    digest, length = _digest(_pieces(payload))
    key = secrets.token_bytes(KEY_BYTES)
    wrapped = sealing_key.seal(key, claim.info)
    manifest = Manifest.of(claim, payload_sha256=digest, payload_bytes=length, wrapped_key=text_of(wrapped))
    raw = manifest.canonical
    yield MAGIC + len(raw).to_bytes(LENGTH_BYTES, "big") + raw + signing_key.sign(raw, CONTEXT)
    if file is not None:
        file.seek(start)
    cipher, bound_to, pieces = AESGCM(key), hashlib.sha256(raw).digest(), _pieces(payload)
    for nonce, size in _chunks(length):
        piece = next(pieces, b"")
        if len(piece) != size:
            raise EnvelopeBroken("its file was changed meanwhile")
        yield cipher.encrypt(nonce, piece, bound_to)


def read_head(stream: BinaryIO) -> Head:
    """The head of an envelope, and not a byte more of the stream. Raises EnvelopeBroken."""
    start = _exactly(stream, len(MAGIC) + LENGTH_BYTES, NO_ENVELOPE)
    length = int.from_bytes(start[len(MAGIC) :], "big")
    if not start.startswith(MAGIC):
        raise EnvelopeBroken(NO_ENVELOPE)
    if length > MOST_BYTES:
        raise EnvelopeBroken("its manifest is too long")
    raw = _exactly(stream, length, NO_ENVELOPE)
    return Head(Manifest.parse(raw), _exactly(stream, SIGNATURE_BYTES, NO_ENVELOPE), raw)


def open_payload(head: VerifiedHead, stream: BinaryIO, opening_key: OpeningKey) -> Iterator[bytes]:
    """The payload that follows a verified head, a checked chunk at a time. Raises EnvelopeBroken.

    It may do so after some chunks, or after the last: they were the device's, and not all it had signed.
    """
    if not isinstance(head, VerifiedHead):
        raise TypeError("verify the head before you open what follows it")
    try:
        yield from _opened(head, stream, opening_key)
    except (SealBroken, InvalidTag) as failure:
        raise EnvelopeBroken(TAMPERED) from failure


def to_json(envelope: bytes) -> bytes:
    """A small envelope as JSON: its three parts in base64, which take a third more. Raises EnvelopeBroken."""
    stream = BytesIO(envelope)
    head = read_head(stream)
    payload = stream.read()
    if len(payload) > MOST_JSON_BYTES:
        raise EnvelopeBroken(TOO_LARGE)
    parts = {"manifest": head.raw, "signature": head.signature, "payload": payload}
    return json.dumps({name: text_of(part) for name, part in parts.items()}).encode("ascii")


def from_json(text: bytes) -> bytes:
    """The envelope itself, of which nothing is checked yet. Raises EnvelopeBroken."""
    if len(text) > 2 * MOST_JSON_BYTES:
        raise EnvelopeBroken(TOO_LARGE)
    bounds = {"manifest": MOST_BYTES, "signature": SIGNATURE_BYTES, "payload": MOST_JSON_BYTES}
    members = members_of(text, set(bounds), deepest=1)
    parts = {name: content_of(members[name], bound) for name, bound in bounds.items()}
    manifest, signature, payload = parts.values()
    if manifest is None or signature is None or payload is None or len(signature) != SIGNATURE_BYTES:
        raise EnvelopeBroken("a part of it is too long, or not base64")
    return MAGIC + len(manifest).to_bytes(LENGTH_BYTES, "big") + manifest + signature + payload


def _opened(head: VerifiedHead, stream: BinaryIO, opening_key: OpeningKey) -> Iterator[bytes]:
    manifest = head.manifest
    cipher = AESGCM(opening_key.open(manifest.wrapped, manifest.info))
    digest, bound_to = hashlib.sha256(), hashlib.sha256(head.raw).digest()
    for nonce, size in _chunks(manifest.payload_bytes):
        chunk = cipher.decrypt(nonce, _exactly(stream, size + TAG_BYTES, TAMPERED), bound_to)
        digest.update(chunk)
        yield chunk
    if stream.read(1) or not hmac.compare_digest(digest.hexdigest(), manifest.payload_sha256):
        raise EnvelopeBroken(TAMPERED)


def _chunks(length: int) -> Iterator[tuple[bytes, int]]:
    """The nonce and the size of every chunk of a payload, which has at least one."""
    last = (length - 1) // CHUNK_BYTES
    for number in range(last + 1):
        flag = b"\1" if number == last else b"\0"
        size = length - number * CHUNK_BYTES if number == last else CHUNK_BYTES
        yield number.to_bytes(NONCE_BYTES - 1, "big") + flag, size


def _pieces(payload: bytes | BinaryIO) -> Iterator[bytes | memoryview]:
    """A payload in pieces of a chunk's size, the last perhaps shorter; of bytes, nothing is copied."""
    if isinstance(payload, bytes):
        view = memoryview(payload)
        yield from (view[start : start + CHUNK_BYTES] for start in range(0, len(view), CHUNK_BYTES))
        return
    while piece := _at_most(payload, CHUNK_BYTES):
        yield piece


def _digest(pieces: Iterable[bytes | memoryview]) -> tuple[str, int]:
    """The SHA-256 of a payload, and how long it is."""
    digest, length = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        length += len(piece)
    return digest.hexdigest(), length


def _exactly(stream: BinaryIO, size: int, otherwise: str) -> bytes:
    """So many bytes. Raises EnvelopeBroken with the reason when they end before."""
    piece = _at_most(stream, size)
    if len(piece) != size:
        raise EnvelopeBroken(otherwise)
    return piece


def _at_most(stream: BinaryIO, size: int) -> bytes:
    """So many bytes, however few a read gives, or fewer at the end."""
    piece = stream.read(size)
    if len(piece) in (0, size):
        return piece
    held = bytearray(piece)
    while piece and len(held) < size:
        piece = stream.read(size - len(held))
        held += piece
    return bytes(held)
