"""Whenever a device dies in a round, the round ends, and what the device had begun it can take up again."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import numpy as np
import pytest

from tests.federation.attacking import Attacker, asked, blobs, left
from tests.federation.conftest import Fleet, rows_of, until
from tests.federation.test_round_crashes import nothing_is_left
from tests.federation.test_rounds import both
from tg_workbench.device.memories import of_round
from tg_workbench.sdk.device import Device


def test_a_device_may_die_at_every_step_and_the_round_ends_by_its_deadline(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    dying = {name: fleet.enroll(name) for name in ("joins", "downloads", "uploads half", "submits")}
    criteria = {
        "min_participants": 2,
        "target_participants": 6,
        "max_participants": 6,
        "quorum": 2,
    }
    started = fleet.start(participant_criteria=criteria, training_seconds=12.0)
    round_id = started["id"]
    fleet.recruiting(round_id)
    for device in (*pair, *dying.values()):
        device.join(round_id)
    dead = {name: Attacker(fleet, device, round_id) for name, device in dying.items()}
    token = dead["downloads"].token()
    path = f"/workbench/v1/federation/rounds/{round_id}/model"
    assert fleet.http.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    half = dead["uploads half"].envelope()

    def dies() -> Iterator[bytes]:
        yield half[: len(half) // 2]
        raise ConnectionError

    before = blobs(fleet)
    with pytest.raises(ConnectionError):
        dead["uploads half"].submit(dies())
    until(lambda: not left(fleet, before))
    whole = dead["submits"].envelope()
    head = (
        f"POST /api/v1/fl/rounds/{round_id}/submit HTTP/1.1",
        *("Host: workbench", f"Authorization: Bearer {dead['submits'].token()}"),
        *("Content-Type: application/octet-stream", f"Content-Length: {len(whole)}", "", ""),
    )
    arrived = "SELECT id FROM participations WHERE device_id = ? AND digest IS NOT NULL"
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(fleet.server.socket))
        line.sendall("\r\n".join(head).encode() + whole)
        until(lambda: asked(fleet.server.home, arrived, dying["submits"].id))  # its answer is not read
    again_submitted = dead["submits"].submit(whole)
    assert (again_submitted.status_code, again_submitted.json()["status"]) == (200, "accepted")
    both(pair, round_id)
    ended = fleet.over(round_id)
    assert (ended["status"], ended["progress"]["completed_devices"]) == ("completed", 3), ended
    nothing_is_left(fleet, round_id)


def test_a_device_that_died_before_it_had_submitted_takes_its_part_up_again(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    started = fleet.start()
    fleet.recruiting(started["id"])
    for device in pair:
        device.join(started["id"])
    part = pair[0]._part(started["id"])
    part.learn(part.await_assignment(10) or {}, rows_of(0))  # and dies
    took = both((Device(pair[0]._folder.path), pair[1]), started["id"])
    assert all(each is not None and each.status == "accepted" for each in took)
    assert fleet.over(started["id"])["status"] == "completed"


def test_what_a_device_leaves_out_is_remembered_once_its_update_has_arrived(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    started = fleet.start(
        compression="top-k", compression_keep=0.5, participant_criteria={"min_participants": 1}
    )
    fleet.recruiting(started["id"])
    part = pair[0]._part(started["id"])
    part.join()
    assignment = part.await_assignment(10)
    assert assignment is not None
    campaign, size = started["campaign_id"], Attacker(fleet, pair[0], started["id"]).layout.size

    def left_out() -> float:
        left = of_round(campaign, started["id"])
        return float(np.abs(part.folder.remembered("residual", left, size)).sum())

    part.learn(assignment, rows_of(0))  # and dies
    assert left_out() == 0
    again_part = pair[0]._part(started["id"])
    envelope, learned_again = again_part.learn(assignment, rows_of(0))
    assert left_out() == 0
    again_part.submit(assignment, envelope, learned_again)
    assert left_out() > 0
    fleet.over(started["id"])


def test_what_a_device_that_died_has_left_half_written_goes(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    alone = {"participant_criteria": {"min_participants": 1}}
    started = [fleet.start(**alone) for _ in range(2)]
    folder = pair[0]._folder.path
    half = [".new-a8c_12xy", "update-round_0.sealed", "pending-residual-round_0.safetensors"]
    for name in half:  # it was killed while it kept an update, and never comes back to that round
        (folder / name).write_bytes(b"half")
    for each in started:
        fleet.recruiting(each["id"])
        took = pair[0].take_part(each["id"], rows_of(0))
        assert took is not None
        assert took.status == "accepted"
    assert [name for name in half if (folder / name).exists()] == []
    assert [path.name for path in folder.iterdir() if path.name.startswith((".new-", "update-"))] == []


def test_no_update_is_in_any_log(fleet: Fleet, pair: tuple[Device, Device]) -> None:
    home = fleet.server.home
    logs = [fleet.server.log, *home.glob("logs/*")]
    before = {
        path: path.stat().st_size for path in logs if path.is_file()
    }  # others have failed here on purpose
    started = fleet.start()
    fleet.recruiting(started["id"])
    for device in pair:
        device.join(started["id"])
    attackers = [Attacker(fleet, device, started["id"]) for device in pair]
    marked = np.full(attackers[0].layout.size, 0.0123456, np.float32)
    for attacker in attackers:
        attacker.submit(attacker.envelope(attacker.payload(marked)))
    fleet.over(started["id"])
    text = "".join(path.read_bytes()[size:].decode(errors="replace") for path, size in before.items())
    key = str(attackers[0].identity.signing_key.seed.hex())
    assert "0.01234" not in text
    assert key not in text
    assert "Traceback" not in text
