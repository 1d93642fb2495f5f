"""Rounds with secure aggregation, from beginning to end: the sum is right, and no single update is seen."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.federation.conftest import CLASSES, SIDE, Fleet, rows_of
from tg_workbench.device.masked_part import MaskedPart
from tg_workbench.errors import Refused
from tg_workbench.federation.updates.secure_aggregation import Encoding
from tg_workbench.sdk.device import Device, TookPart

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
    return safetensors.numpy.load(answer.content)


def farthest(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def plain(fleet: Fleet, devices: tuple[Device, ...], rows: list[Rows]) -> dict[str, np.ndarray]:
    """The model that the same devices make without masks."""
    started = fleet.start(model_config=MODEL, participant_criteria={"min_participants": len(devices)})
    fleet.recruiting(started["id"])
    each(devices, lambda number: devices[number].take_part(started["id"], rows[number]))
    return model_of(fleet, started["id"])


def each(devices: tuple[Device, ...], does: Callable[[int], Any]) -> list[Any]:
    """What comes of it when every device does something, at once: the result, or the error."""

    def done(number: int) -> Any:
        try:
            return does(number)
        except Refused as refusal:
            return refusal

    with ThreadPoolExecutor(len(devices)) as pool:
        return [
            waiting.result(timeout=120) for waiting in [pool.submit(done, n) for n in range(len(devices))]
        ]


def begun(device: Device, round_id: str) -> MaskedPart:
    """A device's part in a secure round, before its first step."""
    part = device._part(round_id)
    assignment = part.await_assignment(60)
    assert assignment is not None
    return MaskedPart(part, assignment)


def take_until(device: Device, round_id: str, rows: Rows, step: str) -> MaskedPart:
    """Take part, and vanish before a step."""
    masked = begun(device, round_id)
    if step == "share":
        masked._say("advertise", _members(masked.participant.advertise()))
        return masked
    masked.share()
    if step in ("agree", "unmask"):
        masked.submit(rows)
    if step == "unmask":
        masked.agree()
    return masked


def _members(message: Any) -> dict[str, Any]:
    from tg_workbench.federation.updates.secure_aggregation import members_of

    return members_of(message)


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


@pytest.mark.parametrize("step", ["advertise", "share", "mask", "agree", "unmask"])
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


@pytest.mark.parametrize("step", ["share", "mask", "agree", "unmask"])
def test_with_too_few_survivors_a_round_fails_and_says_why(
    fleet: Fleet, team: tuple[Device, ...], step: str
) -> None:
    round_id = start(fleet, training_seconds=10.0)

    def does(number: int) -> Any:
        if number > 1:
            return team[number].take_part(round_id, rows_of(number))
        return take_until(team[number], round_id, rows_of(number), step)

    each(team, does)
    ended = fleet.over(round_id)
    assert ended["phase"] == "failed", ended
    told = f"2 devices were left to {step}, and 3 are needed"
    assert ended["reason"] == f"secure aggregation goes no further: {told}"
    assert fleet.campaign(ended["campaign_id"])["status"] == "failed"
    with sqlite3.connect(fleet.server.home / "tgsp.db") as database:
        for table in ("secure_rounds", "secure_messages", "secure_parcels"):
            of_it = f"SELECT count(*) FROM {table} WHERE round_id = ?"  # noqa: S608
            assert database.execute(of_it, (round_id,)).fetchone() == (0,)
