"""Rounds that are the filling of a buffer (FedBuff): devices come when they like, and the late still count.

And campaigns of many rounds, of which one may have too few devices.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.federation.attacking import Attacker, asked, blobs, code_of
from tests.federation.conftest import Fleet, rows_of, until
from tg_workbench import Workbench
from tg_workbench.errors import RoundNotOpen
from tg_workbench.sdk.device import Device, TookPart

TOO_LATE = "it is too late: 2 models were made meanwhile, and at most 1 may be"
TOO_LATE_FOR_NONE = "it is too late: 1 models were made meanwhile, and at most 0 may be"


@pytest.fixture(scope="module")
def trio(mortal: Fleet) -> tuple[Device, Device, Device]:
    """Three devices in the order of their ids; the last is the slow one."""
    made = sorted((mortal.enroll() for _ in range(3)), key=lambda device: device.id)
    return made[0], made[1], made[2]


def started(fleet: Fleet, *, rounds: int = 3, max_staleness: int = 4, **criteria: Any) -> str:
    """The campaign of a buffer of two updates, or of as many as `criteria` say."""
    told = fleet.start(
        rounds=rounds,
        strategy="fedbuff",
        strategy_options={"max_staleness": max_staleness},
        participant_criteria={"min_participants": 1, "target_participants": 2, **criteria},
    )
    return str(told["campaign_id"])


def found_in(fleet: Fleet, campaign: str, number: int, phase: str) -> str:
    """The id of a round, once it is in a phase; past the API, which may be dead."""
    question = "SELECT id FROM rounds WHERE campaign_id = ? AND number = ? AND phase = ?"
    until(lambda: bool(asked(fleet.server.home, question, campaign, number, phase)))
    return str(asked(fleet.server.home, question, campaign, number, phase)[0][0])


def training(fleet: Fleet, campaign: str, number: int) -> str:
    """The id of a round, once it trains."""
    return found_in(fleet, campaign, number, "training")


def hand_in(fleet: Fleet, device: Device, round_id: str, seed: int = 1) -> NDArray[np.float32]:
    """Join a round, if it is not joined yet, and submit; what was submitted."""
    attacker = Attacker(fleet, device, round_id)
    vector = attacker.vector(seed)
    answer = attacker.submit(attacker.envelope(attacker.payload(vector)))
    assert (answer.status_code, answer.json()["status"]) == (200, "accepted"), answer.text
    return vector


def start_of(device: Device, round_id: str) -> NDArray[np.float32]:
    """The parameters that a round starts from, as a device is given them."""
    part = device._part(round_id)
    assignment = part.await_assignment(10)
    assert assignment is not None
    return part._fetch(assignment, Attacker(None, device, round_id).layout)[0]  # type: ignore[arg-type]


def keys_of(fleet: Fleet, campaign: str) -> list[bool]:
    """Whether the keys and the model of each of its rounds are there still."""
    question = "SELECT sealed_keys IS NOT NULL, download_blob IS NOT NULL FROM rounds WHERE campaign_id = ?"
    found = asked(fleet.server.home, f"{question} ORDER BY number", campaign)
    assert all(keys == download for keys, download in found)
    return [bool(keys) for keys, _ in found]


def in_a_round(fleet: Fleet) -> set[str]:
    """The devices that train."""
    return {
        row[0] for row in asked(fleet.server.home, "SELECT id FROM devices WHERE current_round IS NOT NULL")
    }


def cancel(fleet: Fleet, campaign: str) -> None:
    """End a campaign."""
    answer = fleet.http.delete(f"/workbench/v1/federation/campaigns/{campaign}")
    assert answer.json().get("status") == "cancelled", answer.text


def signal_worker(fleet: Fleet, campaign: str, number: signal.Signals) -> None:
    """Tell the campaign's worker something."""
    question = "SELECT pid FROM work WHERE id = ? AND pid IS NOT NULL"
    for (pid,) in asked(fleet.server.home, question, campaign):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def paused_worker(fleet: Fleet, campaign: str) -> Iterator[None]:
    """A block in which the campaign's worker does nothing, and locks nothing, until it is told to go on."""

    def is_paused() -> bool:
        signal_worker(fleet, campaign, signal.SIGSTOP)
        try:
            with contextlib.closing(sqlite3.connect(fleet.server.home / "tgsp.db", timeout=0.5)) as database:
                database.execute("BEGIN IMMEDIATE")
            return True
        except sqlite3.OperationalError:
            signal_worker(fleet, campaign, signal.SIGCONT)
            return False

    until(is_paused)
    try:
        yield
    finally:
        signal_worker(fleet, campaign, signal.SIGCONT)


