"""Rounds from beginning to end: real devices, real keys, real training, over HTTP."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.federation.conftest import Fleet, rows_of
from tg_workbench.errors import RoundNotFound, RoundNotOpen
from tg_workbench.sdk.device import Device, TookPart


def both(devices: tuple[Device, ...], round_id: str) -> list[TookPart | None]:
    """What came of it when each of these devices took part."""
    with ThreadPoolExecutor(len(devices)) as pool:
        waiting = [
            pool.submit(device.take_part, round_id, rows_of(seed)) for seed, device in enumerate(devices)
        ]
        return [each.result(timeout=120) for each in waiting]


@pytest.mark.operation("S2-11", "S2-12", "S2-13", "S2-14")
def test_two_devices_make_one_model(fleet: Fleet, pair: tuple[Device, Device]) -> None:
    started = fleet.start()
    assert (started["status"], started["phase"]) == ("in_progress", "preparing")
    assert started["target_participants"] == 2
    fleet.recruiting(started["id"])
    took = both(pair, started["id"])
    assert all(part is not None and part.status in ("accepted", "submitted") for part in took)
    ended = fleet.over(started["id"])
    assert (ended["status"], ended["reason"], ended["model_version"]) == ("completed", None, "v1")
    assert ended["participants"] == ended["progress"]["completed_devices"] == 2
    assert 0.5 < ended["progress"]["avg_accuracy"] <= 1
    assert ended["progress"]["convergence_metric"] > 0
    campaign = fleet.campaign_over(started["campaign_id"])
    assert (campaign["status"], campaign["rounds_done"]) == ("completed", 1)
    assert campaign["model_digest"] == ended["model_digest"]


def test_a_campaign_learns_from_round_to_round_and_its_model_predicts(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    started = fleet.start(rounds=4, name="four rounds")
    done: dict[str, list[TookPart]] = {}

    def work(seed: int, device: Device) -> None:
        done[device.id] = device.learn(rows_of(seed), rounds=4, idle=60)

    threads = [threading.Thread(target=work, args=each) for each in enumerate(pair)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    campaign = fleet.campaign_over(started["campaign_id"])
    assert [len(each) for each in done.values()] == [4, 4]
    assert [each["phase"] for each in campaign["history"]] == ["completed"] * 4
    accuracies = [each["progress"]["avg_accuracy"] for each in campaign["history"]]
    assert accuracies[-1] > 0.8
    assert accuracies[-1] >= accuracies[0]
    model = fleet.http.get(f"/workbench/v1/models/{campaign['model_id']}").json()
    assert model["lineage"] == {"campaign": started["campaign_id"], "model_version": 4}
    held_out = rows_of(99, 50)
    answer = fleet.http.post(
        f"/models/{campaign['model_id']}/predict", json={"inputs": held_out["features"].tolist()}
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.operation("S2-10")
def test_rounds_are_listed_the_newest_first(fleet: Fleet) -> None:
    first, second = fleet.start(), fleet.start()
    listed = fleet.http.get("/api/v1/fl/rounds", params={"size": 2}).json()
    assert list(listed) == ["rounds"]
    assert [each["id"] for each in listed["rounds"]] == [second["id"], first["id"]]
    for each in (first, second):
        gone = fleet.http.delete(f"/workbench/v1/federation/campaigns/{each['campaign_id']}")
        assert gone.json()["status"] == "cancelled"
        assert fleet.round(each["id"])["reason"] == "its campaign was cancelled"


def test_the_documents_example_starts_a_round_without_its_privacy(fleet: Fleet) -> None:
    example = {
        "model_config": {
            "architecture": "cnn",
            "hyperparameters": {"learning_rate": 0.001, "batch_size": 32, "epochs": 10},
        },
        "participant_criteria": {
            "min_participants": 10,
            "max_participants": 50,
            "device_capabilities": {"min_memory_gb": 2, "min_cpu_cores": 2},
        },
    }
    answer = fleet.http.post("/api/v1/fl/rounds", json=example)
    assert answer.status_code == 201, answer.text
    assert answer.json()["target_participants"] == 50
    fleet.recruiting(answer.json()["id"])
    fleet.http.delete(f"/workbench/v1/federation/campaigns/{answer.json()['campaign_id']}")


def test_a_round_without_enough_devices_fails_at_its_deadline(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    started = fleet.start(participant_criteria={"min_participants": 3}, recruiting_seconds=4.0)
    fleet.recruiting(started["id"])
    for device in pair:
        device.join(started["id"])
    ended = fleet.over(started["id"])
    assert (ended["status"], ended["reason"]) == (
        "failed",
        "2 of at least 3 devices had joined at the deadline",
    )
    with pytest.raises(RoundNotOpen):
        fleet.enroll().join(started["id"])


def test_the_dead_are_not_waited_for(fleet: Fleet, pair: tuple[Device, Device]) -> None:
    criteria = {"min_participants": 2, "max_participants": 3, "quorum": 2}
    started = fleet.start(participant_criteria=criteria, training_seconds=6.0)
    fleet.recruiting(started["id"])
    fleet.enroll("one that dies").join(started["id"])
    both(pair, started["id"])
    ended = fleet.over(started["id"])
    assert (ended["status"], ended["progress"]["completed_devices"]) == ("completed", 2)
    assert sorted(part["status"] for part in fleet.parts(started["id"]).values()) == [
        "accepted",
        "accepted",
        "dropped",
    ]


def test_without_a_quorum_a_round_fails(fleet: Fleet, pair: tuple[Device, Device]) -> None:
    started = fleet.start(training_seconds=6.0)
    fleet.recruiting(started["id"])
    for device in pair:
        device.join(started["id"])
    pair[0].take_part(started["id"], rows_of(0))
    ended = fleet.over(started["id"])
    assert ended["reason"] == "1 updates were accepted, and 2 are needed: 0 were rejected, 1 never came"


def test_a_round_whose_strategy_leaves_all_updates_out_fails_and_its_campaign_goes_on(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    started = fleet.start(
        rounds=2, strategy="norm-bound", strategy_options={"bound": 1e-6, "refuse": True}, name="nothing fits"
    )
    fleet.recruiting(started["id"])
    both(pair, started["id"])
    ended = fleet.over(started["id"])
    told = "there are 0 updates, and the strategy takes 1 or more: 2 were longer than the bound of 1e-06"
    assert (ended["status"], ended["reason"]) == ("failed", told)
    campaign = fleet.campaign(started["campaign_id"])
    assert (campaign["status"], campaign["rounds_done"]) == ("active", 0)
    assert [each["status"] for each in campaign["history"]][:1] == ["failed"]
    fleet.http.delete(f"/workbench/v1/federation/campaigns/{started['campaign_id']}")


def test_devices_that_are_not_fit_are_not_taken(fleet: Fleet) -> None:
    criteria = {"min_participants": 1, "device_capabilities": {"min_memory_gb": 10, "min_cpu_cores": 4}}
    started = fleet.start(participant_criteria=criteria)
    fleet.recruiting(started["id"])
    small = fleet.enroll(capabilities={"memory_gb": 4, "cpu_cores": 8})
    assert started["id"] not in [each["id"] for each in small.rounds()]
    with pytest.raises(Exception, match="10 GB of memory"):
        small.join(started["id"])
    large = fleet.enroll(capabilities={"memory_gb": 32, "cpu_cores": 8})
    assert started["id"] in [each["id"] for each in large.rounds()]
    assert large.take_part(started["id"], rows_of(1)) is not None
    assert fleet.over(started["id"])["status"] == "completed"


def test_a_round_that_is_not_there_is_joined_by_nobody(pair: tuple[Device, Device]) -> None:
    with pytest.raises(RoundNotFound):
        pair[0].join("round_00000000000000000000000000000000")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_config": {"architecture": "gpt-5"}}, "there is no such model"),
        ({"strategy": "magic"}, "use one of"),
        ({"strategy_options": {"magic": 1}}, "strategy options"),
        ({"participant_criteria": {"min_participants": 0}}, "min_participants"),
        ({"participant_criteria": {"min_participants": 5, "max_participants": 4}}, "max_participants"),
        ({"participant_criteria": {"min_participants": 2, "quorum": 3}}, "quorum"),
        ({"rounds": 0}, "rounds"),
        ({"recruiting_seconds": 0}, "recruiting_seconds"),
        ({"compression": "zip"}, "compression"),
        ({"surprise": 1}, "not known here"),
    ],
)
def test_a_round_that_cannot_be_is_refused_with_the_reason(
    fleet: Fleet, change: dict[str, Any], told: str
) -> None:
    body = {"model_config": {"architecture": "mlp"}, **change}
    answer = fleet.http.post("/api/v1/fl/rounds", json=body)
    assert answer.status_code == 422, answer.text
    assert told in answer.text


def test_a_round_that_never_fills_up_keeps_no_device_from_the_others(fleet: Fleet) -> None:
    device = fleet.enroll()
    first = fleet.start(participant_criteria={"min_participants": 1000})
    fleet.recruiting(first["id"])
    second = fleet.start(participant_criteria={"min_participants": 1})
    (took,) = device.learn(rows_of(2), rounds=1)
    assert took.round_id == second["id"]
    fleet.over(second["id"])
    fleet.http.delete(f"/workbench/v1/federation/campaigns/{first['campaign_id']}")


def test_a_device_may_come_while_a_round_is_still_prepared(fleet: Fleet) -> None:
    started = fleet.start(participant_criteria={"min_participants": 1})
    assert fleet.enroll().take_part(started["id"], rows_of(3)) is not None
