"""Whatever is killed in a round, and whenever: it goes on, and comes to the same model to the last bit."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest

from tests.federation.attacking import Attacker, asked, blobs
from tests.federation.conftest import CLASSES, SIDE, Fleet, until
from tests.held_writes import held
from tg_workbench.sdk.device import Device

ROUNDS = 2
MODEL = {
    "architecture": "mlp",
    "input_shape": [SIDE],
    "output_size": CLASSES,
    "hidden_sizes": [1000, 1000],
    "hyperparameters": {"learning_rate": 0.1, "batch_size": 8, "epochs": 1},
}
"""Four megabytes: time enough to be killed in."""
MOMENTS = ("preparing", "recruiting", "training", "submitted", "aggregating")
Moment = tuple[int, str]
"""The number of a round, and where it has come to."""
Hook = Callable[[Moment], None]
"""Called at every moment of a campaign."""
SEED = 20261126


def drawn_moments() -> dict[str, set[Moment]]:
    """Who is killed when, all at the cost of seconds: a worker and a dispatcher always.

    The API is killed once in each phase, in either round. Everything at once, from which it takes longest to
    recover, is killed while updates are at stake, and at one moment before, which is drawn: what is killed
    apart at every moment says that each of them leaves a database that can be gone on with.
    """
    chance = random.Random(SEED)  # noqa: S311 - no secret hangs on it
    always = {(number, moment) for number in range(1, ROUNDS + 1) for moment in MOMENTS}

    def in_some_round(moment: str) -> Moment:
        return chance.randint(1, ROUNDS), moment

    return {
        "worker": always,
        "dispatcher": always,
        "api": {in_some_round(moment) for moment in MOMENTS},
        "all": {in_some_round(moment) for moment in (chance.choice(MOMENTS[:3]), *MOMENTS[3:])},
    }


KILLS = drawn_moments()


@pytest.fixture(scope="module")
def trio(mortal: Fleet) -> list[Device]:
    """Three devices in the order of their ids, in which their updates are added."""
    return sorted((mortal.enroll() for _ in range(3)), key=lambda device: device.id)


def status(fleet: Fleet, question: str, *values: Any) -> Any:
    """One cell of the database, or None."""
    found = asked(fleet.server.home, question, *values)
    return found[0][0] if found else None


def phase_of(fleet: Fleet, campaign: str, number: int) -> str:
    """Where a round of a campaign stands, past the API, which may be dead."""
    question = "SELECT phase FROM rounds WHERE campaign_id = ? AND number = ?"
    return str(status(fleet, question, campaign, number))


def again(call: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer, however often one has to ask."""
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(httpx.TransportError):
            answer = call()
            if answer.status_code < 500:
                return answer
        assert time.monotonic() < deadline
        time.sleep(0.05)


def learned(fleet: Fleet, trio: list[Device], hook: Hook, **more: Any) -> list[str]:
    """The digests of a campaign's models, round by round, from updates that are the same each time."""
    criteria = {"min_participants": 3}
    started = fleet.start(rounds=ROUNDS, model_config=MODEL, participant_criteria=criteria, **more)
    campaign = started["campaign_id"]
    for number in range(1, ROUNDS + 1):
        _one_round(fleet, trio, hook, campaign, number)
    seen = fleet.campaign_over(campaign)
    assert seen["status"] == "completed", seen
    for each in seen["history"]:
        assert each["progress"]["completed_devices"] == 3
        nothing_is_left(fleet, each["id"])
    return [each["model_digest"] for each in seen["history"]]


def _one_round(fleet: Fleet, trio: list[Device], hook: Hook, campaign: str, number: int) -> None:
    hook((number, "preparing"))
    until(lambda: phase_of(fleet, campaign, number) == "recruiting")
    question = "SELECT id FROM rounds WHERE campaign_id = ? AND number = ?"
    round_id = str(status(fleet, question, campaign, number))
    attackers = [Attacker(fleet, device, round_id) for device in trio]
    for attacker in attackers[:2]:
        attacker.device.join(round_id)
    hook((number, "recruiting"))
    attackers[2].device.join(round_id)
    hook((number, "training"))
    envelopes = []
    for rank, attacker in enumerate(attackers):
        vector = attacker.vector(seed=10 * number + rank)
        envelopes.append(attacker.envelope(attacker.payload(vector), sample_count=40 + rank))
    with ThreadPoolExecutor(3) as pool:
        waiting = [
            pool.submit(again, lambda a=attacker, e=envelope: a.submit(e))
            for attacker, envelope in zip(attackers, envelopes, strict=True)
        ]
        count = "SELECT count(*) FROM participations WHERE round_id = ? AND digest IS NOT NULL"
        until(lambda: bool(status(fleet, count, round_id)))
        hook((number, "submitted"))
        until(lambda: phase_of(fleet, campaign, number) in ("aggregating", "completed"))
        hook((number, "aggregating"))
        answers = [each.result(timeout=120) for each in waiting]
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    until(lambda: phase_of(fleet, campaign, number) == "completed")


def nothing_is_left(fleet: Fleet, round_id: str) -> None:
    """Neither keys nor files of a round that is over."""
    assert status(fleet, "SELECT sealed_keys FROM rounds WHERE id = ?", round_id) is None
    assert status(fleet, "SELECT download_blob FROM rounds WHERE id = ?", round_id) is None
    parts = asked(
        fleet.server.home,
        "SELECT blob, digest, ended_at FROM participations WHERE round_id = ?",
        round_id,
    )
    assert [part for part in parts if part[0] is not None or part[2] is None] == []
    sent = {part[1] for part in parts}
    until(lambda: not sent & blobs(fleet), 20.0)  # what a killed process has left is swept away soon
    assert status(fleet, "SELECT id FROM devices WHERE current_round_id = ?", round_id) is None