def nothing_is_left(fleet: Fleet, campaign: str) -> None:
    """Neither keys nor files of a campaign that is over, and nobody trains for it."""
    assert not any(keys_of(fleet, campaign))
    question = (
        "SELECT digest, blob, p.ended_at FROM participations p JOIN rounds r ON r.id = p.round_id "
        "WHERE campaign_id = ?"
    )
    parts = asked(fleet.server.home, question, campaign)
    assert [part for part in parts if part[1] is not None or part[2] is None] == []
    until(lambda: not {part[0] for part in parts} & blobs(fleet), 20.0)
    assert in_a_round(fleet) == set()


class Rows(Mapping[str, NDArray[Any]]):
    """Rows that can be read while something is so, and have to be waited for else."""

    def __init__(self, seed: int, is_ready: Callable[[], bool]) -> None:
        self.rows = rows_of(seed)
        self.is_ready = is_ready

    def __getitem__(self, name: str) -> NDArray[Any]:
        until(self.is_ready)
        return self.rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


# ----------------------------------------------------------------------------- the late count
def test_three_devices_at_different_speeds_learn_together_and_nobody_waits_for_the_slowest(
    mortal: Fleet, trio: tuple[Device, Device, Device]
) -> None:
    """The slow one begins to learn when two models have been made; a third is not made before it is in."""
    slow, campaign, is_over = trio[2], started(mortal, rounds=6), threading.Event()
    took: dict[str, list[TookPart]] = {device.id: [] for device in trio}
    slow.join(training(mortal, campaign, 1))

    def has_made_two() -> bool:
        return bool(
            asked(mortal.server.home, "SELECT rounds_done FROM campaigns WHERE id = ?", campaign)[0][0] >= 2
        )

    def goes_on() -> bool:
        return bool(took[slow.id]) or not has_made_two()

    def learn(device: Device, rows: Rows) -> None:
        while not is_over.is_set():
            took[device.id] += device.learn(rows, rounds=1, idle=1)

    threads = [
        threading.Thread(target=learn, args=(device, Rows(seed, is_ready)))
        for seed, (device, is_ready) in enumerate(zip(trio, (goes_on, goes_on, has_made_two), strict=True))
    ]
    for thread in threads:
        thread.start()
    try:
        seen = mortal.campaign_over(campaign)
    finally:
        is_over.set()
        for thread in threads:
            thread.join(60)
    assert (seen["status"], seen["rounds_done"]) == ("completed", 6), seen
    assert {each["progress"]["completed_devices"] for each in seen["history"]} == {2}
    assert [each["progress"]["stalest_update"] for each in seen["history"][:3]] == [0, 0, 2]
    first, third = seen["history"][0]["id"], seen["history"][2]["id"]
    part = mortal.parts(third)[slow.id]
    assert (part["status"], part["round_id"]) == ("accepted", first)
    assert (took[slow.id][0].round_id, took[slow.id][0].status) == (first, "accepted")
    assert seen["history"][-1]["progress"]["avg_accuracy"] > 0.6
    nothing_is_left(mortal, campaign)
    with Workbench(socket=str(mortal.server.socket), api_key=mortal.server.api_key) as workbench:
        known = workbench.federation[campaign]
        stalest = [each.progress.stalest_update or 0 for each in known.rounds()]
        rounds = {part.round_id for each in known.rounds() for part in known.participations(each)}
    assert stalest[2] == 2
    assert rounds == {each["id"] for each in seen["history"]}


