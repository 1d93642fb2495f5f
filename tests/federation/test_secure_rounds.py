"""Rounds with secure aggregation, from beginning to end: the sum is right, and no single update is seen."""

from __future__ import annotations

import io
import sqlite3
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil
import pytest
import safetensors.numpy
from sqlmodel import select

from tests.federation.attacking import refusals
from tests.federation.conftest import CLASSES, SIDE, Fleet, rows_of
from tg_workbench.crypto.envelopes import open_payload, read_head
from tg_workbench.device.learning import Learned
from tg_workbench.device.masked_part import MaskedPart
from tg_workbench.errors import (
    InvalidRequest,
    Refused,
    RoundNotFound,
    RoundNotOpen,
    SecureAggregationRefused,
)
from tg_workbench.federation.rounds.keys import RoundKeys
from tg_workbench.federation.rounds.submissions import verifying_key
from tg_workbench.federation.rounds.tables import Participation, Round
from tg_workbench.federation.updates import Layout
from tg_workbench.federation.updates.secure_aggregation import (
    Agreement,
    Encoding,
    Parcel,
    Report,
    members_of,
    message_of,
)
from tg_workbench.sdk.device import Device, TookPart
from tg_workbench.storage import Blobs, Database

NOTHING = Learned(np.zeros(0, np.float32), None, 0, 0, {})
MODEL = {
    "architecture": "logistic",
    "input_shape": [SIDE],
    "output_size": CLASSES,
    "hyperparameters": {"learning_rate": 0.5, "batch_size": 64, "epochs": 3},
}
"""All rows are in one batch, so the model does not depend on their order, which each round draws anew."""
Rows = dict[str, Any]


@pytest.fixture(scope="module")
def team(fleet: Fleet) -> tuple[Device, ...]:
    """Enough devices for one of them to drop out."""
    return tuple(fleet.enroll(f"one of a team {number}") for number in range(4))


@pytest.fixture(scope="module")
def eight(fleet: Fleet, team: tuple[Device, ...]) -> tuple[Device, ...]:
    """Enough for one of them to lie, and for another to be taken for a liar."""
    return (*team, *(fleet.enroll(f"one of eight {number}") for number in range(4, 8)))


def start(fleet: Fleet, devices: int = 4, **asked: Any) -> str:
    """A secure round of so many devices that recruits."""
    criteria = {"min_participants": devices, "quorum": 3}
    body = {"model_config": MODEL, "participant_criteria": criteria, "secure_aggregation": True, **asked}
    started = fleet.start(**body)
    assert started["secure_aggregation"]
    fleet.recruiting(started["id"])
    return str(started["id"])


def model_of(fleet: Fleet, round_id: str) -> dict[str, np.ndarray]:
    """What came of a campaign of one round."""
    campaign = fleet.campaign_over(fleet.round(round_id)["campaign_id"])
    assert campaign["status"] == "completed", campaign
    answer = fleet.http.get(
        f"/workbench/v1/models/{campaign['model_id']}/export", params={"format": "safetensors"}
    )
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".safetensors"))
        return safetensors.numpy.load(archive.read(name))


