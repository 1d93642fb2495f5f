"""Rounds under attack: each is refused with its code, told to those who watch, and the round goes on."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import pickle
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.contracts.machines import Keys, Machine
from tests.federation.attacking import OCTETS, Attacker, asked, blobs, code_of, left, refusals
from tests.federation.conftest import CLASSES, SIDE, Fleet, until
from tests.federation.test_rounds import both
from tg_workbench.crypto.envelopes import CHUNK_BYTES, MAGIC, to_json
from tg_workbench.crypto.hpke import OpeningKey
from tg_workbench.crypto.sealing import TAG_BYTES
from tg_workbench.crypto.signatures import SIGNATURE_BYTES, SigningKey
from tg_workbench.sdk.device import Device

BROKEN = (422, "INVALID_QUANTUM_KEY")
REJECTED = (422, "UPDATE_REJECTED")
TAMPERED = "it was changed, or cut off, or sealed for another key, round or device"
LARGE = {
    "architecture": "mlp",
    "input_shape": [SIDE],
    "output_size": CLASSES,
    "hidden_sizes": [700, 800],
    "hyperparameters": {"learning_rate": 0.1, "batch_size": 8, "epochs": 1},
}
"""Its updates have three chunks."""
TWO_OF_MANY = {
    "min_participants": 2,
    "target_participants": 2,
    "max_participants": 20,
    "over_selection": 10.0,
}


def open_round(fleet: Fleet, devices: list[Device], **more: Any) -> str:
    """A round that trains, which all of these have joined and nobody else can."""
    criteria = {**TWO_OF_MANY, "max_participants": len(devices), **more.pop("criteria", {})}
    started = fleet.start(participant_criteria=criteria, **more)
    fleet.recruiting(started["id"])
    for device in devices:
        device.join(started["id"])
    assert fleet.round(started["id"])["phase"] == "training"
    return str(started["id"])


@pytest.fixture(scope="module")
def villain(fleet: Fleet, pair: tuple[Device, Device]) -> Iterator[Attacker]:
    """A device that attacks one round again and again; at last the honest ones bring it to its end."""
    device = fleet.enroll("a villain")
    round_id = open_round(fleet, [*pair, device], model_config=LARGE)
    yield Attacker(fleet, device, round_id)
    took = both(pair, round_id)
    assert all(part is not None and part.status == "accepted" for part in took)
    ended = fleet.over(round_id)
    assert (ended["status"], ended["progress"]["completed_devices"]) == ("completed", 2)
    assert fleet.parts(round_id)[device.id]["status"] == "dropped"


def flipped(place: int) -> Callable[[bytes], bytes]:
    """The same with one bit changed."""
    return lambda whole: whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


def regions(envelope: bytes) -> dict[str, int]:
    """Where the parts of an envelope begin."""
    start = len(MAGIC) + 4
    signature = start + int.from_bytes(envelope[len(MAGIC) : start], "big")
    return {"manifest": start, "signature": signature, "payload": signature + SIGNATURE_BYTES}


def swapped(envelope: bytes) -> bytes:
    """The first two chunks the other way round."""
    start, size = regions(envelope)["payload"], CHUNK_BYTES + TAG_BYTES
    first, second = envelope[start : start + size], envelope[start + size : start + 2 * size]
    return envelope[:start] + second + first + envelope[start + 2 * size :]


def edited(envelope: bytes, old: bytes, new: bytes) -> bytes:
    """Another manifest before the same signature."""
    places = regions(envelope)
    manifest = envelope[places["manifest"] : places["signature"]]
    assert old in manifest
    changed = manifest.replace(old, new)
    return MAGIC + len(changed).to_bytes(4, "big") + changed + envelope[places["signature"] :]


def hashed(envelope: bytes) -> bytes:
    """SHA-256 in a signature's place: the document's own server took it."""
    places = regions(envelope)
    manifest = envelope[places["manifest"] : places["signature"]]
    digest = hashlib.sha256(manifest).digest() * (SIGNATURE_BYTES // 32 + 1)
    return envelope[: places["signature"]] + digest[:SIGNATURE_BYTES] + envelope[places["payload"] :]


TAMPERINGS: dict[str, Callable[[bytes], bytes]] = {
    "a bit of the magic": flipped(0),
    "a bit of the length": flipped(len(MAGIC) + 3),
    "a length of gigabytes": lambda whole: (
        whole[: len(MAGIC)] + b"\xff\xff\xff\xff" + whole[len(MAGIC) + 4 :]
    ),
    "a bit of the manifest": lambda whole: flipped(regions(whole)["manifest"] + 40)(whole),
    "a bit of the signature": lambda whole: flipped(regions(whole)["signature"] + 7)(whole),
    "the first bit of the payload": lambda whole: flipped(regions(whole)["payload"])(whole),
    "the last bit": lambda whole: flipped(len(whole) - 1)(whole),
    "cut off by a byte": lambda whole: whole[:-1],
    "cut off by a chunk": lambda whole: whole[: regions(whole)["payload"] + 2 * (CHUNK_BYTES + TAG_BYTES)],
    "cut off in the head": lambda whole: whole[:100],
    "empty": lambda whole: b"",
    "one byte more": lambda whole: whole + b"\0",
    "swapped chunks": swapped,
    "a digest for a signature": hashed,
    "more samples": lambda whole: edited(whole, b'"sample_count":40', b'"sample_count":4000'),
    "a member twice": lambda whole: edited(whole, b'{"alg"', b'{"v":1,"alg"'),
    "a deep manifest": lambda whole: edited(whole, b'{"alg"', b'{"x":' * 2000 + b'{"alg"'),
}


@pytest.mark.parametrize("how", TAMPERINGS)
def test_what_was_changed_on_its_way_is_refused_and_not_kept(villain: Attacker, how: str) -> None:
    honest, before = villain.envelope(), blobs(villain.fleet)
    assert regions(honest)["payload"] + 2 * CHUNK_BYTES < len(honest)
    told = len(refusals(villain.fleet, villain.device.id))
    answer = villain.submit(TAMPERINGS[how](honest))
    assert code_of(answer) == BROKEN, answer.text
    until(lambda: not left(villain.fleet, before))
    assert len(refusals(villain.fleet, villain.device.id)) == told + 1
    assert villain.fleet.parts(villain.round_id)[villain.device.id]["status"] == "joined"


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        ({"round_id": "round_" + "0" * 32}, "made for another round_id"),
        ({"device_id": "dev_" + "0" * 32}, "made for another device_id"),
        ({"organization_id": "org_0000000000000000"}, "made for another organization_id"),
        ({"model_version": "v1"}, "another version of the model"),
        ({"key_version": "v2.0"}, "keys that this device has not"),
        ({"created_at": -100_000}, "the device's clock"),
        ({"created_at": 2_000}, "the device's clock"),
    ],
    ids=["round", "device", "organization", "model", "keys", "old", "future"],
)
def test_what_was_made_for_something_else_is_refused(
    villain: Attacker, lie: dict[str, Any], told: str
) -> None:
    if "created_at" in lie:  # so many seconds from now, and not from when tests were collected
        lie = {"created_at": int(time.time()) + lie["created_at"]}
    answer = villain.submit(villain.envelope(**lie))
    assert code_of(answer) == BROKEN
    assert told in answer.text
    assert told in refusals(villain.fleet, villain.device.id)[-1]


def test_an_update_from_a_clock_that_is_ahead_is_refused_however_long_the_round_has_trained(
    villain: Attacker,
) -> None:
    home, id_ = villain.fleet.server.home, villain.round_id
    (began,) = asked(home, "SELECT training_at FROM rounds WHERE id = ?", id_)[0]
    asked(home, "UPDATE rounds SET training_at = ? WHERE id = ?", began - 3000, id_)
    answer = villain.submit(villain.envelope(created_at=int(time.time()) + 1_000))
    late = villain.submit(villain.envelope(b"late", created_at=int(time.time()) - 200_000))
    asked(home, "UPDATE rounds SET training_at = ? WHERE id = ?", began, id_)
    assert code_of(answer) == BROKEN, answer.text
    assert code_of(late) == BROKEN


def test_an_update_that_another_key_has_signed_or_that_was_sealed_to_another_is_refused(
    villain: Attacker,
) -> None:
    forged = villain.submit(villain.envelope(signing_key=SigningKey.generate()))
    assert code_of(forged) == BROKEN
    assert "did not sign it" in forged.text
    misdirected = villain.submit(villain.envelope(sealing_key=OpeningKey.generate().public))
    assert code_of(misdirected) == BROKEN
    assert TAMPERED in misdirected.text


@pytest.mark.parametrize("count", [0, -1, 10**12, 2**63, 1.5, "40", True, None, [40]], ids=repr)
def test_a_sample_count_that_cannot_be_is_refused_even_when_it_is_signed(
    villain: Attacker, count: object
) -> None:
    honest = villain.envelope()
    places = regions(honest)
    members = json.loads(honest[places["manifest"] : places["signature"]])
    raw = json.dumps({**members, "sample_count": count}, sort_keys=True, separators=(",", ":")).encode()
    signature = villain.identity.signing_key.sign(raw, b"tg-fl-update-v1")
    answer = villain.submit(
        MAGIC + len(raw).to_bytes(4, "big") + raw + signature + honest[places["payload"] :]
    )
    assert code_of(answer) == BROKEN, answer.text


def test_nobody_submits_for_a_device_but_that_device(villain: Attacker, pair: tuple[Device, Device]) -> None:
    envelope, fleet = villain.envelope(), villain.fleet
    with_key = villain.submit(envelope, token=fleet.server.api_key)
    assert code_of(with_key) == (403, "INSUFFICIENT_PERMISSIONS")
    other = Attacker(fleet, pair[0], villain.round_id)
    assert code_of(other.submit(envelope)) == BROKEN
    assert code_of(villain.submit(envelope, token="eyJhbGciOiJub25lIn0.e30.")) == (401, "INVALID_TOKEN")
    join = f"/api/v1/fl/rounds/{villain.round_id}/join"
    assert code_of(fleet.http.post(join)) == (403, "INSUFFICIENT_PERMISSIONS")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"manifest": "!!", "signature": "!!", "payload": "!!"}',
        b'{"manifest": 1, "signature": 2, "payload": 3}',
        b'{"manifest": "", "signature": "", "payload": ""}',
        b'{"a": ' * 3000,
        b"\xff\xfe",
    ],
    ids=["empty", "a list", "half", "no base64", "numbers", "blank", "deep", "no text"],
)
def test_json_that_is_no_envelope_is_refused(villain: Attacker, body: bytes) -> None:
    told = len(refusals(villain.fleet, villain.device.id))
    assert code_of(villain.submit(body, kind="application/json")) == BROKEN
    assert len(refusals(villain.fleet, villain.device.id)) == told + 1


def test_an_envelope_as_json_must_be_whole_too(villain: Attacker) -> None:
    parts = json.loads(to_json(villain.envelope()))
    payload = base64.b64decode(parts["payload"])
    parts["payload"] = base64.b64encode(flipped(50)(payload)).decode()
    assert code_of(villain.submit(json.dumps(parts).encode(), kind="application/json")) == BROKEN


def test_an_envelope_as_json_counts_as_the_same_bytes_do(fleet: Fleet, pair: tuple[Device, Device]) -> None:
    attacker = Attacker(fleet, fleet.enroll("one that speaks JSON"), "")
    attacker.round_id = open_round(fleet, [pair[0], attacker.device])
    envelope = attacker.envelope()
    told = attacker.submit(to_json(envelope), kind="application/json")
    assert (told.status_code, told.json()["status"]) == (200, "accepted"), told.text
    assert attacker.submit(envelope).json()["receipt"] == told.json()["receipt"]
    both(pair[:1], attacker.round_id)
    assert fleet.over(attacker.round_id)["progress"]["completed_devices"] == 2


def test_bodies_without_end_are_refused_and_not_kept(villain: Attacker) -> None:
    before, told = blobs(villain.fleet), len(refusals(villain.fleet, villain.device.id))
    assert b"413" in spoken(villain, f"Content-Length: {10 << 30}", b"x")
    until(lambda: not left(villain.fleet, before))
    assert spoken(villain, "Content-Length: 1000", b"x" * 10) == b""
    endless = villain.submit(iter(b"x" * 1_000_000 for _ in range(40)))
    assert code_of(endless) == (413, "PAYLOAD_TOO_LARGE")
    as_json = villain.submit(iter(b"x" * 1_000_000 for _ in range(40)), kind="application/json")
    assert code_of(as_json) == (413, "PAYLOAD_TOO_LARGE")
    until(lambda: not left(villain.fleet, before))
    assert len(refusals(villain.fleet, villain.device.id)) >= told + 2


def spoken(attacker: Attacker, header: str, body: bytes) -> bytes:
    """The first line of the answer to a request that is cut off; nothing where there is none."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(20)
        line.connect(str(attacker.fleet.server.socket))
        head = (
            f"POST /api/v1/fl/rounds/{attacker.round_id}/submit HTTP/1.1\r\nHost: workbench\r\n"
            f"Authorization: Bearer {attacker.token()}\r\nContent-Type: {OCTETS}\r\n{header}\r\n\r\n"
        )
        line.sendall(head.encode() + body)
        line.shutdown(socket.SHUT_WR)
        return line.recv(1000).partition(b"\r\n")[0]