@pytest.mark.operation("S2-12", "S2-13", "S2-14")
def test_an_update_that_comes_late_counts_in_the_round_that_trains_and_less(
    mortal: Fleet, trio: tuple[Device, Device, Device]
) -> None:
    quick, steady, slow = trio
    campaign = started(mortal)
    first = training(mortal, campaign, 1)
    for device in trio:
        assert device.join(first)["assignment"] is not None
        device.heartbeat()
    listed = mortal.http.get("/api/v1/devices", params={"status": "training"}).json()["devices"]
    assert {each["id"] for each in listed} == {device.id for device in trio}
    for device in (quick, steady):
        hand_in(mortal, device, first)
    second = training(mortal, campaign, 2)
    ended = mortal.round(first)
    assert (ended["status"], ended["model_version"], ended["participants"]) == ("completed", "v1", 3)
    assert in_a_round(mortal) == {slow.id}
    assert [each["id"] for each in slow.rounds()] == [first]  # so does one that begins anew
    with pytest.raises(RoundNotOpen, match=f"takes part in {first} still"):
        slow.join(second)
    before = start_of(quick, second)
    attacker = Attacker(mortal, slow, first)
    late = attacker.vector(5)
    envelope, other = (attacker.envelope(attacker.payload(late)) for _ in range(2))
    answer = attacker.submit(envelope)
    assert (answer.status_code, answer.json()["status"]) == (200, "accepted")
    assert attacker.submit(envelope).json() == answer.json()
    assert code_of(attacker.submit(other)) == (409, "UPDATE_ALREADY_SUBMITTED")
    assert mortal.parts(second)[slow.id]["round_id"] == first
    for round_id, accepted, members in ((first, 2, 2), (second, 1, 2)):
        seen = mortal.round(round_id)
        parts = Counter(part["status"] for part in mortal.parts(round_id).values())
        assert (seen["progress"]["completed_devices"], seen["participants"]) == (accepted, members)
        assert (parts["accepted"], parts.total()) == (accepted, members)
    assert second not in [each["id"] for each in slow.rounds()]
    with pytest.raises(RoundNotOpen, match="goes into this round's model already"):
        slow.join(second)
    fresh = hand_in(mortal, quick, second, seed=6)
    third = training(mortal, campaign, 3)
    assert mortal.round(second)["progress"]["stalest_update"] == 1
    assert keys_of(mortal, campaign) == [False, False, True]
    expected = before + (fresh + late / np.float32(math.sqrt(2))) / 2
    np.testing.assert_allclose(start_of(slow, third), expected, atol=1e-6)
    assert attacker.submit(envelope).json()["receipt"] == answer.json()["receipt"]
    assert code_of(attacker.submit(other))[0] == 422
    cancel(mortal, campaign)
    nothing_is_left(mortal, campaign)


def test_what_comes_too_late_is_refused_and_its_keys_are_gone(
    mortal: Fleet, trio: tuple[Device, Device, Device]
) -> None:
    quick, steady, slow = trio
    campaign = started(mortal, rounds=4, max_staleness=1)
    first = training(mortal, campaign, 1)
    slow.join(first)
    attacker = Attacker(mortal, slow, first)
    envelope = attacker.envelope()
    for number in (1, 2):
        round_id = training(mortal, campaign, number)
        assert keys_of(mortal, campaign) == [True] * number
        for device in (quick, steady):
            hand_in(mortal, device, round_id)
    third = training(mortal, campaign, 3)
    assert keys_of(mortal, campaign) == [False, False, True]
    part = mortal.parts(first)[slow.id]
    assert (part["status"], part["reason"]) == ("dropped", TOO_LATE)
    refused = attacker.submit(envelope)
    assert code_of(refused) == (409, "TRAINING_IN_PROGRESS")
    assert TOO_LATE in refused.text
    path = f"/workbench/v1/federation/rounds/{first}/model"
    download = mortal.http.get(path, headers={"Authorization": f"Bearer {attacker.token()}"})
    assert download.status_code == 409
    assert slow.join(first)["assignment"] is None
    assert [each["id"] for each in slow.rounds()] == [third]
    hand_in(mortal, slow, third)
    cancel(mortal, campaign)


