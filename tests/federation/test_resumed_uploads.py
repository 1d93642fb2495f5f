"""Updates in pieces: whatever breaks, and wherever, the device goes on from what has really been stored."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.federation.attacking import OCTETS, Attacker, asked, blobs, refusals
from tests.federation.conftest import CLASSES, SIDE, Fleet, fleet_apart, rows_of, until
from tests.federation.test_attacks import spoiled
from tests.federation.test_secure_rounds import begun as begun_masked
from tg_workbench.crypto.signatures import SigningKey
from tg_workbench.device.memories import of_round
from tg_workbench.device.sealed_updates import SealedUpdate
from tg_workbench.errors import AssignmentInvalid, RoundNotOpen
from tg_workbench.sdk.device import Device, TookPart

MODEL = {
    "architecture": "mlp",
    "input_shape": [SIDE],
    "output_size": CLASSES,
    "hidden_sizes": [1000, 800],
    "hyperparameters": {"learning_rate": 0.1, "batch_size": 8, "epochs": 1},
}
"""Three megabytes: too much for one request, as devices see it."""
ALONE = {"min_participants": 1}
DIES = """
import sys
from tests.federation.conftest import rows_of
from tg_workbench.sdk.device import Device
Device(sys.argv[1]).take_part(sys.argv[2], rows_of(0))
"""


# ------------------------------------------------------------------------------- what the tests need
@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A workbench of its own, which may be killed."""
    with fleet_apart(tmp_path_factory.mktemp("resuming"), TG_UPLOAD_GRACE_SECONDS="10") as fleet:
        yield fleet


@pytest.fixture(scope="module")
def device(fleet: Fleet) -> Device:
    """One that anybody may use."""
    return fleet.enroll("one that goes on")


class Sender(Attacker):
    """A device that sends its update by hand."""

    @classmethod
    def joins(cls, fleet: Fleet, device: Device, **asked: Any) -> Sender:
        """One in a new round that trains as soon as it has joined."""
        body = {"model_config": MODEL, "participant_criteria": ALONE, **asked}
        round_id = fleet.start(**body)["id"]
        fleet.recruiting(round_id)
        device.join(round_id)
        return cls(fleet, device, round_id)

    @property
    def uploads(self) -> str:
        return f"/workbench/v1/federation/rounds/{self.round_id}/uploads"

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """What the workbench says to this device."""
        headers = {"Authorization": f"Bearer {self.token()}", **more.pop("headers", {})}
        return self.fleet.http.request(method, path, headers=headers, **more)

    def begin(self, envelope: bytes, **lies: Any) -> httpx.Response:
        """Announce an update."""
        told = {"size": len(envelope), "sha256": hashlib.sha256(envelope).hexdigest(), **lies}
        return self.ask("POST", self.uploads, json=told)

    def begun(self, envelope: bytes, **lies: Any) -> str:
        answer = self.begin(envelope, **lies)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["upload_id"])

    def send(self, upload: str, offset: int, piece: bytes | Iterator[bytes]) -> httpx.Response:
        headers = {"Upload-Offset": str(offset), "Content-Type": OCTETS}
        return self.ask("PATCH", f"{self.uploads}/{upload}", content=piece, headers=headers)

    def offset(self, upload: str) -> int:
        answer = self.ask("HEAD", f"{self.uploads}/{upload}")
        assert answer.status_code == 200, answer.headers
        return int(answer.headers["upload-offset"])

    def cut(self, upload: str, offset: int, piece: bytes, sent: int) -> None:
        """Promise a piece, send a part of it, and hang up."""
        lines = [
            f"PATCH {self.uploads}/{upload} HTTP/1.1",
            *("Host: workbench", f"Authorization: Bearer {self.token()}", f"Upload-Offset: {offset}"),
            *(f"Content-Type: {OCTETS}", f"Content-Length: {len(piece)}", "", ""),
        ]
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self.fleet.server.socket))
            line.sendall("\r\n".join(lines).encode() + piece[:sent])

    def file(self, upload: str) -> Path:
        return self.fleet.server.home / "blobs" / "partial" / upload

    def is_forgotten(self, upload: str) -> bool:
        """Whether nothing is left of it: neither a row nor a file."""
        rows = asked(self.fleet.server.home, "SELECT id FROM update_uploads WHERE id = ?", upload)
        return not rows and not self.file(upload).exists()


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """The number and the narrowest name of a refusal."""
    told = answer.json()["error"]
    return answer.status_code, str(told["details"].get("kind", told["code"]))