def kill(pid: int) -> bool:
    """`kill -9`; False when it is gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


class Killer:
    """Kills one kind of process at some moments, and says when it did."""

    def __init__(self, fleet: Fleet, victim: str, moments: set[Moment]) -> None:
        self.fleet = fleet
        self.victim = victim
        self.moments = moments
        self.killed: set[Moment] = set()

    def __call__(self, moment: Moment) -> None:
        """Kill it if it is time, and if it lives."""
        if moment in self.moments and getattr(self, f"_{self.victim}")():
            self.killed.add(moment)

    def _worker(self) -> bool:
        """The campaign's worker, if it has one."""
        question = "SELECT pid FROM work WHERE kind = 'federation' AND pid IS NOT NULL"
        pids = [row[0] for row in asked(self.fleet.server.home, question)]
        return any([kill(pid) for pid in pids])  # noqa: C419  (all of them)

    def _dispatcher(self) -> bool:
        for process in psutil.Process(self.fleet.server.pid).children():
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[-1:] == ["dispatch"]:
                    return kill(process.pid)
        return False

    def _api(self) -> bool:
        self.fleet.server.kill()
        self.fleet.server.restart()
        return True

    def _all(self) -> bool:
        """Everything at once, as when the power fails."""
        self._worker()  # first: it is to be in the middle of something
        self.fleet.server.kill()
        for process in self.fleet.server.processes():
            kill(process.pid)
        self.fleet.server.restart()
        return True


@pytest.fixture(scope="module")
def undisturbed(mortal: Fleet, trio: list[Device]) -> list[str]:
    """What the same updates come to when nobody is killed."""
    return learned(mortal, trio, lambda _: None)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", KILLS)
def test_who_is_killed_at_any_moment_changes_no_bit_of_the_model(
    mortal: Fleet, trio: list[Device], undisturbed: list[str], victim: str
) -> None:
    print(f"seed {SEED}: {victim} is killed at {sorted(KILLS[victim])}")  # noqa: T201
    killer = Killer(mortal, victim, KILLS[victim])
    assert learned(mortal, trio, killer) == undisturbed
    is_always_there = victim in ("api", "all")  # the others may just be starting, or be done
    assert killer.killed == KILLS[victim] if is_always_there else len(killer.killed) >= 3, killer.killed


@pytest.mark.timeout(300)
def test_a_private_round_that_is_interrupted_is_charged_once(mortal: Fleet, trio: list[Device]) -> None:
    everything = Killer(mortal, "all", {(1, "aggregating")})
    worker = Killer(mortal, "worker", {(number, "aggregating") for number in (1, 2)})
    counts = "SELECT count(*), sum(released_at IS NULL), count(DISTINCT round_id) FROM round_charges"
    spent = "SELECT spent_epsilon FROM fleets WHERE tenant_id = 'local'"
    unreleased, release = [], contextlib.ExitStack()

    def hook(moment: Moment) -> None:
        number, where = moment
        if where == "training":
            write = "UPDATE OF released_at ON round_charges"
            release.enter_context(held(mortal.server.home / "tgsp.db", write))
        if where == "aggregating":  # not before it is paid for, and before its model is out
            until(lambda: asked(mortal.server.home, counts)[0][0] == ROUNDS + number)
            worker(moment)
            unreleased.append(asked(mortal.server.home, counts)[0][1])
            release.close()
            everything(moment)

    privacy = {"differential_privacy": True, "noise_level": 20.0}
    learned(mortal, trio, lambda _: None, privacy_settings=privacy)
    once = status(mortal, spent)
    learned(mortal, trio, hook, privacy_settings=privacy)
    assert asked(mortal.server.home, counts) == [(2 * ROUNDS, 0, 2 * ROUNDS)]
    assert status(mortal, spent) < 2.5 * once
    assert everything.killed == everything.moments
    assert worker.killed == worker.moments
    assert unreleased == [1, 1], "nobody was interrupted between the charge and the model"


def test_no_file_of_a_worker_that_is_killed_is_left_unheard_of(mortal: Fleet) -> None:
    before = files(mortal)
    started = mortal.start(rounds=2, model_config={**MODEL, "hidden_sizes": [2000, 2000]})
    campaign = started["campaign_id"]
    until(lambda: files(mortal) - before)
    assert kill(int(status(mortal, "SELECT pid FROM work WHERE id = ?", campaign)))
    mortal.recruiting(started["id"])  # another worker has made it all again
    assert mortal.http.delete(f"/workbench/v1/federation/campaigns/{campaign}").status_code == 200
    asked(mortal.server.home, "UPDATE left_blobs SET due_at = 0")  # an hour passes
    kept = asked(mortal.server.home, "SELECT model_blob, state_blob FROM campaigns WHERE id = ?", campaign)
    until(lambda: files(mortal) - before == set(kept[0]), 20.0)


def files(fleet: Fleet) -> set[str]:
    """The files in the store that are whole."""
    return {name for name in blobs(fleet) if not name.startswith(".")}


def test_a_file_that_cannot_be_removed_keeps_no_round_from_its_deadline(mortal: Fleet) -> None:
    home, stuck, gone = mortal.server.home, "0" * 64, "f" * 64
    (home / "blobs" / stuck[:2] / stuck / "something").mkdir(parents=True)
    for name in (stuck, gone):
        asked(home, "INSERT INTO left_blobs (name, due_at) VALUES (?, 0)", name)
    round_id = mortal.start(recruiting_seconds=12.0)["id"]  # so long that its worker has left by then
    assert mortal.over(round_id)["reason"] == "0 of at least 2 devices had joined at the deadline"
    until(lambda: asked(home, "SELECT name FROM left_blobs") == [(stuck,)])  # which is tried again later