@pytest.mark.parametrize("end", ["too late", "cancelled"])
def test_a_device_whose_update_is_dropped_while_it_waits_hears_why(
    mortal: Fleet, trio: tuple[Device, Device, Device], end: str
) -> None:
    quick, steady, slow = trio
    campaign = started(mortal, max_staleness=0)
    first = training(mortal, campaign, 1)
    for device in trio:
        device.join(first)
    hand_in(mortal, quick, first)
    question = "SELECT device_id FROM participations WHERE round_id = ? AND status = 'submitted'"
    with paused_worker(mortal, campaign), ThreadPoolExecutor(2) as pool:
        sending = []
        for device in (steady, slow):
            sending.append(pool.submit(device.take_part, first, rows_of(1)))
            until(lambda: (device.id,) in asked(mortal.server.home, question, first))  # noqa: B023
        if end == "cancelled":
            cancel(mortal, campaign)
        else:
            signal_worker(mortal, campaign, signal.SIGCONT)
            took = sending[0].result(30)
            assert took is not None
            assert took.status == "accepted"
        told = TOO_LATE_FOR_NONE if end == "too late" else "the round ended before"
        with pytest.raises(RoundNotOpen, match=told):
            sending[1].result(30)
    assert mortal.parts(first)[slow.id]["status"] == "dropped"
    assert slow._part(first).kept() is None
    if end == "too late":
        cancel(mortal, campaign)
    nothing_is_left(mortal, campaign)


def test_nothing_late_is_taken_for_a_campaign_that_was_cancelled(
    mortal: Fleet, trio: tuple[Device, Device, Device]
) -> None:
    quick, steady, slow = trio
    campaign = started(mortal)
    first = training(mortal, campaign, 1)
    slow.join(first)
    attacker = Attacker(mortal, slow, first)
    envelope = attacker.envelope()
    for device in (quick, steady):
        hand_in(mortal, device, first)
    training(mortal, campaign, 2)
    cancel(mortal, campaign)
    refused = attacker.submit(envelope)
    assert code_of(refused) == (409, "TRAINING_IN_PROGRESS")
    assert "its campaign has ended" in refused.text
    nothing_is_left(mortal, campaign)


def test_a_late_update_of_a_device_that_was_revoked_does_not_count(
    mortal: Fleet, trio: tuple[Device, Device, Device]
) -> None:
    quick, steady, _ = trio
    thief, sleeper = mortal.enroll("one that is late"), mortal.enroll("one that sleeps")
    campaign = started(mortal)
    first = training(mortal, campaign, 1)
    for device in (thief, sleeper):
        device.join(first)
    for device in (quick, steady):
        hand_in(mortal, device, first)
    second = training(mortal, campaign, 2)
    hand_in(mortal, thief, first)
    assert mortal.round(second)["progress"]["completed_devices"] == 1
    for device in (thief, sleeper):
        answer = mortal.http.post(f"/workbench/v1/devices/{device.id}/revoke", json={"reason": "stolen"})
        assert answer.status_code == 200
    assert mortal.round(second)["progress"]["completed_devices"] == 0
    assert keys_of(mortal, campaign) == [False, True]
    assert {mortal.parts(first)[each.id]["status"] for each in (thief, sleeper)} == {"dropped"}
    for device in (quick, steady):
        hand_in(mortal, device, second)
    training(mortal, campaign, 3)
    seen = mortal.round(second)
    assert (seen["progress"]["completed_devices"], seen["progress"]["stalest_update"]) == (2, 0)
    cancel(mortal, campaign)
    nothing_is_left(mortal, campaign)


def test_no_more_devices_take_part_in_a_round_than_may(
    mortal: Fleet, trio: tuple[Device, Device, Device]
) -> None:
    campaign = started(mortal, max_participants=2)
    first = training(mortal, campaign, 1)
    trio[0].join(first)
    trio[1].join(first)
    assert first not in [each["id"] for each in trio[2].rounds()]
    with pytest.raises(RoundNotOpen, match="2 devices take part"):
        trio[2].join(first)
    cancel(mortal, campaign)


