"""Whatever is killed in a round, and whenever: it goes on, and comes to the same model to the last bit."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from tests.federation.attacking import Attacker, asked, blobs
from tests.federation.conftest import CLASSES, SIDE, Fleet, rows_of
from tests.federation.test_rounds import both
from tests.workbench_server import WorkbenchServer
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
Hook = Callable[[str], None]
"""Called wherever a round has come to: `preparing`, `recruiting` and so on."""


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A workbench of which anything may be killed."""
    server = WorkbenchServer(OMP_NUM_THREADS="1")
    with server.client() as http:
        fleet = Fleet(server, http, tmp_path_factory.mktemp("mortal"), [])
        yield fleet
        for device in fleet.made:
            device.close()
    server.stop()


@pytest.fixture(scope="module")
def trio(mortal: Fleet) -> list[Device]:
    """Three devices in the order of their ids, in which their updates are added."""
    return sorted((mortal.enroll() for _ in range(3)), key=lambda device: device.id)


def status(fleet: Fleet, question: str, *values: Any) -> Any:
    """One cell of the database, or None."""
    found = asked(fleet.server.home, question, *values)
    return found[0][0] if found else None


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Look closely until it is so."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)


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
    hook("over")
    seen = fleet.campaign_over(campaign)
    assert seen["status"] == "completed", seen
    for each in seen["history"]:
        assert each["progress"]["completed_devices"] == 3
        _nothing_is_left(fleet, each["id"])
    return [each["model_digest"] for each in seen["history"]]


def _one_round(fleet: Fleet, trio: list[Device], hook: Hook, campaign: str, number: int) -> None:
    hook("preparing")
    until(lambda: phase_of(fleet, campaign, number) == "recruiting")
    question = "SELECT id FROM rounds WHERE campaign_id = ? AND number = ?"
    round_id = str(status(fleet, question, campaign, number))
    attackers = [Attacker(fleet, device, round_id) for device in trio]
    for attacker in attackers[:2]:
        attacker.device.join(round_id)
    hook("recruiting")
    attackers[2].device.join(round_id)
    hook("training")
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
        hook("submitted")
        until(lambda: phase_of(fleet, campaign, number) in ("aggregating", "completed"))
        hook("aggregating")
        answers = [each.result(timeout=120) for each in waiting]
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    until(lambda: phase_of(fleet, campaign, number) == "completed")


def _nothing_is_left(fleet: Fleet, round_id: str) -> None:
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
    """Kills one kind of process wherever a round has come to, and counts."""

    def __init__(self, fleet: Fleet, victim: str) -> None:
        self.fleet = fleet
        self.victim = victim
        self.killed: list[str] = []

    def __call__(self, moment: str) -> None:
        """Kill it now, if it lives."""
        if moment == "over":
            return
        if getattr(self, f"_{self.victim}")():
            self.killed.append(moment)

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
@pytest.mark.parametrize("victim", ["worker", "dispatcher", "api", "all"])
def test_who_is_killed_at_every_moment_changes_no_bit_of_the_model(
    mortal: Fleet, trio: list[Device], undisturbed: list[str], victim: str
) -> None:
    killer = Killer(mortal, victim)
    assert learned(mortal, trio, killer) == undisturbed
    assert len(killer.killed) >= 3, killer.killed


@pytest.mark.timeout(300)
def test_a_private_round_that_is_interrupted_is_charged_once(mortal: Fleet, trio: list[Device]) -> None:
    killer = Killer(mortal, "all")

    def hook(moment: str) -> None:
        if moment == "aggregating":
            killer(moment)

    spent = "SELECT spent_epsilon FROM fleets WHERE tenant_id = 'local'"
    privacy = {"differential_privacy": True, "noise_level": 20.0}
    learned(mortal, trio, lambda _: None, privacy_settings=privacy)
    once = status(mortal, spent)
    learned(mortal, trio, hook, privacy_settings=privacy)
    charges = asked(
        mortal.server.home,
        "SELECT count(*), count(DISTINCT round_id) FROM round_charges",
    )
    assert charges[0][0] == charges[0][1] == 2 * ROUNDS
    assert status(mortal, spent) < 2.5 * once
    assert killer.killed


# ----------------------------------------------------------------------------- devices die
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
    until(lambda: blobs(fleet) == before)
    whole = dead["submits"].envelope()
    with (
        pytest.raises(httpx.ReadTimeout),
        httpx.Client(
            transport=httpx.HTTPTransport(uds=str(fleet.server.socket)),
            base_url="http://workbench",
            timeout=httpx.Timeout(30, read=0.001),
        ) as impatient,
    ):
        impatient.post(
            f"/api/v1/fl/rounds/{round_id}/submit",
            content=whole,
            headers={
                "Authorization": f"Bearer {dead['submits'].token()}",
                "Content-Type": "application/octet-stream",
            },
        )
    again_submitted = dead["submits"].submit(whole)
    assert (again_submitted.status_code, again_submitted.json()["status"]) == (200, "accepted")
    both(pair, round_id)
    ended = fleet.over(round_id)
    assert (ended["status"], ended["progress"]["completed_devices"]) == ("completed", 3), ended
    _nothing_is_left(fleet, round_id)


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
        return float(np.abs(part.folder.remembered("residual", campaign, size)).sum())

    part.learn(assignment, rows_of(0))  # and dies
    assert left_out() == 0
    again_part = pair[0]._part(started["id"])
    envelope, learned_again = again_part.learn(assignment, rows_of(0))
    assert left_out() == 0
    again_part.submit(assignment, envelope, learned_again)
    assert left_out() > 0
    fleet.over(started["id"])


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