# ----------------------------------------------------------------------------- what only the worker sees
class Boom:
    """What a pickle would do to whoever loads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("/tmp/tg-pickle-was-loaded", "w"))


def header(**tensors: Any) -> bytes:
    """The head of a safetensors file that claims to hold these."""
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


def spoiled(attacker: Attacker, value: float) -> bytes:
    """An update with one number that is none."""
    found = arrays(attacker)
    next(iter(found.values())).flat[0] = value
    return safetensors.numpy.save(found)


def arrays(attacker: Attacker, dtype: str = "<f4") -> dict[str, Any]:
    return {name: array.astype(dtype) for name, array in attacker.layout.arrays(attacker.vector()).items()}


PAYLOADS: dict[str, Callable[[Attacker], bytes]] = {
    "a pickle": lambda attacker: pickle.dumps(Boom()),
    "NaN": lambda attacker: spoiled(attacker, float("nan")),
    "infinity": lambda attacker: spoiled(attacker, float("inf")),
    "what overflows in a sum": lambda attacker: spoiled(attacker, 3e38),
    "float64": lambda attacker: safetensors.numpy.save(arrays(attacker, "<f8")),
    "one tensor less": lambda attacker: safetensors.numpy.save(dict(list(arrays(attacker).items())[1:])),
    "one tensor more": lambda attacker: safetensors.numpy.save(
        {**arrays(attacker), "extra": np.zeros(1, np.float32)}
    ),
    "transposed": lambda attacker: safetensors.numpy.save(
        {name: np.ascontiguousarray(array.T) for name, array in arrays(attacker).items()}
    ),
    "a claim of 10 GB": lambda attacker: header(
        w={"dtype": "F32", "shape": [2_500_000_000], "data_offsets": [0, 10_000_000_000]}
    ),
    "a header of 2^60 bytes": lambda attacker: struct.pack("<Q", 1 << 60) + b"{}",
    "a numpy file": lambda attacker: _npy(attacker.vector()),
    "nothing but zeros": lambda attacker: bytes(1000),
    "one byte": lambda attacker: b"x",
}


def _npy(vector: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, vector)
    return file.getvalue()


def test_what_holds_no_usable_numbers_is_rejected_and_the_others_are_summed(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    crew = {name: fleet.enroll(name) for name in PAYLOADS}
    round_id = open_round(fleet, [*pair, *crew.values()])
    for name, device in crew.items():
        attacker = Attacker(fleet, device, round_id)
        envelope = attacker.envelope(PAYLOADS[name](attacker))
        answer = attacker.submit(envelope)
        assert code_of(answer) == REJECTED, (name, answer.text)
        assert len(refusals(fleet, device.id)) == 1, name
        assert code_of(attacker.submit(envelope)) == REJECTED, name
        assert asked(
            fleet.server.home,
            "SELECT status, blob FROM participations WHERE device_id = ?",
            device.id,
        ) == [("rejected", None)]
    both(pair, round_id)
    ended = fleet.over(round_id)
    progress = ended["progress"]
    assert (ended["status"], progress["completed_devices"]) == ("completed", 2)
    assert progress["rejected_devices"] == len(PAYLOADS)
    assert left_of(fleet, round_id) == ([], None)


def left_of(fleet: Fleet, round_id: str) -> tuple[list[str], bytes | None]:
    """What is left of a round that is over: files, and its keys."""
    home = fleet.server.home
    kept = asked(
        home,
        "SELECT digest FROM participations WHERE round_id = ? AND digest IS NOT NULL",
        round_id,
    )
    ((keys, download),) = asked(home, "SELECT sealed_keys, download_blob FROM rounds WHERE id = ?", round_id)
    there = [row[0] for row in kept if row[0] in blobs(fleet)]
    return [*there, *([download] if download else [])], keys


# ----------------------------------------------------------------------------- again, too early, too late
def test_the_same_envelope_gets_the_same_receipt_and_another_is_refused(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    device = fleet.enroll("one who repeats")
    attacker = Attacker(fleet, device, open_round(fleet, [*pair, device]))
    envelope, other = attacker.envelope(), attacker.envelope()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(attacker.submit, [envelope] * 2 + [other] * 2))
    codes = [answer.status_code for answer in answers]
    assert codes in ([200] * 2 + [409] * 2, [409] * 2 + [200] * 2), [answer.text for answer in answers]
    receipts = {json.dumps(answer.json()["receipt"]) for answer in answers if answer.status_code == 200}
    assert len(receipts) == 1
    kept, refused = (envelope, other) if codes[0] == 200 else (other, envelope)
    assert code_of(attacker.submit(refused)) == (409, "UPDATE_ALREADY_SUBMITTED")
    assert "another update" in refusals(fleet, device.id)[-1]
    both(pair[:1], attacker.round_id)
    fleet.over(attacker.round_id)
    again = attacker.submit(kept)
    assert (again.status_code, {json.dumps(again.json()["receipt"])}) == (200, receipts)
    assert code_of(attacker.submit(refused))[0] in (409, 422)
    assert left_of(fleet, attacker.round_id) == ([], None)


def test_nothing_is_taken_before_a_round_trains_or_from_those_who_have_not_joined(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    first = Attacker(fleet, pair[0], open_round(fleet, list(pair)))
    envelope = first.envelope()
    started = fleet.start()
    fleet.recruiting(started["id"])
    stranger = Attacker(fleet, pair[0], started["id"])
    assert code_of(stranger.submit(envelope)) == (404, "ROUND_NOT_FOUND")
    pair[0].join(started["id"])
    assert code_of(stranger.submit(envelope)) == BROKEN, "it was made for another round"
    fleet.http.delete(f"/workbench/v1/federation/campaigns/{started['campaign_id']}")
    assert stranger.submit(envelope).status_code in (409, 422)
    both(pair, first.round_id)
    assert fleet.over(first.round_id)["status"] == "completed"
    late = Attacker(fleet, fleet.enroll("late"), first.round_id)
    path = f"/api/v1/fl/rounds/{first.round_id}/join"
    answer = fleet.http.post(path, headers={"Authorization": f"Bearer {late.token()}"})
    assert code_of(answer) == (409, "TRAINING_IN_PROGRESS")
    assert code_of(late.submit(envelope)) == (404, "ROUND_NOT_FOUND")


def test_joins_at_once_are_one_join_and_never_too_many(fleet: Fleet, pair: tuple[Device, Device]) -> None:
    others = [fleet.enroll() for _ in range(3)]
    started = fleet.start(participant_criteria={"min_participants": 2, "max_participants": 3})
    fleet.recruiting(started["id"])
    path = f"/api/v1/fl/rounds/{started['id']}/join"
    tokens = [Attacker(fleet, device, started["id"]).token() for device in (*pair, *others)]

    def join(token: str) -> int:
        return fleet.http.post(path, headers={"Authorization": f"Bearer {token}"}).status_code

    with ThreadPoolExecutor(10) as pool:
        codes = list(pool.map(join, tokens * 2))
    assert set(codes) == {200, 409}
    assert fleet.round(started["id"])["participants"] == 3
    assert len(fleet.parts(started["id"])) == 3
    fleet.http.delete(f"/workbench/v1/federation/campaigns/{started['campaign_id']}")


# ----------------------------------------------------------------------------- keys and certificates
def test_an_update_under_keys_whose_time_is_over_is_refused(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    attacker = Attacker(fleet, fleet.enroll("one with old keys"), "")
    attacker.round_id = open_round(fleet, [*pair, attacker.device])
    envelope, machine = attacker.envelope(), attacker.as_machine()
    old = machine.token
    rotate(machine)
    over = "UPDATE device_keys SET retires_at = 1.0 WHERE device_id = ? AND status = 'rotating'"
    asked(fleet.server.home, over, machine.id)
    answer = attacker.submit(envelope, token=machine.token)
    assert code_of(answer) == BROKEN, answer.text
    assert "has no longer" in answer.text
    assert code_of(attacker.submit(envelope, token=old)) == (401, "INVALID_TOKEN")
    both(pair, attacker.round_id)
    assert fleet.over(attacker.round_id)["status"] == "completed"


def test_an_update_under_keys_in_their_time_of_grace_counts(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    attacker = Attacker(fleet, fleet.enroll("one that rotates"), "")
    attacker.round_id = open_round(fleet, [pair[0], attacker.device])
    envelope, machine = attacker.envelope(), attacker.as_machine()
    rotate(machine)
    assert attacker.submit(envelope, token=machine.token).json()["status"] == "accepted"
    both(pair[:1], attacker.round_id)
    assert fleet.over(attacker.round_id)["progress"]["completed_devices"] == 2


def test_a_certificate_that_has_expired_opens_nothing(fleet: Fleet, pair: tuple[Device, Device]) -> None:
    attacker = Attacker(fleet, fleet.enroll("one out of time"), "")
    attacker.round_id = open_round(fleet, [*pair, attacker.device])
    envelope, token = attacker.envelope(), attacker.token()
    over = "UPDATE device_keys SET certificate_expires_at = 1.0 WHERE device_id = ?"
    asked(fleet.server.home, over, attacker.device.id)
    assert code_of(attacker.submit(envelope, token=token)) == (401, "INVALID_TOKEN")
    both(pair, attacker.round_id)
    assert fleet.over(attacker.round_id)["status"] == "completed"


def test_who_rotates_its_keys_until_its_update_cannot_be_verified_stops_no_round(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    attacker = Attacker(fleet, fleet.enroll("one that rotates and rotates"), "")
    criteria = {"target_participants": 3, "quorum": 2}
    attacker.round_id = open_round(fleet, [*pair, attacker.device], criteria=criteria)
    machine = attacker.as_machine()
    assert attacker.submit(attacker.envelope()).json()["status"] == "accepted"
    for _ in range(3):
        rotate(machine)
    both(pair, attacker.round_id)
    ended = fleet.over(attacker.round_id)
    assert (ended["status"], ended["progress"]["completed_devices"]) == ("completed", 3), ended


@pytest.mark.parametrize("how", ["revoke", "deregister"])
def test_what_a_revoked_device_has_sent_does_not_count(
    fleet: Fleet, pair: tuple[Device, Device], how: str
) -> None:
    attacker = Attacker(fleet, fleet.enroll("one that is sent away"), "")
    criteria = {"target_participants": 3, "quorum": 2}
    attacker.round_id = open_round(fleet, [*pair, attacker.device], criteria=criteria)
    token, envelope = attacker.token(), attacker.envelope()
    assert attacker.submit(envelope).json()["status"] == "accepted"
    send_away(fleet, attacker.device, how)
    code = code_of(attacker.submit(envelope, token=token))
    assert code[0] in (401, 403), code
    assert fleet.parts(attacker.round_id)[attacker.device.id]["status"] == "dropped"
    both(pair, attacker.round_id)
    ended = fleet.over(attacker.round_id)
    assert (ended["status"], ended["progress"]["completed_devices"]) == ("completed", 2), ended
    assert ended["participants"] == 2
    assert left_of(fleet, attacker.round_id) == ([], None)


def test_a_revoked_device_leaves_its_place_to_another(fleet: Fleet, pair: tuple[Device, Device]) -> None:
    villain = fleet.enroll("one that recruits")
    started = fleet.start()
    fleet.recruiting(started["id"])
    villain.join(started["id"])
    send_away(fleet, villain, "revoke")
    both(pair, started["id"])
    assert fleet.over(started["id"])["status"] == "completed"


def test_a_round_whose_devices_were_all_revoked_fails_and_leaves_nothing(fleet: Fleet) -> None:
    villains = [fleet.enroll() for _ in range(2)]
    round_id = open_round(fleet, villains)
    assert (
        Attacker(fleet, villains[0], round_id)
        .submit(Attacker(fleet, villains[0], round_id).envelope())
        .json()["status"]
        == "accepted"
    )
    for villain in villains:
        send_away(fleet, villain, "revoke")
    ended = fleet.over(round_id)
    assert (ended["status"], ended["participants"]) == ("failed", 0)
    assert left_of(fleet, round_id) == ([], None)
    assert asked(fleet.server.home, "SELECT count(*) FROM devices WHERE current_round_id = ?", round_id) == [
        (0,)
    ]


def rotate(machine: Machine) -> None:
    """Bring new keys, and sign in with them."""
    keys = Keys.new()
    answer = machine.post("keys", keys.as_body())
    assert answer.status_code == 201, answer.text
    machine.keys = keys
    machine.sign_in()


def send_away(fleet: Fleet, device: Device, how: str) -> None:
    """What people do with a device that was stolen."""
    if how == "revoke":
        answer = fleet.http.post(f"/workbench/v1/devices/{device.id}/revoke", json={"reason": "stolen"})
    else:
        answer = fleet.http.delete(f"/api/v1/devices/{device.id}")
    assert answer.status_code == 200, answer.text


# ----------------------------------------------------------------------------- poison
def test_figures_that_overflow_spoil_no_answer(fleet: Fleet, pair: tuple[Device, Device]) -> None:
    attacker = Attacker(fleet, fleet.enroll("one that boasts"), "")
    attacker.round_id = open_round(fleet, [pair[0], attacker.device])
    boast = attacker.envelope(metrics={"accuracy": 1e300, "loss": -1e300}, sample_count=10**9)
    assert attacker.submit(boast).json()["status"] == "accepted"
    both(pair[:1], attacker.round_id)
    ended = fleet.over(attacker.round_id)
    assert ended["status"] == "completed", ended
    assert 0 <= ended["progress"]["avg_accuracy"] <= 1
    assert ended["progress"]["avg_loss"] > 0


def test_who_claims_a_billion_samples_does_not_own_the_model(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    attacker = Attacker(fleet, fleet.enroll("one that claims"), "")
    criteria = {"target_participants": 3, "most_samples": 50}
    attacker.round_id = open_round(fleet, [*pair, attacker.device], criteria=criteria)
    constant = np.full(attacker.layout.size, 1.0, np.float32)
    claim = attacker.envelope(attacker.payload(constant), sample_count=10**9)
    assert attacker.submit(claim).json()["status"] == "accepted"
    both(pair, attacker.round_id)
    ended = fleet.over(attacker.round_id)
    assert ended["status"] == "completed", ended
    assert samples_of(fleet, attacker.round_id) == 40 + 40 + 50


def test_where_nobody_says_a_claim_counts_for_ten_times_what_others_have_at_most(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    attacker = Attacker(fleet, fleet.enroll("one that claims more"), "")
    attacker.round_id = open_round(fleet, [*pair, attacker.device], criteria={"target_participants": 3})
    assert attacker.submit(attacker.envelope(sample_count=10**9)).json()["status"] == "accepted"
    both(pair, attacker.round_id)
    assert fleet.over(attacker.round_id)["status"] == "completed"
    assert samples_of(fleet, attacker.round_id) == 40 + 40 + 400


def samples_of(fleet: Fleet, round_id: str) -> int:
    """For how many samples the updates of a round have counted."""
    question = "SELECT json_extract(figures, '$.samples') FROM rounds WHERE id = ?"
    return int(asked(fleet.server.home, question, round_id)[0][0])


def test_a_poisoned_update_is_cut_to_the_norm_bound(fleet: Fleet, pair: tuple[Device, Device]) -> None:
    attacker = Attacker(fleet, fleet.enroll("one that shouts"), "")
    attacker.round_id = open_round(
        fleet,
        [*pair, attacker.device],
        criteria={"target_participants": 3},
        strategy="norm-bound",
        strategy_options={"bound": 0.5},
    )
    shout = attacker.envelope(attacker.payload(attacker.vector(scale=1e6)))
    assert attacker.submit(shout).json()["status"] == "accepted"
    both(pair, attacker.round_id)
    ended = fleet.over(attacker.round_id)
    assert ended["status"] == "completed"
    assert ended["progress"]["convergence_metric"] < 1.0


def test_many_devices_that_submit_at_once_are_all_heard(fleet: Fleet) -> None:
    crowd = [fleet.enroll() for _ in range(24)]
    started = fleet.start(
        participant_criteria={"min_participants": 24, "max_participants": 24}, model_config=LARGE
    )
    fleet.recruiting(started["id"])
    for device in crowd:
        device.join(started["id"])
    attackers = [Attacker(fleet, device, started["id"]) for device in crowd]
    envelopes = [attacker.envelope() for attacker in attackers]

    def slowly(number: int) -> int:
        def pieces() -> Iterator[bytes]:
            yield envelopes[number][:1_000_000]
            time.sleep(1.0)
            yield envelopes[number][1_000_000:]

        return attackers[number].submit(pieces()).status_code

    with ThreadPoolExecutor(24) as pool:
        assert set(pool.map(slowly, range(24))) == {200}
    assert fleet.over(started["id"])["progress"]["completed_devices"] == 24


def test_an_envelope_that_came_to_nothing_is_swept_away(fleet: Fleet, pair: tuple[Device, Device]) -> None:
    """As when the workbench is killed between the file and the row that names it."""
    home, name = fleet.server.home, "ab" * 32
    path = home / "blobs" / "ab" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"sealed")
    asked(home, "INSERT INTO left_blobs (name, due_at) VALUES (?, ?)", name, time.time() + 1.0)
    deadline = time.monotonic() + 20
    while path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert asked(home, "SELECT name FROM left_blobs WHERE name = ?", name) == []


def test_an_update_that_is_sent_again_is_there_an_hour_later(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    """As by a device that has not heard the first answer."""
    attacker = Attacker(fleet, pair[0], open_round(fleet, list(pair)))
    envelope, home = attacker.envelope(), fleet.server.home
    receipts = [attacker.submit(envelope).json()["receipt"] for _ in range(2)]
    assert receipts[0] == receipts[1]
    asked(home, "UPDATE left_blobs SET due_at = 0 WHERE name = ?", receipts[0]["envelope_sha256"])
    until(lambda: not asked(home, "SELECT name FROM left_blobs WHERE due_at = 0"), 20.0)
    both((pair[1],), attacker.round_id)
    ended = fleet.over(attacker.round_id)
    assert (ended["status"], ended["progress"]["completed_devices"]) == ("completed", 2)
