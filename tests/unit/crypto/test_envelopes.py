"""An envelope opens to what its device sealed, in constant memory; anything else is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tg_workbench.crypto.envelopes import (
    CHUNK_BYTES,
    CONTEXT,
    MAGIC,
    MOST_JSON_BYTES,
    TAMPERED,
    Head,
    from_json,
    open_payload,
    read_head,
    seal,
    to_json,
)
from tg_workbench.crypto.hpke import OpeningKey
from tg_workbench.crypto.manifests import Claim, Manifest
from tg_workbench.crypto.signatures import SigningKey
from tg_workbench.errors import EnvelopeBroken

DEVICE, ROUND = SigningKey.generate(), OpeningKey.generate()
CLAIM = Claim(
    organization_id="org_1",
    device_id="dev_1",
    round_id="round_1",
    model_version="7",
    key_version="v1.0",
    sample_count=120,
    metrics={"loss": 0.25},
)
PAYLOAD = secrets.token_bytes(2 * CHUNK_BYTES + 1000)
SEALED_CHUNK = CHUNK_BYTES + 16


def sealed(payload: bytes = PAYLOAD, claim: Claim = CLAIM) -> bytes:
    return b"".join(seal(claim, payload, DEVICE, ROUND.public))


def opened(envelope: bytes, key: OpeningKey = ROUND, signer: SigningKey = DEVICE) -> bytes:
    """As a server opens it, the whole way."""
    stream = BytesIO(envelope)
    head = read_head(stream).verify(signer.public)
    return b"".join(open_payload(head, stream, key))


ENVELOPE = sealed()
LENGTH = int.from_bytes(ENVELOPE[8:12], "big")
SIGNATURE, CHUNKS = 12 + LENGTH, 12 + LENGTH + 3309


def chunks() -> tuple[bytes, list[bytes]]:
    """The head, and the three sealed chunks."""
    cuts = [CHUNKS, CHUNKS + SEALED_CHUNK, CHUNKS + 2 * SEALED_CHUNK, len(ENVELOPE)]
    return ENVELOPE[:CHUNKS], [ENVELOPE[a:b] for a, b in pairwise(cuts)]


def signed(raw: bytes, signer: SigningKey = DEVICE, rest: bytes = ENVELOPE[CHUNKS:]) -> bytes:
    """An envelope whose manifest a device wrote itself, and signed."""
    return MAGIC + len(raw).to_bytes(4, "big") + raw + signer.sign(raw, CONTEXT) + rest


# ----------------------------------------------------------------------------- what is right
@pytest.mark.parametrize(
    "length", [1, 15, 16, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 7]
)
def test_an_envelope_opens_to_what_was_sealed(length: int) -> None:
    payload = secrets.token_bytes(length)
    assert opened(sealed(payload)) == payload


@settings(max_examples=20, deadline=None)
@given(payload=st.binary(min_size=1, max_size=2000))
def test_any_payload_comes_back(payload: bytes) -> None:
    assert opened(sealed(payload)) == opened(from_json(to_json(sealed(payload)))) == payload


def test_the_head_says_what_the_device_claimed() -> None:
    stream = BytesIO(ENVELOPE)
    head = read_head(stream)
    assert stream.tell() == CHUNKS
    for name in (
        "organization_id",
        "device_id",
        "round_id",
        "sample_count",
        "metrics",
        "nonce",
        "created_at",
    ):
        assert getattr(head.manifest, name) == getattr(CLAIM, name)
    assert head.manifest.payload_sha256 == hashlib.sha256(PAYLOAD).hexdigest()
    assert head.manifest.payload_bytes == len(PAYLOAD)
    assert head.raw == head.manifest.canonical


def test_a_file_is_sealed_from_where_it_stands() -> None:
    file = BytesIO(b"before" + PAYLOAD)
    file.seek(6)
    assert opened(b"".join(seal(CLAIM, file, DEVICE, ROUND.public))) == PAYLOAD
    assert opened(b"".join(seal(CLAIM, Trickle(PAYLOAD), DEVICE, ROUND.public))) == PAYLOAD


def test_no_two_envelopes_are_the_same() -> None:
    first, second = (read_head(BytesIO(sealed(b"same"))).manifest for _ in range(2))
    assert first.wrapped_key != second.wrapped_key
    nonces = {replace(CLAIM, nonce=secrets.token_hex(16)).nonce for _ in range(3)}
    assert len(nonces) == 3


class Trickle(BytesIO):
    """A stream that gives less than it is asked for, as sockets do."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 999) if size and size > 0 else size)