def farthest(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def plain(fleet: Fleet, devices: tuple[Device, ...], rows: list[Rows]) -> dict[str, np.ndarray]:
    """The model that the same devices make without masks."""
    started = fleet.start(model_config=MODEL, participant_criteria={"min_participants": len(devices)})
    fleet.recruiting(started["id"])
    each(devices, lambda number: devices[number].take_part(started["id"], rows[number]))
    return model_of(fleet, started["id"])


def each(devices: tuple[Device, ...], does: Callable[[int], Any], *, may_fail: bool = False) -> list[Any]:
    """What comes of it when every device does something, at once: the result, or why it was refused."""

    def done(number: int) -> Any:
        try:
            return does(number)
        except Refused as refusal:
            if not may_fail:
                raise
            return refusal

    with ThreadPoolExecutor(len(devices)) as pool:
        waiting = [pool.submit(done, number) for number in range(len(devices))]
        return [one.result(timeout=120) for one in waiting]


def begun(device: Device, round_id: str) -> MaskedPart:
    """A device's part in a secure round, before its first step."""
    part = device._part(round_id)
    assignment = part.await_assignment(60)
    assert assignment is not None
    return MaskedPart(part, assignment)


def take_until(device: Device, round_id: str, rows: Rows, step: str) -> MaskedPart:
    """Take part, and vanish before a step."""
    return go_until(begun(device, round_id), rows, step)


def go_until(masked: MaskedPart, rows: Rows, step: str) -> MaskedPart:
    """Do what comes before a step, and no more."""
    if step == "advertise":
        return masked
    if step == "share":
        masked._say("advertise", members_of(masked.participant.advertise()))
        return masked
    masked.share()
    if step != "report":
        masked.report()
    if step in ("agree", "unmask"):
        masked.submit(rows)
    if step == "unmask":
        masked.agree()
    return masked


@dataclass
class Plain:
    """What a round's sum must be: the model it starts from, and what each device is to add to it."""

    before: np.ndarray
    words: list[np.ndarray]
    encoding: Encoding
    layout: Layout

    @classmethod
    def of(cls, parts: list[MaskedPart], rows: list[Rows]) -> Plain:
        """Asked before the round is over; devices learn the same from the same rows."""
        learned = [part.part.learned(part.assignment, own) for part, own in zip(parts, rows, strict=True)]
        encoding, layout = parts[0].encoding, learned[0][1]
        words = [encoding.words(each.delta, each.samples) for each, _ in learned]
        before, _ = parts[0].part._fetch(parts[0].assignment, layout)
        return cls(before, words, encoding, layout)

    def model(self, numbers: Iterable[int]) -> dict[str, np.ndarray]:
        """The model that the sum of these devices' words gives, word for word."""
        chosen = [self.words[number] for number in numbers]
        mean, _ = self.encoding.mean_of(np.sum(chosen, axis=0, dtype=np.uint32), len(chosen))
        return self.layout.arrays((self.before + mean).astype(np.float32))


# ------------------------------------------------------------------------------- the sum
def test_the_sum_is_that_of_a_plain_round(fleet: Fleet, team: tuple[Device, ...]) -> None:
    rows = [rows_of(seed, 20 + 10 * seed) for seed in range(4)]
    round_id = start(fleet)
    took = each(team, lambda number: team[number].take_part(round_id, rows[number]))
    assert all(isinstance(one, TookPart) for one in took), took
    masked = model_of(fleet, round_id)
    samples = sum(len(one["targets"]) for one in rows)
    bound = Encoding.weighted(4).most_error(4, samples)
    assert farthest(masked, plain(fleet, team, rows)) <= bound + 1e-6
    ended = fleet.round(round_id)
    assert ended["progress"]["completed_devices"] == 4
    assert all(part["sample_count"] is None for part in fleet.parts(round_id).values())


@pytest.mark.parametrize("step", ["advertise", "share", "report", "mask", "agree", "unmask"])
def test_one_device_drops_out_before_a_step(fleet: Fleet, team: tuple[Device, ...], step: str) -> None:
    rows = [rows_of(seed) for seed in range(4)]
    round_id = start(fleet, training_seconds=20.0)

    def does(number: int) -> Any:
        if number:
            return team[number].take_part(round_id, rows[number])
        return team[0].join(round_id) if step == "advertise" else take_until(team[0], round_id, rows[0], step)

    took = each(team, does)
    assert all(isinstance(one, TookPart) for one in took[1:]), took
    ended = fleet.over(round_id)
    assert ended["phase"] == "completed", ended
    is_in = step in ("agree", "unmask")
    assert ended["progress"]["completed_devices"] == (4 if is_in else 3)
    assert fleet.parts(round_id)[team[0].id]["status"] == ("accepted" if is_in else "dropped")
    who = slice(0 if is_in else 1, 4)
    expected = plain(fleet, team[who], rows[who])
    bound = Encoding.weighted(4).most_error(4, 120)
    assert farthest(model_of(fleet, round_id), expected) <= bound + 1e-6


@pytest.mark.timeout(300)
def test_two_dozen_devices_of_whom_one_drops_out_before_each_step(
    fleet: Fleet, eight: tuple[Device, ...]
) -> None:
    """Of 24 seven may vanish. A device that joins and never speaks is the first of six here.

    So every step lasts to its deadline, and the round as long as it may: a step of talking has a tenth of
    that, several times what two dozen devices need on a slow machine. What the sum must be is worked out
    beside the round, while that waits.
    """
    crowd = (*eight, *(fleet.enroll(f"one of a crowd {number}") for number in range(8, 24)))
    round_id = start(fleet, 24, training_seconds=55.0)
    parts = each(crowd, lambda number: begun(crowd[number], round_id))
    rows = [rows_of(number, 20 + number) for number in range(24)]
    steps = ("advertise", "share", "report", "mask", "agree", "unmask")
    in_the_sum = slice(steps.index("agree"), 24)

    def does(number: int) -> Any:
        if number == 0:
            return Plain.of(parts[in_the_sum], rows[in_the_sum])
        if number >= len(steps):
            return parts[number].take(rows[number])
        return go_until(parts[number], rows[number], steps[number])

    exact, *took = each(crowd, does)
    assert all(isinstance(one, TookPart) for one in took[len(steps) - 1 :]), took
    ended = fleet.over(round_id)
    assert (ended["phase"], ended["progress"]["completed_devices"]) == ("completed", 20), ended
    assert farthest(model_of(fleet, round_id), exact.model(range(20))) <= 1e-6


@pytest.mark.parametrize("step", ["share", "report", "mask", "agree", "unmask"])
def test_with_too_few_survivors_a_round_fails_and_says_why(
    fleet: Fleet, team: tuple[Device, ...], step: str
) -> None:
    round_id = start(fleet, training_seconds=20.0)

    def does(number: int) -> Any:
        if number > 1:
            return team[number].take_part(round_id, rows_of(number))
        return take_until(team[number], round_id, rows_of(number), step)

    each(team, does, may_fail=True)
    ended = fleet.over(round_id)
    assert ended["phase"] == "failed", ended
    told = f"2 devices were left to {step}, and 3 are needed"
    assert ended["reason"] == f"secure aggregation goes no further: {told}"
    assert fleet.campaign(ended["campaign_id"])["status"] == "failed"
    with sqlite3.connect(fleet.server.home / "tgsp.db") as database:
        for table in ("secure_rounds", "secure_messages", "secure_parcels"):
            of_it = f"SELECT count(*) FROM {table} WHERE round_id = ?"  # noqa: S608
            assert database.execute(of_it, (round_id,)).fetchone() == (0,)


# ------------------------------------------------------------------------------- what is stored
def stored_words(fleet: Fleet, round_id: str) -> dict[str, np.ndarray]:
    """What the server can read of each device's update: its blobs, opened with the keys of the round."""
    home, found = fleet.server.home, {}
    database, blobs = Database(fleet.server.database_url), Blobs(fleet.server.home / "blobs")
    with database.read() as session:
        keys = RoundKeys.of(session, home, session.get_one(Round, round_id))
        for part in session.exec(select(Participation).where(Participation.round_id == round_id)):
            with blobs.path(part.blob or "").open("rb") as file:
                head = read_head(file)
                key = verifying_key(session, part.device_id, head.manifest.key_version)
                payload = b"".join(open_payload(head.verify(key), file, keys.opening))
            assert (head.manifest.sample_count, head.manifest.metrics) == (1, {})
            found[part.device_id] = np.frombuffer(payload, "<u4")
    database.close()
    return found


def test_the_server_never_holds_an_update_without_its_masks(fleet: Fleet, team: tuple[Device, ...]) -> None:
    rows = [rows_of(seed) for seed in range(4)]
    round_id = start(fleet)
    parts = each(team, lambda number: begun(team[number], round_id))
    each(team, lambda number: parts[number].share())
    each(team, lambda number: parts[number].report())
    each(team, lambda number: parts[number].submit(rows[number]))
    stored = stored_words(fleet, round_id)
    plain_words = {}
    for number, part in enumerate(parts):
        learned, _ = part.part.learned(part.assignment, rows[number])
        plain_words[team[number].id] = part.encoding.words(learned.delta, learned.samples)
    for device_id, words in stored.items():
        assert not np.any(words == plain_words[device_id])
    most = float(2**32)
    assert all(words.max() > 0.5 * most and words.min() < 0.5 * most for words in stored.values())
    each(team, lambda number: parts[number].agree())
    each(team, lambda number: parts[number].unmask())
    assert fleet.over(round_id)["phase"] == "completed"


def test_what_devices_have_said_is_gone_with_the_round(fleet: Fleet, team: tuple[Device, ...]) -> None:
    round_id = start(fleet)
    each(team, lambda number: team[number].take_part(round_id, rows_of(number)))
    assert fleet.over(round_id)["phase"] == "completed"
    with sqlite3.connect(fleet.server.home / "tgsp.db") as database:
        for table in ("secure_rounds", "secure_messages", "secure_parcels"):
            of_it = f"SELECT count(*) FROM {table} WHERE round_id = ?"  # noqa: S608
            assert database.execute(of_it, (round_id,)).fetchone() == (0,)


# ------------------------------------------------------------------------------- those who do not play fair
def test_garbage_is_refused_and_the_round_goes_on(fleet: Fleet, team: tuple[Device, ...]) -> None:
    round_id = start(fleet, training_seconds=20.0)
    parts = each(team, lambda number: begun(team[number], round_id))
    liar = parts[0]
    for content in ({}, {"device_id": team[1].id}, members_of(parts[1].participant.advertise())):
        with pytest.raises(SecureAggregationRefused):
            liar._say("advertise", content)
    parts[1] = begun(team[1], round_id)  # its advertisement was used up on the liar
    each(team, lambda number: parts[number].share())
    each(team, lambda number: parts[number].report())
    for size in (8, 4 * (SIDE * CLASSES + CLASSES + 2)):
        with pytest.raises(InvalidRequest, match="masked vectors of 64 bytes"):
            liar.part.submit(liar.assignment, liar.part.sealed(liar.assignment, bytes(size)), NOTHING)
    each(team[1:], lambda number: parts[number + 1].submit(rows_of(number)))
    each(team[1:], lambda number: parts[number + 1].agree())
    each(team[1:], lambda number: parts[number + 1].unmask())
    ended = fleet.over(round_id)
    assert (ended["phase"], ended["progress"]["completed_devices"]) == ("completed", 3), ended


def test_wrong_shares_are_known_and_refused(fleet: Fleet, team: tuple[Device, ...]) -> None:
    round_id = start(fleet, training_seconds=20.0)
    parts = each(team, lambda number: begun(team[number], round_id))
    each(team, lambda number: parts[number].share())
    each(team, lambda number: parts[number].report())
    each(team, lambda number: parts[number].submit(rows_of(number)))
    each(team, lambda number: parts[number].agree())
    agreement = message_of(Agreement, parts[0]._await("unmask")["agreement"])
    told = parts[0].participant.unmask(agreement)
    changed = dict.fromkeys(told.own, bytes(33))
    both_kinds = members_of(replace(told, pairs=told.own))
    with pytest.raises(SecureAggregationRefused, match="both shares of another"):
        parts[0]._say("unmask", both_kinds)
    with pytest.raises(SecureAggregationRefused, match="not the one it was given"):
        parts[0]._say("unmask", members_of(replace(told, own=changed)))
    each(team[1:], lambda number: parts[number + 1].unmask())
    assert fleet.over(round_id)["phase"] == "completed"


def spoilt(part: MaskedPart, victims: set[str]) -> None:
    """Have a device seal garbage for these neighbours."""
    share = part.participant.share

    def shared(*told: Any) -> list[Parcel]:
        parcels = share(*told)
        return [replace(one, shares=bytes(1200)) if one.recipient in victims else one for one in parcels]

    part.participant.share = shared  # type: ignore[method-assign, assignment]


def lying(part: MaskedPart, victims: set[str]) -> None:
    """Have a device say that what these have sealed for it does not open."""
    report = part.participant.report

    def reported(*told: Any) -> Report:
        return replace(report(*told), broken=tuple(sorted(victims)))

    part.participant.report = reported  # type: ignore[method-assign, assignment]


HOW_TO_CHEAT = [
    "garbage for all",
    "garbage for most",
    "a lie about one",
    "a lie about all",
    "garbage for one and a lie about it",
]


@pytest.mark.parametrize("how", HOW_TO_CHEAT)
def test_who_does_not_share_as_it_should_is_left_out_and_named(
    fleet: Fleet, eight: tuple[Device, ...], how: str
) -> None:
    eight = tuple(sorted(eight, key=lambda device: device.id, reverse=True))  # who lies has the last id
    round_id = start(fleet, 8, training_seconds=600.0)
    parts = each(eight, lambda number: begun(eight[number], round_id))
    exact = Plain.of(parts, [rows_of(number) for number in range(8)])
    others = {device.id for device in eight[1:]}
    chosen = {eight[1].id} if "one" in how else others - {eight[1].id} if "most" in how else others
    for cheating, named in ((spoilt, "garbage"), (lying, "a lie")):
        if named in how:
            cheating(parts[0], chosen)
    out = eight[:2] if "one" in how else eight[:1]
    took = each(eight, lambda number: parts[number].take(rows_of(number)), may_fail=True)
    assert [isinstance(one, TookPart) for one in took] == [device not in out for device in eight], took
    ended = fleet.over(round_id)
    assert (ended["phase"], ended["progress"]["completed_devices"]) == ("completed", 8 - len(out)), ended
    stood = fleet.parts(round_id)
    for device in out:
        assert stood[device.id]["status"] == "rejected"
        assert "open" in stood[device.id]["reason"]
        assert stood[device.id]["reason"] in refusals(fleet, device.id)
    assert farthest(model_of(fleet, round_id), exact.model(range(len(out), 8))) <= 1e-6


def sharing_another_seed(part: MaskedPart) -> None:
    """Have a device share a secret that is not the one it has committed to."""
    participant, share = part.participant, part.participant.share

    def shared(*told: Any) -> list[Parcel]:
        participant._own_seed = bytes(31) + b"x"
        return share(*told)

    participant.share = shared  # type: ignore[method-assign, assignment]


def test_who_has_spoilt_a_round_takes_no_part_when_it_is_tried_again(
    fleet: Fleet, team: tuple[Device, ...]
) -> None:
    guilty, *others = team
    round_id = start(fleet, 3, rounds=2)
    crew = (guilty, *others[:2])
    parts = each(crew, lambda number: begun(crew[number], round_id))
    sharing_another_seed(parts[0])
    each(crew, lambda number: parts[number].take(rows_of(number)))
    ended = fleet.over(round_id)
    told = f"what {guilty.id} had sealed are no shares of its secret"
    assert (ended["phase"], ended["reason"]) == ("failed", f"secure aggregation goes no further: {told}")
    assert {name: part["status"] for name, part in fleet.parts(round_id).items()} == {
        guilty.id: "rejected",
        **{device.id: "accepted" for device in others[:2]},
    }
    assert refusals(fleet, guilty.id)[-1].endswith(told)
    for _ in range(2):
        again = str(fleet.campaign(ended["campaign_id"])["history"][-1]["id"])
        fleet.recruiting(again)
        assert again not in [offered["id"] for offered in guilty.rounds(0.0)]
        with pytest.raises(
            RoundNotOpen, match="round 1 of this campaign came to nothing by what this device"
        ):
            guilty.join(again)
        each(tuple(others), lambda number, again=again: others[number].take_part(again, rows_of(number)))
        assert fleet.over(again)["phase"] == "completed"
    assert fleet.campaign_over(ended["campaign_id"])["status"] == "completed"


@pytest.mark.parametrize("last", [0, 1], ids=["who lies", "who is lied about"])
def test_the_last_word_ends_its_step_though_it_has_its_own_device_left_out(
    fleet: Fleet, eight: tuple[Device, ...], last: int
) -> None:
    round_id = start(fleet, 8, training_seconds=600.0)
    parts = each(eight, lambda number: begun(eight[number], round_id))
    lying(parts[0], {eight[1].id})
    each(eight, lambda number: parts[number].share())
    first = [part for number, part in enumerate(parts) if number != last]
    each(eight[1:], lambda number: first[number].report())
    parts[last].report()  # it is taken: a refusal would undo it, and all would wait for it in vain
    for out in parts[:2]:
        with pytest.raises(SecureAggregationRefused, match="not, or no longer"):
            out.submit(rows_of(0))
    for step in ("submit", "agree", "unmask"):
        more = (rows_of(0),) if step == "submit" else ()
        each(eight[2:], lambda number, step=step, more=more: getattr(parts[number + 2], step)(*more))
    ended = fleet.over(round_id)
    assert (ended["phase"], ended["progress"]["completed_devices"]) == ("completed", 6), ended


@pytest.mark.parametrize("due", [1, 4], ids=["one", "all"])
def test_devices_whose_keys_are_due_take_part_with_those_they_have(
    fleet: Fleet, team: tuple[Device, ...], due: int
) -> None:
    for device in team[:due]:
        asked = {"device_id": device.id, "grace_hours": 1}
        assert fleet.http.post("/api/v1/security/keys/rotate", json=asked).status_code == 200
    round_id = start(fleet)
    took = each(team, lambda number: team[number].take_part(round_id, rows_of(number)))
    assert all(isinstance(one, TookPart) for one in took), took
    ended = fleet.over(round_id)
    assert (ended["phase"], ended["progress"]["completed_devices"]) == ("completed", 4), ended
    for device in team[:due]:
        device.rotate_keys()


def test_the_same_again_is_the_same_and_too_early_is_refused(fleet: Fleet, team: tuple[Device, ...]) -> None:
    round_id = start(fleet)
    parts = each(team, lambda number: begun(team[number], round_id))
    with pytest.raises(SecureAggregationRefused, match="this is not the time: the round is at advertise"):
        parts[0]._say("agree", {"signature": ""})
    said = members_of(parts[0].participant.advertise())
    for _ in range(2):
        letter = parts[0]._say("advertise", said)
    assert (letter["step"], letter["content"]) == ("advertise", None)
    envelope, learned = parts[0].part.learn(parts[0].assignment, rows_of(0))
    with pytest.raises(InvalidRequest, match="masked vectors"):  # a plain update is none of this round
        parts[0].part.submit(parts[0].assignment, envelope, learned)
    fleet.http.delete(f"/workbench/v1/federation/campaigns/{fleet.round(round_id)['campaign_id']}")
    with pytest.raises(SecureAggregationRefused, match="cancelled"):
        parts[0]._await("share")


def test_who_is_in_the_sum_cannot_be_revoked_out_of_it(fleet: Fleet, team: tuple[Device, ...]) -> None:
    gone = fleet.enroll("one that is revoked")
    devices = (gone, *team[1:])
    round_id = start(fleet)
    parts = each(devices, lambda number: begun(devices[number], round_id))
    each(devices, lambda number: parts[number].share())
    each(devices, lambda number: parts[number].report())
    each(devices, lambda number: parts[number].submit(rows_of(number)))
    fleet.until(round_id, lambda seen: seen["progress"]["completed_devices"] == 4)
    fleet.http.post(f"/workbench/v1/devices/{gone.id}/revoke", json={"reason": "lost"})
    assert fleet.over(round_id)["reason"] == "a device whose update is in the sum was revoked"


def test_a_kill_between_two_steps_changes_nothing(fleet: Fleet, team: tuple[Device, ...]) -> None:
    rows = [rows_of(seed) for seed in range(4)]
    round_id = start(fleet)
    parts = each(team, lambda number: begun(team[number], round_id))
    for step in ("share", "report", "submit", "agree", "unmask"):
        for process in fleet.server.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        fleet.server.start()
        more = (lambda number: (rows[number],)) if step == "submit" else (lambda number: ())
        told = each(team, lambda number, step=step, more=more: getattr(parts[number], step)(*more(number)))
        assert not [one for one in told if isinstance(one, Refused)], told
    assert fleet.over(round_id)["phase"] == "completed"
    bound = Encoding.weighted(4).most_error(4, 160)
    assert farthest(model_of(fleet, round_id), plain(fleet, team, rows)) <= bound + 1e-6


# ------------------------------------------------------------------------------- privacy, and what is refused
def test_a_private_secure_round_clips_on_devices(fleet: Fleet, team: tuple[Device, ...]) -> None:
    privacy = {"differential_privacy": True, "noise_level": 5.0, "clip_norm": 0.5}
    round_id = start(fleet, privacy_settings=privacy)
    parts = each(team, lambda number: begun(team[number], round_id))
    assert parts[0].encoding == Encoding.clipped(4, 0.5, 5.0)
    each(team, lambda number: parts[number].take(rows_of(number)))
    ended = fleet.over(round_id)
    assert ended["phase"] == "completed", ended
    told = ended["privacy"]
    assert (told["clipping"], told["clip_norm"], told["noise_multiplier"]) == ("on devices", 0.5, 5.0)
    assert told["epsilon"] > 0
    with sqlite3.connect(fleet.server.home / "tgsp.db") as database:
        asked = "SELECT sealed IS NULL, released_at IS NOT NULL FROM round_charges WHERE round_id = ?"
        assert database.execute(asked, (round_id,)).fetchall() == [(1, 1)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"strategy": "median"}, "looks at every single update"),
        ({"strategy": "norm-bound"}, "looks at every single update"),
        ({"strategy": "scaffold"}, "control variates"),
        ({"compression": "int8"}, "compression"),
        ({"compression": "top-k"}, "compression"),
        ({"participant_criteria": {"min_participants": 2}}, "fewer than 3 participants"),
        ({"participant_criteria": {"min_participants": 3, "quorum": 2}}, "fewer than 3 participants"),
        ({"participant_criteria": {"min_participants": 3, "max_participants": 300}}, "more than 256"),
        (
            {"privacy_settings": {"differential_privacy": True, "adaptive_clipping": True}},
            "adaptive clipping",
        ),
        ({"privacy_settings": {"differential_privacy": True, "mechanism": "dp_ftrl"}}, "gaussian"),
        ({"privacy_settings": {"differential_privacy": True, "noise_level": 5000.0}}, "at most 1000"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value,
)
def test_what_cannot_be_summed_under_masks_is_refused(
    fleet: Fleet, change: dict[str, Any], told: str
) -> None:
    criteria = {"min_participants": 5}
    body = {"model_config": MODEL, "participant_criteria": criteria, "secure_aggregation": True, **change}
    answer = fleet.http.post("/api/v1/fl/rounds", json=body)
    assert answer.status_code in (400, 422), answer.text
    assert told in answer.text