def test_who_comes_to_nothing_leaves_its_place_in_a_round_to_another(
    mortal: Fleet, trio: tuple[Device, Device, Device]
) -> None:
    """First one is rejected, and later one is too late: each time the round still takes as many as it may."""
    quick, steady, slow = trio
    campaign = started(mortal, max_staleness=0, target_participants=1, max_participants=2)
    first = training(mortal, campaign, 1)
    for device in (slow, steady):
        device.join(first)
    attacker = Attacker(mortal, steady, first)
    assert code_of(attacker.submit(attacker.envelope(b"no safetensors")))[0] == 422
    assert [each["id"] for each in quick.rounds()] == [first]
    hand_in(mortal, quick, first)
    second = training(mortal, campaign, 2)
    assert mortal.parts(first)[slow.id]["reason"] == TOO_LATE_FOR_NONE
    for device in (slow, steady):
        device.join(second)
    with pytest.raises(RoundNotOpen, match="2 devices take part"):
        quick.join(second)
    cancel(mortal, campaign)


def test_a_device_that_joins_and_dies_leaves_its_place_to_another_and_is_heard_if_it_comes_back(
    mortal: Fleet, trio: tuple[Device, Device, Device]
) -> None:
    quick, steady, _ = trio
    campaign, dead = started(mortal, max_participants=2), mortal.enroll("one that dies")
    first = training(mortal, campaign, 1)
    hand_in(mortal, quick, first)
    dead.join(first)
    with pytest.raises(RoundNotOpen, match="2 devices take part"):
        steady.join(first)
    silence = "UPDATE devices SET last_seen = 1.0, is_online = 0 WHERE id = ?"
    asked(mortal.server.home, silence, dead.id)
    with pytest.raises(RoundNotOpen, match="2 devices take part"):
        steady.join(first)  # it has only just joined, and owes a sign of life in ten minutes
    asked(mortal.server.home, "UPDATE participations SET joined_at = 1.0 WHERE device_id = ?", dead.id)
    assert first in [each["id"] for each in steady.rounds()]
    hand_in(mortal, steady, first)
    second = training(mortal, campaign, 2)
    assert mortal.round(first)["progress"]["completed_devices"] == 2
    hand_in(mortal, dead, first)
    assert mortal.parts(second)[dead.id]["round_id"] == first
    cancel(mortal, campaign)
    nothing_is_left(mortal, campaign)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"privacy_settings": {"differential_privacy": True, "noise_level": 5.0}}, "one noisy mean"),
        ({"secure_aggregation": True}, "it looks at every single update"),
        ({"strategy_options": {"max_staleness": 21}}, "from 0 to 20"),
        ({"strategy_options": {"max_staleness": True}}, "from 0 to 20"),
    ],
    ids=["privacy", "masks", "too stale", "no number"],
)
def test_what_cannot_go_together_with_a_buffer_is_refused_with_the_reason(
    mortal: Fleet, change: dict[str, Any], told: str
) -> None:
    body = {"model_config": {"architecture": "mlp"}, "strategy": "fedbuff", **change}
    answer = mortal.http.post("/api/v1/fl/rounds", json=body)
    assert answer.status_code in (400, 422), answer.text
    assert told in answer.text


# ----------------------------------------------------------------------------- processes die
def learned(
    fleet: Fleet, trio: tuple[Device, Device, Device], kill: Callable[[str, str], None] = lambda *_: None
) -> list[str]:
    """The digests of two models, the second with a late update; `kill` is called while that is about."""
    quick, steady, slow = trio
    campaign = started(fleet, rounds=2)
    first = training(fleet, campaign, 1)
    for device in trio:
        device.join(first)
    late = Attacker(fleet, slow, first)
    envelope = late.envelope(late.payload(late.vector(5)), sample_count=50)
    for device in (quick, steady):
        hand_in(fleet, device, first)
    second = training(fleet, campaign, 2)
    kill("worker", campaign)
    sent = threading.Thread(target=again, args=(lambda: late.submit(envelope),))
    sent.start()
    question = "SELECT count(*) FROM participations WHERE round_id = ? AND digest IS NOT NULL"
    until(lambda: bool(asked(fleet.server.home, question, first)[0][0] == 3))
    kill("api", campaign)
    sent.join(60)
    fresh = Attacker(fleet, quick, second)
    fresh_one = fresh.envelope(fresh.payload(fresh.vector(6)))
    again(lambda: fresh.submit(fresh_one))
    seen = fleet.campaign_over(campaign)
    assert seen["status"] == "completed", seen
    assert [each["progress"]["stalest_update"] for each in seen["history"]] == [0, 1]
    nothing_is_left(fleet, campaign)
    return [each["model_digest"] for each in seen["history"]]