def test_a_stream_may_give_little_at_a_time() -> None:
    stream = Trickle(ENVELOPE)
    head = read_head(stream).verify(DEVICE.public)
    assert b"".join(open_payload(head, stream, ROUND)) == PAYLOAD


def test_a_head_that_was_not_verified_opens_nothing() -> None:
    stream = BytesIO(ENVELOPE)
    head = read_head(stream)
    with pytest.raises(TypeError, match="verify the head"):
        list(open_payload(head, stream, ROUND))  # type: ignore[arg-type]


# ----------------------------------------------------------------------------- what is refused
REGIONS = {
    "magic": 3,
    "manifest length, high": 8,
    "manifest length, low": 11,
    "manifest, first": 12,
    "manifest, middle": 12 + LENGTH // 2,
    "manifest, last": SIGNATURE - 1,
    "signature, challenge": SIGNATURE,
    "signature, middle": SIGNATURE + 1700,
    "signature, last": CHUNKS - 1,
    "first chunk, first": CHUNKS,
    "first chunk, middle": CHUNKS + CHUNK_BYTES // 2,
    "first chunk, tag": CHUNKS + CHUNK_BYTES,
    "second chunk": CHUNKS + SEALED_CHUNK + 77,
    "second chunk, tag": CHUNKS + 2 * SEALED_CHUNK - 1,
    "last chunk": CHUNKS + 2 * SEALED_CHUNK + 5,
    "last tag": len(ENVELOPE) - 1,
}


@pytest.mark.parametrize("bit", [0, 3, 7])
@pytest.mark.parametrize("region", REGIONS)
def test_a_flipped_bit_is_refused(region: str, bit: int) -> None:
    edited = bytearray(ENVELOPE)
    edited[REGIONS[region]] ^= 1 << bit
    with pytest.raises(EnvelopeBroken):
        opened(bytes(edited))


@pytest.mark.parametrize("byte", range(12, SIGNATURE, 61))
def test_every_part_of_the_manifest_is_signed(byte: int) -> None:
    edited = bytearray(ENVELOPE)
    edited[byte] ^= 1
    with pytest.raises(EnvelopeBroken):
        opened(bytes(edited))


BOUNDARIES = {
    "nothing": 0,
    "in the magic": 5,
    "after the magic": 8,
    "after the length": 12,
    "in the manifest": 100,
    "after the manifest": SIGNATURE,
    "in the signature": SIGNATURE + 1000,
    "after the signature": CHUNKS,
    "in the first chunk": CHUNKS + 1000,
    "before the first tag": CHUNKS + CHUNK_BYTES,
    "after the first chunk": CHUNKS + SEALED_CHUNK,
    "after the second chunk": CHUNKS + 2 * SEALED_CHUNK,
    "in the last chunk": CHUNKS + 2 * SEALED_CHUNK + 500,
    "before the last tag": len(ENVELOPE) - 16,
    "before the last byte": len(ENVELOPE) - 1,
}


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_what_is_cut_off_is_refused(boundary: str) -> None:
    with pytest.raises(EnvelopeBroken):
        opened(ENVELOPE[: BOUNDARIES[boundary]])


ORDERS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "swapped": lambda c: [c[1], c[0], c[2]],
    "first twice": lambda c: [c[0], c[0], c[1], c[2]],
    "first instead of second": lambda c: [c[0], c[0], c[2]],
    "last twice": lambda c: [*c, c[2]],
    "first dropped": lambda c: c[1:],
    "middle dropped": lambda c: [c[0], c[2]],
    "last dropped": lambda c: c[:2],
    "last first": lambda c: [c[2], c[0], c[1]],
    "a byte more": lambda c: [*c, b"\0"],
    "a chunk more": lambda c: [*c, secrets.token_bytes(SEALED_CHUNK)],
    "of another envelope": lambda c: [c[0], sealed()[-len(c[2]) - SEALED_CHUNK : -len(c[2])], c[2]],
    "no chunks": lambda c: [],
}


@pytest.mark.parametrize("order", ORDERS)
def test_chunks_in_another_order_are_refused(order: str) -> None:
    head, parts = chunks()
    with pytest.raises(EnvelopeBroken) as refusal:
        opened(head + b"".join(ORDERS[order](parts)))
    assert refusal.value.reason == TAMPERED


