"""Announcements say only what may be said, and only to whom it concerns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from tg_workbench import events
from tg_workbench.events import (
    AlertChanged,
    Events,
    Fact,
    Logged,
    OperationEnded,
    Progressed,
    StatusChanged,
    tenant_subject,
)
from tg_workbench.identity import Principal
from tg_workbench.observability.announcements import Announcement, Channel, announcements, newest_event
from tg_workbench.storage import Database
from tg_workbench.training import TrainingClient

RAW = 0.123456789
ALICE = Principal("alice", "acme", frozenset({"read", "monitoring"}))
READER = Principal("alice", "acme", frozenset({"read"}))
CAROL = Principal("carol", "acme", frozenset({"read", "monitoring"}))
EVE = Principal("eve", "eves", frozenset({"read", "monitoring"}))
PRIVACY = {
    "guarantee": "differential_privacy",
    "spent_epsilon": 1.5,
    "sample_rate": 0.25,
    "noise_multiplier": 1.0,
}
FACTS: list[Fact] = [
    StatusChanged("error", 3, reason=f"the loss was {RAW}"),
    Progressed(
        {"step": [1], "loss": [RAW], "epsilon": [0.5], "noisy_loss": [2.0], "grad_norm": [RAW]},
        1,
        4,
        1,
        PRIVACY,
    ),
    OperationEnded("fut-1", "train", "failed", {"type": "Refused", "message": f"{RAW}"}),
    OperationEnded("fut-2", "optim_step", "completed"),
    events.ClientInterrupted(f"at {RAW}", 5, 3, 2),
    events.CheckpointSaved("art-1", 5, automatic=True),
]
OF_DEVICES: list[Fact] = [
    events.DeviceRegistered("dev_1", "acme", "Edge Device 001"),
    events.DeviceCameOnline("dev_1"),
    events.DeviceOffline("dev_1", 1.5),
    events.KeyRotated("dev_1", "v2.0", "server"),
    events.KeyRotationForced(None, 2.5),
    events.CertificateRevoked("dev_1", "stolen"),
    events.DeviceDeregistered("dev_1"),
]
OF_ROUNDS: list[Fact] = [
    events.RoundStarted("round_1", "camp_1", 1, "v0", 10),
    events.RoundProgressed("round_1", "camp_1", 1, "training", 4, 10),
    events.RoundEnded("round_1", "camp_1", 1, "completed", "v1", 10),
    events.UpdateRefused("round_1", "dev_1", "its device did not sign it"),
]
DEVICE_1 = Principal("dev_1", "acme", frozenset({"device"}))
DEVICE_2 = Principal("dev_2", "acme", frozenset({"device"}))
DEVICE_OF_EVE = Principal("dev_1", "eves", frozenset({"device"}))
ALERT = AlertChanged("alert-1", "budget_near_cap", "firing", "warning", "ds-1", 0.9, 0.8, "nearly spent")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path}/x.db")
    opened.migrate()
    with opened.write() as session:
        session.add(TrainingClient(id="tc-1", owner_id="alice", tenant_id="acme", model_ref="mlp", config={}))
    yield opened
    opened.close()


def say(database: Database, *facts: Fact, subject: str = "tc-1") -> list[Announcement]:
    """What is announced of facts."""
    with database.write() as session:
        before = newest_event(session)
        for fact in facts:
            Events(session).record(subject, fact)
        said, position = announcements(session, before, 100)
        assert position == before + len(facts)
    return said


def test_nothing_raw_is_said_of_any_fact(database: Database) -> None:
    said = say(database, *FACTS)
    assert [one.type for one in said] == [
        *(
            "training_status",
            "training_progress",
            "training_ended",
            "training_interrupted",
            "checkpoint_saved",
        )
    ]
    text = json.dumps([one.data for one in said])
    assert str(RAW) not in text
    assert not [word for word in ('"loss"', "norm", "reason", 'error":', "sample_rate") if word in text]


def test_progress_says_epsilon_and_the_noisy_loss(database: Database) -> None:
    (progress,) = say(database, FACTS[1])
    assert progress.data["points"] == {"step": [1], "epsilon": [0.5], "noisy_loss": [2.0]}
    assert (progress.data["completed_steps"], progress.data["total_steps"]) == (1, 4)
    assert progress.data["progress_percentage"] == 25
    assert progress.data["privacy"]["spent_epsilon"] == 1.5


@pytest.mark.parametrize(("total", "done"), [(None, None), (0, 0), (None, 3)])
def test_progress_without_an_end_in_sight_has_no_percentage(
    database: Database, total: int | None, done: int | None
) -> None:
    (progress,) = say(database, Progressed({"step": [1]}, 1, total, done, None))
    assert (progress.data["progress_percentage"], progress.data["privacy"]) == (None, None)


def test_a_fact_that_nobody_has_looked_at_is_not_said(database: Database) -> None:
    """Every kind of fact is here, so a new one is silent until somebody has decided on it."""
    line = Logged("INFO", "Epoch 1/1")  # of a job's own log, which its owner reads there
    assert {type(fact) for fact in [*FACTS, *OF_DEVICES, *OF_ROUNDS, ALERT, line]} == set(get_args(Fact))
    assert say(database, line) == []
    class_of_its_own: Any = type("Rumour", (StatusChanged,), {"type": "rumour"})
    assert say(database, class_of_its_own("ready", 1)) == []


HEARS: list[tuple[Principal, Channel, bool, bool]] = [
    # who, where, hears of alice's training, hears of acme's alerts
    (ALICE, "training", True, False),
    (ALICE, "dashboard", True, True),
    (ALICE, "security", False, True),
    (READER, "dashboard", True, False),
    (READER, "security", False, False),
    (CAROL, "training", False, False),
    (CAROL, "dashboard", False, True),
    (EVE, "training", False, False),
    (EVE, "dashboard", False, False),
    (EVE, "security", False, False),
]


@pytest.mark.parametrize(("who", "where", "training", "alerts"), HEARS, ids=range(len(HEARS)))
def test_each_hears_what_is_theirs(
    database: Database, who: Principal, where: Channel, training: bool, alerts: bool
) -> None:
    (status,) = say(database, FACTS[0])
    (alert,) = say(database, ALERT, subject=tenant_subject("acme"))
    assert (status.is_for(who, where), alert.is_for(who, where)) == (training, alerts)


def test_what_is_said_of_devices_is_their_ids_and_states(database: Database) -> None:
    said = say(database, *OF_DEVICES, subject=tenant_subject("acme"))
    assert [(one.type, one.data) for one in said] == [
        ("device_registered", {"device_id": "dev_1", "device_name": "Edge Device 001"}),
        ("device_online", {"device_id": "dev_1"}),
        ("device_offline", {"device_id": "dev_1", "last_seen": 1.5}),
        ("key_rotated", {"device_id": "dev_1", "key_version": "v2.0"}),
        ("key_rotation_forced", {"device_id": None, "deadline": 2.5}),
        ("certificate_revoked", {"device_id": "dev_1", "reason": "stolen"}),
        ("device_deregistered", {"device_id": "dev_1"}),
    ]


def heard(said: list[Announcement], who: Principal, where: Channel) -> set[str]:
    return {one.type for one in said if one.is_for(who, where)}


def test_each_hears_of_devices_what_concerns_them(database: Database) -> None:
    said = say(database, *OF_DEVICES, subject=tenant_subject("acme"))
    everything = {one.type for one in said}
    members = {"device_registered", "device_online", "device_offline", "device_deregistered"}
    assert heard(said, ALICE, "dashboard") == heard(said, ALICE, "security") == everything
    assert heard(said, READER, "dashboard") == members
    assert heard(said, READER, "security") == heard(said, ALICE, "training") == set()
    assert heard(said, EVE, "dashboard") == heard(said, EVE, "security") == set()


def test_a_device_hears_of_itself_and_of_what_all_must_do(database: Database) -> None:
    said = say(database, *OF_DEVICES, ALERT, subject=tenant_subject("acme"))
    assert heard(said, DEVICE_1, "device") == {one.type for one in said} - {"security_alert"}
    assert heard(said, DEVICE_2, "device") == {"key_rotation_forced"}
    assert heard(said, DEVICE_OF_EVE, "device") == set()
    assert heard(said, DEVICE_1, "training") == set()
    (status,) = say(database, FACTS[0])
    assert not status.is_for(DEVICE_1, "device")