def again(call: Callable[[], httpx.Response]) -> None:
    """Ask until it is answered."""
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(httpx.TransportError):
            answer = call()
            if answer.status_code < 500:
                assert answer.status_code == 200, answer.text
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.timeout(300)
def test_who_is_killed_while_late_updates_are_about_changes_no_bit_of_the_model(
    mortal: Fleet, trio: tuple[Device, Device, Device]
) -> None:
    killed: list[str] = []

    def kill(victim: str, campaign: str) -> None:
        if victim == "api":
            mortal.server.kill()
            mortal.server.restart()
            killed.append(victim)
        question = "SELECT pid FROM work WHERE id = ? AND pid IS NOT NULL"
        for (pid,) in asked(mortal.server.home, question, campaign) if victim == "worker" else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed.append(victim)

    assert learned(mortal, trio, kill) == learned(mortal, trio)
    assert {"worker", "api"} == set(killed)


# ----------------------------------------------------------------------------- a round fails
def test_a_campaign_survives_a_round_without_devices_and_pays_only_for_models(
    mortal: Fleet, trio: tuple[Device, Device, Device]
) -> None:
    told = mortal.start(
        rounds=2,
        participant_criteria={"min_participants": 1},
        recruiting_seconds=3.0,
        privacy_settings={"differential_privacy": True, "noise_level": 20.0},
    )
    campaign, charged = told["campaign_id"], "SELECT count(*) FROM round_charges WHERE campaign_id = ?"
    mortal.over(told["id"])
    assert asked(mortal.server.home, charged, campaign) == [(0,)]
    for number in (2, 3):
        round_id = found_in(mortal, campaign, number, "recruiting")
        trio[0].join(round_id)
        hand_in(mortal, trio[0], round_id)
    seen = mortal.campaign_over(campaign)
    assert (seen["status"], seen["rounds_done"], seen["model_version"]) == ("completed", 2, "v2")
    assert [(each["number"], each["phase"]) for each in seen["history"]] == [
        (1, "failed"),
        (2, "completed"),
        (3, "completed"),
    ]
    assert seen["history"][0]["reason"] == "0 of at least 1 devices had joined at the deadline"
    assert asked(mortal.server.home, charged, campaign) == [(2,)]
    epsilon = seen["history"][-1]["privacy"]["epsilon"]
    assert epsilon == pytest.approx(told["privacy"]["epsilon"], rel=1e-3)


@pytest.mark.parametrize("strategy", ["fedavg", "fedbuff"])
def test_after_three_rounds_in_a_row_that_fail_a_campaign_is_over(mortal: Fleet, strategy: str) -> None:
    told = mortal.start(rounds=2, strategy=strategy, recruiting_seconds=0.1, training_seconds=0.1)
    seen = mortal.campaign_over(told["campaign_id"])
    assert [each["phase"] for each in seen["history"]] == ["failed"] * 3
    assert (seen["status"], seen["rounds_done"]) == ("failed", 0)
    assert seen["reason"] == seen["history"][-1]["reason"]
    assert (
        seen["reason"]
        == {
            "fedavg": "0 of at least 2 devices had joined at the deadline",
            "fedbuff": "0 updates were accepted, and 2 are needed: 0 were rejected, 0 never came",
        }[strategy]
    )
    nothing_is_left(mortal, told["campaign_id"])


def test_a_buffer_that_is_due_is_aggregated_with_its_quorum(
    mortal: Fleet, trio: tuple[Device, Device, Device]
) -> None:
    told = mortal.start(
        strategy="fedbuff",
        training_seconds=6.0,
        participant_criteria={"min_participants": 1, "target_participants": 3, "quorum": 1},
    )
    round_id = training(mortal, told["campaign_id"], 1)
    trio[1].join(round_id)
    hand_in(mortal, trio[0], round_id)
    ended = mortal.over(round_id)
    assert (ended["status"], ended["progress"]["completed_devices"]) == ("completed", 1)
    part = mortal.parts(round_id)[trio[1].id]
    assert (part["status"], part["reason"]) == ("dropped", "its campaign has ended")
    nothing_is_left(mortal, told["campaign_id"])