def test_the_reason_does_not_tell_which_check_failed() -> None:
    """A bit, a cut, a key, a wrapped key, a round: one answer."""
    head, (first, *others) = chunks()
    other_round = Manifest.parse(read_head(BytesIO(ENVELOPE)).raw)
    attempts = [
        (head + bytes([first[0] ^ 1]) + first[1:] + b"".join(others), ROUND),
        (ENVELOPE[:-1], ROUND),
        (ENVELOPE + b"\0", ROUND),
        (ENVELOPE, OpeningKey.generate()),
        (signed(replace(other_round, round_id="round_2").canonical), ROUND),
        (signed(replace(other_round, payload_sha256="0" * 64).canonical), ROUND),
    ]
    reasons = set()
    for envelope, key in attempts:
        with pytest.raises(EnvelopeBroken) as refusal:
            opened(envelope, key)
        reasons.add(refusal.value.reason)
    assert reasons == {TAMPERED}


@pytest.mark.parametrize("member", ["organization_id", "round_id", "device_id"])
def test_what_was_sealed_for_another_round_or_device_is_refused(member: str) -> None:
    manifest = read_head(BytesIO(ENVELOPE)).manifest
    expected = {"organization_id": "org_1", "round_id": "round_1", "device_id": "dev_1"}
    manifest.must_be_for(**expected)
    with pytest.raises(EnvelopeBroken, match=f"another {member}"):
        manifest.must_be_for(**{**expected, member: "other"})
    with pytest.raises(EnvelopeBroken):  # nor does a device make another's key its own by naming itself
        opened(signed(replace(manifest, **{member: "other"}).canonical))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"sample_count": 121},
        {"metrics": {"loss": 0.0}},
        {"nonce": "0" * 32},
        {"created_at": 1},
        {"model_version": "8"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_edited_manifest_is_refused(change: dict[str, object]) -> None:
    manifest = replace(read_head(BytesIO(ENVELOPE)).manifest, **change)  # type: ignore[arg-type]
    raw = manifest.canonical
    signature = ENVELOPE[SIGNATURE:CHUNKS]
    with pytest.raises(EnvelopeBroken, match="its device did not sign it"):
        opened(MAGIC + len(raw).to_bytes(4, "big") + raw + signature + ENVELOPE[CHUNKS:])
    with pytest.raises(EnvelopeBroken) as refusal:  # nor do old chunks go with a manifest that is signed anew
        opened(signed(raw))
    assert refusal.value.reason == TAMPERED


def test_a_signature_by_another_key_or_for_another_purpose_is_refused() -> None:
    raw = read_head(BytesIO(ENVELOPE)).raw
    forged = {
        "another key": SigningKey.generate().sign(raw, CONTEXT),
        "another purpose": DEVICE.sign(raw, b"tg-device-token-v1"),
        "a digest": hashlib.sha256(raw).digest() + bytes(3309 - 32),
    }
    for signature in forged.values():
        head = Head(Manifest.parse(raw), signature, raw)
        with pytest.raises(EnvelopeBroken, match="its device did not sign it"):
            head.verify(DEVICE.public)


def test_a_signed_length_or_digest_that_is_not_the_payloads_is_refused() -> None:
    manifest = read_head(BytesIO(ENVELOPE)).manifest
    for change in (
        {"payload_bytes": len(PAYLOAD) - 1},
        {"payload_bytes": 4 << 30},
        {"payload_sha256": "0" * 64},
    ):
        with pytest.raises(EnvelopeBroken) as refusal:
            opened(signed(replace(manifest, **change).canonical))
        assert refusal.value.reason == TAMPERED


def test_the_digest_is_checked_though_every_chunk_holds() -> None:
    """A device that seals one thing and signs the digest of another is refused, after the last chunk."""

    class Changing(BytesIO):
        def seek(self, *place: int) -> int:
            self.getbuffer()[0:1] = b"b"
            return super().seek(*place)

    envelope = b"".join(seal(CLAIM, Changing(b"a" * 1000), DEVICE, ROUND.public))
    with pytest.raises(EnvelopeBroken) as refusal:
        opened(envelope)
    assert refusal.value.reason == TAMPERED


def test_a_file_that_is_cut_off_while_it_is_sealed_is_noticed() -> None:
    class Shrinking(BytesIO):
        def seek(self, *place: int) -> int:
            self.truncate(10)
            return super().seek(*place)

    with pytest.raises(EnvelopeBroken, match="changed meanwhile"):
        list(seal(CLAIM, Shrinking(b"a" * 1000), DEVICE, ROUND.public))


def test_an_empty_payload_is_no_update() -> None:
    with pytest.raises(EnvelopeBroken, match="payload_bytes"):
        sealed(b"")


def test_a_manifest_that_claims_to_be_long_is_not_read() -> None:
    class Counting(BytesIO):
        most = 0

        def read(self, size: int | None = -1) -> bytes:
            self.most = max(self.most, size or 0)
            return super().read(size)

    stream = Counting(MAGIC + (0xFFFFFFFF).to_bytes(4, "big") + bytes(100))
    with pytest.raises(EnvelopeBroken, match="too long"):
        read_head(stream)
    assert stream.most == 12


# ----------------------------------------------------------------------------- as JSON
def test_the_json_form_holds_the_same_parts() -> None:
    envelope = sealed(b"small")
    assert from_json(to_json(envelope)) == envelope
    assert set(json.loads(to_json(envelope))) == {"manifest", "signature", "payload"}


def test_what_is_large_goes_as_bytes() -> None:
    with pytest.raises(EnvelopeBroken, match="octet-stream"):
        to_json(sealed(bytes(MOST_JSON_BYTES)))
    with pytest.raises(EnvelopeBroken, match="octet-stream"):
        from_json(b" " * (2 * MOST_JSON_BYTES + 1))


def with_part(**parts: object) -> bytes:
    return json.dumps({**json.loads(to_json(sealed(b"small"))), **parts}).encode()


SMALL = json.loads(to_json(sealed(b"small")))
BAD_JSON = {
    "nothing": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "a text": b'"x"',
    "null": b"null",
    "a number": b"NaN",
    "no parts": b"{}",
    "a part missing": json.dumps({k: v for k, v in SMALL.items() if k != "payload"}).encode(),
    "a part more": with_part(pickle="gASVCg=="),
    "a part twice": b'{"payload":"",' + to_json(sealed(b"small"))[1:],
    "not a text": with_part(payload=7),
    "nested": with_part(payload={"a": 1}),
    "not base64": with_part(payload="!!!!"),
    "base64 of the web": with_part(payload="-_-_"),
    "not padded": with_part(payload="QQ"),
    "another spelling": with_part(payload="QR=="),
    "blanks": with_part(payload=" " + SMALL["payload"]),
    "signature too short": with_part(signature=base64.b64encode(bytes(3308)).decode()),
    "signature too long": with_part(signature=base64.b64encode(bytes(3310)).decode()),
    "manifest too long": with_part(manifest=base64.b64encode(bytes(16_385)).decode()),
    "utf-16": to_json(sealed(b"small")).decode().encode("utf-16"),
    "not ASCII": '{"manifest":"é"}'.encode(),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_json_that_is_no_envelope_is_refused(name: str) -> None:
    with pytest.raises(EnvelopeBroken):
        from_json(BAD_JSON[name])


# ----------------------------------------------------------------------------- memory
MEASURE = """
import resource, sys, tracemalloc
from io import BytesIO
from pathlib import Path
from tg_workbench.crypto.envelopes import Claim, OpeningKey, SigningKey, open_payload, read_head, seal

folder, size = Path(sys.argv[1]), 100_000_000
with (folder / "payload").open("wb") as file:
    for _ in range(size // 1_000_000):
        file.write(bytes(1_000_000))
device, key = SigningKey.generate(), OpeningKey.generate()
names = ("organization_id", "device_id", "round_id", "model_version", "key_version")
claim = Claim(**dict.fromkeys(names, "1"), sample_count=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tracemalloc.start()
with (folder / "payload").open("rb") as payload, (folder / "envelope").open("wb") as envelope:
    for piece in seal(claim, payload, device, key.public):
        envelope.write(piece)
with (folder / "envelope").open("rb") as stream:
    head = read_head(stream).verify(device.public)
    opened = sum(len(piece) for piece in open_payload(head, stream, key))
assert opened == size
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(tracemalloc.get_traced_memory()[1], (after - before) * (1 if sys.platform == "darwin" else 1024))
"""


def test_a_hundred_megabytes_pass_through_little_memory(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path], capture_output=True, text=True, timeout=120, check=True
    )
    traced, resident = map(int, ended.stdout.split())
    assert traced < 8 << 20
    assert resident < 24 << 20