def test_only_devices_of_the_round_find_its_letters(fleet: Fleet, team: tuple[Device, ...]) -> None:
    round_id, stranger = start(fleet), fleet.enroll("a stranger")
    path = f"/workbench/v1/federation/rounds/{round_id}/secure"
    assert fleet.http.get(path).status_code == 403
    with pytest.raises(RoundNotFound):
        stranger._connection.get(path)
    plain_round = fleet.start()
    fleet.recruiting(plain_round["id"])
    stranger.join(plain_round["id"])
    with pytest.raises(Refused, match="does not mask"):
        stranger._connection.get(f"/workbench/v1/federation/rounds/{plain_round['id']}/secure")
    for found in (round_id, plain_round["id"]):
        fleet.http.delete(f"/workbench/v1/federation/campaigns/{fleet.round(found)['campaign_id']}")


def test_devices_learn_in_secure_rounds_by_themselves(fleet: Fleet, team: tuple[Device, ...]) -> None:
    criteria = {"min_participants": 3}
    started = fleet.start(
        model_config=MODEL, participant_criteria=criteria, secure_aggregation=True, rounds=2
    )
    took = each(team[:3], lambda number: team[number].learn(rows_of(number), rounds=2, idle=60))
    assert [len(one) for one in took] == [2, 2, 2]
    assert fleet.campaign_over(started["campaign_id"])["status"] == "completed"


def test_a_device_that_can_do_no_more_for_a_round_does_not_ask_all_the_time(
    fleet: Fleet, team: tuple[Device, ...]
) -> None:
    round_id = start(fleet)
    each(team, lambda number: team[number].join(round_id))
    take_until(team[0], round_id, rows_of(0), "share")  # and its secrets are gone with its process
    before = heartbeats(fleet)
    assert team[0].learn(rows_of(0), idle=4.0) == []
    assert heartbeats(fleet) - before < 8
    fleet.http.delete(f"/workbench/v1/federation/campaigns/{fleet.round(round_id)['campaign_id']}")


def heartbeats(fleet: Fleet) -> float:
    """How many the workbench has heard."""
    text = fleet.http.get("/api/v1/monitoring/metrics").text
    counted = [line for line in text.splitlines() if "requests_total" in line and "heartbeat" in line]
    return sum(float(line.split()[-1]) for line in counted)