class Cutter:
    """A socket between a device and the workbench, whose lines break after so many bytes, or are slow."""

    def __init__(self, target: Path, path: Path, budgets: list[int], pause: float = 0.0) -> None:
        self.target, self.path, self.budgets, self.pause = target, path, budgets, pause
        self.relayed = 0
        self.is_cutting = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with line, socket.socket(socket.AF_UNIX) as onward, contextlib.suppress(OSError):
            onward.connect(str(self.target))
            back = threading.Thread(target=self._back, args=(onward, line), daemon=True)
            back.start()
            sent = 0
            while piece := line.recv(1 << 16):
                large = sent > 1 << 17
                if large and self.budgets and sent > self.budgets[0]:
                    self.budgets.pop(0)
                    break  # both ends are hung up on
                if large and self.pause:
                    time.sleep(self.pause)
                onward.sendall(piece)
                sent += len(piece)
                self.relayed += len(piece)
            for end in (line, onward):
                end.shutdown(socket.SHUT_RDWR)

    def _back(self, onward: socket.socket, line: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := onward.recv(1 << 16):
                line.sendall(piece)

    def close(self) -> None:
        self._listener.close()


def through(device: Device, cutter: Cutter) -> Device:
    """The same device, on another line."""
    folder = device._folder
    identity = folder.read()
    folder.write(replace(identity, socket=str(cutter.path)))
    moved = Device(folder.path)
    folder.write(identity)
    return moved


# ------------------------------------------------------------------------------- lines that break
def test_a_line_cut_at_random_offsets_changes_no_bit_of_the_model(fleet: Fleet, device: Device) -> None:
    whole = Sender.joins(fleet, device)
    assert whole.submit(whole.envelope(whole.payload(whole.vector(5)))).status_code == 200
    cut, chance = Sender.joins(fleet, device), random.Random(7)  # noqa: S311  (guards nothing)
    envelope = cut.envelope(cut.payload(cut.vector(5)))
    upload, offset = cut.begun(envelope), 0
    for _ in range(4):
        cut.cut(upload, offset, envelope[offset:], chance.randrange(1, (len(envelope) - offset) // 2))
        until(lambda: code_of(cut.send(upload, 1 << 40, b""))[1] != "UploadBusy", 20)
        reached = cut.offset(upload)
        assert reached >= offset
        offset = reached
    answer = cut.send(upload, offset, envelope[offset:])
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["offset"], told["submitted"]["status"]) == (len(envelope), "accepted")
    assert told["submitted"]["receipt"]["envelope_sha256"] == hashlib.sha256(envelope).hexdigest()
    digests = {fleet.over(sender.round_id)["model_digest"] for sender in (whole, cut)}
    assert len(digests) == 1
    until(lambda: cut.is_forgotten(upload), 20)
    again = cut.begin(envelope).json()  # also when its round is over, and its upload forgotten
    assert (again["upload_id"], again["submitted"]["receipt"]) == (None, told["submitted"]["receipt"])


def test_a_device_goes_on_through_a_line_that_breaks_again_and_again(
    fleet: Fleet, device: Device, tmp_path: Path
) -> None:
    cutter = Cutter(fleet.server.socket, tmp_path / "line", [300_000, 900_000, 400_000, 700_000])
    sender = Sender.joins(fleet, device)
    moved = through(device, cutter)
    took = moved.take_part(sender.round_id, rows_of(0))
    assert took is not None
    assert took.status == "accepted"
    assert cutter.budgets == []
    size = asked(
        fleet.server.home, "SELECT size_bytes FROM participations WHERE round_id = ?", sender.round_id
    )[0][0]
    assert size < cutter.relayed < 1.5 * size  # begun anew each time, it would be nearly two of them
    moved.close()
    cutter.close()


# ------------------------------------------------------------------------------- what is refused
def test_a_wrong_offset_is_told_the_right_one(fleet: Fleet, device: Device) -> None:
    sender = Sender.joins(fleet, device)
    envelope = sender.envelope()
    upload = sender.begun(envelope)
    assert sender.send(upload, 0, envelope[:100_000]).json()["offset"] == 100_000
    for wrong in (0, 99_999, 100_001, 2**53):
        answer = sender.send(upload, wrong, envelope[:10])
        assert (answer.status_code, answer.headers["upload-offset"]) == (409, "100000")
    plain = sender.ask("PATCH", f"{sender.uploads}/{upload}", content=b"x")
    assert plain.status_code == 422
    assert sender.begin(envelope).json()["offset"] == 100_000  # the same again goes on
    sender.ask("DELETE", f"{sender.uploads}/{upload}")
    assert sender.is_forgotten(upload)


def test_other_bytes_than_were_said_have_to_be_sent_anew(fleet: Fleet, device: Device) -> None:
    sender = Sender.joins(fleet, device)
    envelope = sender.envelope()
    spoilt = envelope[:-1] + bytes([envelope[-1] ^ 1])
    upload = sender.begun(envelope)
    answer = sender.send(upload, 0, spoilt)
    assert (answer.status_code, "sha256" in answer.json()["error"]["message"]) == (422, True)
    assert sender.offset(upload) == 0
    assert sender.send(upload, 0, envelope).json()["submitted"]["status"] == "accepted"
    other = sender.begin(spoilt)
    assert code_of(other) == (409, "UpdateAlreadySubmitted")


def test_a_forged_or_foreign_envelope_is_refused_with_its_head(fleet: Fleet, device: Device) -> None:
    sender, elsewhere = Sender.joins(fleet, device), Sender.joins(fleet, device)
    whole = sender.envelope()
    wrong = {
        "did not sign": sender.envelope(signing_key=SigningKey.generate()),
        "another round_id": elsewhere.envelope(),
        "another device_id": sender.envelope(device_id=f"dev_{'0' * 32}"),
        "too old": sender.envelope(created_at=1),
        "does not begin": b"x" * len(whole),
    }
    for reason, envelope in wrong.items():
        upload = sender.begun(envelope)
        answer = sender.send(upload, 0, envelope[:30_000])  # of three megabytes
        assert code_of(answer) == (422, "EnvelopeBroken")
        assert reason in answer.json()["error"]["message"]
        assert sender.is_forgotten(upload)
    assert len(refusals(fleet, device.id)) >= len(wrong)
    shorter = sender.begun(whole, size=len(whole) - 1)
    assert code_of(sender.send(shorter, 0, whole[:30_000])) == (422, "EnvelopeBroken")


def test_no_more_comes_than_was_claimed_and_no_more_is_claimed_than_can_be(
    fleet: Fleet, device: Device
) -> None:
    sender = Sender.joins(fleet, device)
    huge = sender.begin(b"", size=10 << 30, sha256="0" * 64)
    assert (huge.status_code, huge.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert sender.begin(b"", size=2**60, sha256="0" * 64).status_code == 422
    assert sender.begin(b"", size=100, sha256="../../etc").status_code == 422
    envelope = sender.envelope()
    upload = sender.begun(envelope)
    assert sender.send(upload, 0, envelope[:50_000]).status_code == 200
    more = sender.send(upload, 50_000, envelope[50_000:] + b"x" * (1 << 20))
    assert (more.status_code, "more than the size" in more.json()["error"]["message"]) == (422, True)
    assert sender.offset(upload) == 50_000
    assert sender.send(upload, 50_000, envelope[50_000:]).json()["submitted"]["status"] == "accepted"


def test_an_upload_is_its_devices_own(fleet: Fleet, device: Device) -> None:
    other_device = fleet.enroll("another in the round")
    criteria = {"min_participants": 2}
    sender = Sender(fleet, device, fleet.start(model_config=MODEL, participant_criteria=criteria)["id"])
    fleet.recruiting(sender.round_id)
    other = Sender(fleet, other_device, sender.round_id)
    for each in (device, other_device):
        each.join(sender.round_id)
    outside = Sender(fleet, fleet.enroll("one outside"), sender.round_id)
    envelope = sender.envelope()
    upload = sender.begun(envelope)
    for stranger, code in ((other, "UPLOAD_NOT_FOUND"), (outside, "ROUND_NOT_FOUND")):
        for method in ("GET", "PATCH", "DELETE"):
            answer = stranger.ask(method, f"{sender.uploads}/{upload}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, code)
    stolen = other.begun(envelope)  # what another has signed and sealed is refused with its head
    assert code_of(other.send(stolen, 0, envelope[:30_000])) == (422, "EnvelopeBroken")
    assert sender.send(upload, 0, envelope).status_code == 200


# ------------------------------------------------------------------------------- what ends an upload
@pytest.mark.parametrize("end", ["revoked", "deregistered", "cancelled"])
def test_nothing_is_left_of_an_upload_whose_device_or_round_is_no_more(fleet: Fleet, end: str) -> None:
    sender = Sender.joins(fleet, fleet.enroll(f"one whose part is {end}"))
    envelope = sender.envelope()
    upload, token = sender.begun(envelope), sender.token()
    assert sender.send(upload, 0, envelope[:100_000]).status_code == 200
    assert sender.file(upload).stat().st_size == 100_000
    assert stat.S_IMODE(sender.file(upload).stat().st_mode) == 0o600
    match end:
        case "revoked":
            done = fleet.http.post(f"/workbench/v1/devices/{sender.device.id}/revoke")
        case "deregistered":
            done = fleet.http.delete(f"/api/v1/devices/{sender.device.id}")
        case "cancelled":
            campaign = fleet.round(sender.round_id)["campaign_id"]
            done = fleet.http.delete(f"/workbench/v1/federation/campaigns/{campaign}")
    assert done.status_code == 200, done.text
    assert sender.is_forgotten(upload)
    headers = {"Upload-Offset": "100000", "Content-Type": OCTETS, "Authorization": f"Bearer {token}"}
    late = fleet.http.patch(f"{sender.uploads}/{upload}", content=envelope[100_000:], headers=headers)
    assert late.status_code == (404 if end == "cancelled" else 403), late.text
    assert sender.is_forgotten(upload)


def test_after_the_deadline_nothing_more_is_taken(fleet: Fleet, device: Device) -> None:
    sender = Sender.joins(fleet, device, training_seconds=4.0)
    envelope = sender.envelope()
    upload = sender.begun(envelope)
    assert sender.send(upload, 0, envelope[:100_000]).status_code == 200
    until(lambda: fleet.round(sender.round_id)["phase"] == "failed", 20)
    assert code_of(sender.send(upload, 100_000, envelope[100_000:])) == (404, "UPLOAD_NOT_FOUND")
    assert code_of(sender.begin(envelope)) == (409, "RoundNotOpen")
    until(lambda: sender.is_forgotten(upload), 20)


def test_an_upload_has_its_time(fleet: Fleet, device: Device) -> None:
    sender = Sender.joins(fleet, device)
    envelope = sender.envelope()
    upload = sender.begun(envelope)
    sender.send(upload, 0, envelope[:100_000])
    asked(fleet.server.home, "UPDATE update_uploads SET expires_at = 1 WHERE id = ?", upload)
    until(lambda: sender.is_forgotten(upload), 20)
    assert sender.ask("GET", f"{sender.uploads}/{upload}").status_code == 404
    assert sender.submit(envelope).status_code == 200  # whole, it is taken as ever


# ------------------------------------------------------------------------------- two at once
@pytest.mark.parametrize("last", [None, 2_000_000], ids=["all of it", "a part"])
def test_of_two_who_send_at_once_one_waits_and_the_last_that_was_begun_counts(
    fleet: Fleet, device: Device, last: int | None
) -> None:
    sender = Sender.joins(fleet, device)
    first, second = sender.envelope(sender.payload(sender.vector(1))), sender.envelope()
    upload, may_end = sender.begun(first), threading.Event()

    def slowly(end: int | None) -> Iterator[bytes]:
        yield first[:1_500_000]
        may_end.wait(20)
        yield first[1_500_000:end]

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(sender.send, upload, 0, slowly(last))
        until(lambda: sender.file(upload).exists() and sender.file(upload).stat().st_size, 20)
        assert code_of(sender.send(upload, 0, first)) == (409, "UploadBusy")
        other = sender.begun(second)
        assert other != upload
        may_end.set()
        assert code_of(sending.result(30)) == (404, "UPLOAD_NOT_FOUND")
    assert sender.is_forgotten(upload)
    assert sender.send(other, 0, second).json()["submitted"]["status"] == "accepted"


@pytest.mark.parametrize("hidden", [[8], [1000, 800]], ids=["small", "large"])
def test_a_device_waits_until_there_is_a_place_for_its_update(
    fleet: Fleet, device: Device, hidden: list[int]
) -> None:
    sender = Sender.joins(fleet, device, model_config={**MODEL, "hidden_sizes": hidden})
    may_end, token = threading.Event(), sender.token()

    def drips() -> Iterator[bytes]:
        yield b"x"
        may_end.wait(40)

    with ThreadPoolExecutor(5) as pool:
        dripping = [pool.submit(sender.submit, drips(), token=token) for _ in range(4)]
        until(lambda: sum(name.startswith(".new-") for name in blobs(fleet)) == 4, 20)
        taking = pool.submit(device.take_part, sender.round_id, rows_of(0))
        time.sleep(4)  # it is told that there is no place, again and again
        may_end.set()
        took = taking.result(60)
        assert {each.result(20).status_code for each in dripping} == {422}
    assert took is not None
    assert took.status == "accepted"


# ------------------------------------------------------------------------------- processes that die
@pytest.mark.timeout(120)
def test_a_workbench_that_is_killed_has_what_it_had_stored(fleet: Fleet, device: Device) -> None:
    sender = Sender.joins(fleet, device)
    envelope = sender.envelope(sender.payload(sender.vector(3)))
    upload, token = sender.begun(envelope), sender.token()

    def killed() -> Iterator[bytes]:
        yield envelope[:2_200_000]
        until(lambda: sender.file(upload).stat().st_size >= 1 << 20, 20)
        fleet.server.kill()
        yield envelope[2_200_000:]

    headers = {"Upload-Offset": "0", "Content-Type": OCTETS, "Authorization": f"Bearer {token}"}
    with fleet.server.client() as leaving, contextlib.suppress(httpx.TransportError):
        leaving.patch(f"{sender.uploads}/{upload}", content=killed(), headers=headers)
    stored = sender.file(upload).stat().st_size
    assert 1 << 20 <= stored < len(envelope)
    stray = sender.file("upd-00000000-0000-0000-0000-000000000000")
    stray.write_bytes(b"of an upload that nobody knows")
    fleet.server.restart()
    assert not stray.exists()
    assert sender.offset(upload) == stored
    told = sender.send(upload, stored, envelope[stored:]).json()["submitted"]
    assert told["receipt"]["envelope_sha256"] == hashlib.sha256(envelope).hexdigest()


@pytest.mark.timeout(120)
def test_a_device_that_is_killed_sends_the_same_bytes_from_where_it_stopped(
    fleet: Fleet, device: Device, tmp_path: Path
) -> None:
    cutter = Cutter(fleet.server.socket, tmp_path / "line", [], pause=0.1)
    sender = Sender.joins(fleet, device)
    moved = through(device, cutter)
    moved.close()
    folder, identity = device._folder, device._folder.read()
    folder.write(replace(identity, socket=str(cutter.path)))
    process = subprocess.Popen(
        [sys.executable, "-c", DIES, str(folder.path), sender.round_id], cwd=Path.cwd()
    )
    question = "SELECT id FROM update_uploads WHERE round_id = ?"
    until(lambda: asked(fleet.server.home, question, sender.round_id), 60)
    file = sender.file(asked(fleet.server.home, question, sender.round_id)[0][0])
    until(lambda: file.exists() and file.stat().st_size, 20)
    process.kill()
    process.wait()
    folder.write(identity)
    cutter.close()
    kept = folder.path / f"update-{sender.round_id}.sealed"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    digest, size = hashlib.sha256(kept.read_bytes()).hexdigest(), kept.stat().st_size
    took = Device(folder.path).take_part(sender.round_id, {})  # no rows: it does not learn again
    assert took is not None
    assert (took.status, took.receipt["envelope_sha256"]) == ("accepted", digest)
    assert took.samples == len(rows_of(0)["targets"])
    assert (took.receipt["size_bytes"], cutter.relayed < 1.2 * size) == (size, True)
    assert list(folder.path.glob("update-*")) == []


def kept_but_unread(fleet: Fleet, device: Device, **asked: Any) -> tuple[Sender, SealedUpdate]:
    """A device that died after the workbench had taken its update, before it had read the answer."""
    sender = Sender.joins(fleet, device, **asked)
    part = device._part(sender.round_id)
    assignment = part.await_assignment(10) or {}
    envelope, learned = part.learn(assignment, rows_of(0))
    update = SealedUpdate(
        *(sender.round_id, assignment["campaign_id"], assignment["round_number"], learned.samples),
        metrics=dict(learned.metrics),
        sha256=hashlib.sha256(envelope).hexdigest(),
        size=len(envelope),
        kinds=tuple(part._to_remember),
    )
    part.updates.keep(update, envelope, part._to_remember)
    assert sender.submit(envelope).status_code == 200
    return sender, update


@pytest.mark.parametrize("hidden", [[8], [1000, 800]], ids=["small", "large"])
def test_an_answer_that_was_lost_is_given_again_after_the_round(
    fleet: Fleet, device: Device, hidden: list[int]
) -> None:
    model = {**MODEL, "hidden_sizes": hidden}
    more = {"compression": "top-k", "compression_keep": 0.9, "model_config": model}
    sender, update = kept_but_unread(fleet, device, **more)
    assert fleet.over(sender.round_id)["phase"] == "completed"
    back = Device(device._folder.path)
    (took,) = back.learn({}, rounds=1, idle=0)
    assert (took.round_id, took.status) == (sender.round_id, "accepted")
    assert took.receipt["envelope_sha256"] == update.sha256
    left = of_round(update.campaign_id, sender.round_id)
    assert (
        back._folder.path / f"residual-{left}.safetensors"
    ).exists()  # what was left out is remembered as if nothing had happened
    assert list(back._folder.path.glob("*update-*")) == []
    assert list(back._folder.path.glob("pending-*")) == []
    assert back.take_part(sender.round_id, rows_of(0)) is None
    back.close()


def test_an_update_that_was_sent_again_is_in_the_model_however_long_the_round_trains(
    fleet: Fleet, device: Device
) -> None:
    round_id = fleet.start(model_config=MODEL)["id"]
    fleet.recruiting(round_id)
    senders = [Sender(fleet, each, round_id) for each in (device, fleet.enroll("one that takes hours"))]
    for sender in senders:
        sender.device.join(round_id)
    first, last = (sender.envelope() for sender in senders)
    upload = senders[0].begun(first)
    for _ in range(2):  # its answer was lost, say
        assert senders[0].submit(first).status_code == 200
    assert senders[0].send(upload, 0, b"").json()["submitted"]["status"] == "accepted"
    asked(fleet.server.home, "UPDATE left_blobs SET due_at = due_at - 3600")
    time.sleep(1.5)  # what is due is removed
    assert senders[1].submit(last).status_code == 200
    assert fleet.over(round_id)["progress"]["completed_devices"] == 2


def test_a_receipt_for_other_bytes_is_not_believed(fleet: Fleet, device: Device) -> None:
    sender, update = kept_but_unread(fleet, device, model_config={**MODEL, "hidden_sizes": [8]})
    part = device._part(sender.round_id)
    with pytest.raises(AssignmentInvalid, match="another update"):
        part.deliver(replace(update, sha256="0" * 64))
    assert part.kept() == update
    part.updates.path(sender.round_id).write_bytes(b"spoilt")
    assert part.kept() is None
    part.updates.forget(sender.round_id)


def test_an_update_that_was_rejected_is_told_so_whoever_looks(fleet: Fleet, device: Device) -> None:
    """A device whose line broke with the last piece asks how much is there."""
    sender = Sender.joins(fleet, device, participant_criteria={"min_participants": 2})
    fleet.enroll("one that has time").join(sender.round_id)
    envelope = sender.envelope(spoiled(sender, float("nan")))
    upload = sender.begun(envelope)
    question = "SELECT id FROM participations WHERE round_id = ? AND status = 'rejected'"
    sender.cut(upload, 0, envelope, len(envelope))
    until(lambda: asked(fleet.server.home, question, sender.round_id))
    for answer in (sender.ask("GET", f"{sender.uploads}/{upload}"), sender.begin(envelope)):
        assert code_of(answer) == (409, "UpdateRejected")


def test_an_update_that_comes_too_late_is_not_kept(fleet: Fleet, device: Device) -> None:
    sender = Sender.joins(fleet, device)
    part = device._part(sender.round_id)
    assignment = part.await_assignment(10) or {}
    envelope, learned = part.learn(assignment, rows_of(0))
    fleet.http.delete(f"/workbench/v1/federation/campaigns/{assignment['campaign_id']}")
    with pytest.raises(RoundNotOpen):
        part.submit(assignment, envelope, learned)
    assert part.kept() is None
    assert device._deliver_kept() is None


# ------------------------------------------------------------------------------- under masks
@pytest.mark.timeout(120)
def test_a_masked_vector_that_was_sealed_counts_though_its_device_died(fleet: Fleet, device: Device) -> None:
    team = (device, *(fleet.enroll(f"under masks {number}") for number in range(3)))
    criteria = {"min_participants": 4, "quorum": 3}
    more: dict[str, Any] = {"secure_aggregation": True, "training_seconds": 120.0}
    round_id = fleet.start(model_config=MODEL, participant_criteria=criteria, **more)["id"]
    fleet.recruiting(round_id)

    def dies_and_comes_back() -> TookPart | None:
        masked = begun_masked(device, round_id)
        masked.share()
        masked.report()
        masked._await("mask")
        learned, _ = masked.part.learned(masked.assignment, rows_of(0))
        words = masked.participant.mask(masked.encoding.words(learned.delta, learned.samples))
        envelope = masked.part.sealed(masked.assignment, words.astype("<u4").tobytes())
        about = (round_id, masked.assignment["campaign_id"], 1, learned.samples)
        update = SealedUpdate(*about, {}, hashlib.sha256(envelope).hexdigest(), len(envelope))
        masked.part.updates.keep(update, envelope, {})
        return Device(device._folder.path).take_part(round_id, {})  # in pieces, and without its secrets

    with ThreadPoolExecutor(4) as pool:
        back = pool.submit(dies_and_comes_back)
        others = [
            pool.submit(each.take_part, round_id, rows_of(number)) for number, each in enumerate(team[1:])
        ]
        took = [each.result(60) for each in (back, *others)]
    assert all(isinstance(each, TookPart) for each in took), took
    ended = fleet.over(round_id)
    assert (ended["phase"], ended["progress"]["completed_devices"]) == ("completed", 4), ended


# ------------------------------------------------------------------------------- what a manifest says
def test_a_manifest_that_names_another_compression_is_refused(fleet: Fleet, device: Device) -> None:
    sender = Sender.joins(fleet, device)
    small, plain = sender.payload(kind="int8"), sender.payload()
    for payload, said in ((small, "none"), (plain, "int8"), (plain, "masked"), (plain, "of-my-own")):
        answer = sender.submit(sender.envelope(payload, compression=said))
        assert answer.status_code == 422
        assert "another compression" in answer.json()["error"]["message"]
    assert fleet.parts(sender.round_id)[device.id]["status"] == "joined"
    assert sender.submit(sender.envelope(small, compression="int8")).status_code == 200


def test_where_a_long_header_names_it_the_worker_refuses_it(fleet: Fleet, device: Device) -> None:
    sender, more = Sender.joins(fleet, device), 70 << 10
    small = sender.payload(kind="int8")
    start = 8 + int.from_bytes(small[:8], "little")
    padded = (start - 8 + more).to_bytes(8, "little") + small[8:start] + b" " * more + small[start:]
    answer = sender.submit(sender.envelope(padded, compression="none"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "UPDATE_REJECTED")
    assert "another compression" in answer.json()["error"]["message"]


@pytest.mark.parametrize(("hidden", "way"), [([8], "submit_update"), ([1000, 800], "begin_update")])
def test_small_updates_go_at_once_and_large_ones_in_pieces(
    fleet: Fleet, device: Device, hidden: list[int], way: str
) -> None:
    sender = Sender.joins(fleet, device, model_config={**MODEL, "hidden_sizes": hidden})
    question = "SELECT action FROM audit_entries WHERE actor_id = ? AND action LIKE '%update' ORDER BY number"
    before = len(asked(fleet.server.home, question, device.id))
    assert device.take_part(sender.round_id, rows_of(0)) is not None
    done = [row[0].rpartition(".")[2] for row in asked(fleet.server.home, question, device.id)[before:]]
    assert done == ([way] if way == "submit_update" else [way, "send_update"])
