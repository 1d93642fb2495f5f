from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tg_widgets.federation_face import MOST_ROUNDS, SeenFederation, face_of

from tg_workbench.sdk import CampaignView, DeviceView, Participation, RoundProgress, RoundView

PROGRESS = RoundProgress(
    completed_devices=2, rejected_devices=1, avg_accuracy=0.8765, avg_loss=0.4321, convergence_metric=0.123
)
ROUND = RoundView(
    "round_1",
    phase="completed",
    participants=3,
    started_at="2026-03-01T10:00:00Z",
    ended_at="2026-03-01T10:01:05Z",
    progress=PROGRESS,
)
CAMPAIGN = CampaignView(
    "camp_1", name="wards", architecture="mlp", strategy="fedavg", rounds=3, rounds_done=1
)
DEVICES = (
    DeviceView("dev_1", name="ward 4", status="online", training={"total_rounds_completed": 7}),
    DeviceView("dev_2", name="ward 5", status="offline", security={"certificate_status": "revoked"}),
)
PARTS = (Participation("dev_1", "rejected", reason="its numbers are not finite", sample_count=30),)
PRIVACY: dict[str, Any] = {"epsilon": 1.2301, "delta": 1e-5, "unit": "device"}


def seen(**of_round: Any) -> SeenFederation:
    campaign = replace(CAMPAIGN, history=[replace(ROUND, **of_round)])
    counts = {"online": 1, "offline": 4}
    return SeenFederation(DEVICES, counts, [campaign], campaign, PARTS)


def test_a_round_says_who_was_there_and_what_it_came_to() -> None:
    (row,) = face_of(seen())["rounds"]
    assert (row["accepted"], row["rejected"], row["members"]) == (2, 1, 3)
    assert (row["accuracy"], row["moved"], row["epsilon"]) == ("87.6 %", "12.3 %", "")
    assert row["time"] == "1 min 5 s"
    (row,) = face_of(seen(ended_at=None, phase="training"))["rounds"]
    assert row["time"] == ""


def test_devices_show_how_they_stand_and_their_part() -> None:
    face = face_of(seen())
    first, second = face["devices"]
    assert (first["status"], first["rounds"], first["part"], first["samples"]) == (
        "online",
        7,
        "rejected",
        30,
    )
    assert first["reason"] == "Its numbers are not finite."
    assert (second["status"], second["part"]) == ("revoked", "")
    assert face["more_devices"] == 3
    assert {each["status"]: each["count"] for each in face["counts"]} == {
        "training": 0,
        "online": 1,
        "offline": 4,
    }


def test_epsilon_is_never_shown_smaller_than_it_is() -> None:
    assert face_of(seen(privacy=PRIVACY))["epsilon"] == {
        "kind": "spent",
        "spent": "1.24",
        "delta": "1 × 10⁻⁵",
        "unit": "device",
    }
    assert face_of(seen())["epsilon"] == {"kind": "none"}
    planned = {**PRIVACY, "is_planned": True}
    assert face_of(seen(privacy=planned))["epsilon"] == {"kind": "planned", "planned": "1.24"}
    assert face_of(SeenFederation())["epsilon"] == {"kind": "unknown"}


def test_a_published_face_names_nobody_and_shows_nothing_that_devices_say() -> None:
    face = face_of(seen(reason="its numbers are not finite", privacy=PRIVACY), published=True)
    hidden = ("ward 4", "ward 5", "dev_", "finite", "87.6", "0.87", "0.43")
    assert not [word for word in hidden if word in repr(face)]
    assert (face["campaign"]["actions"], face["rounds"][0]["moved"]) == ([], "12.3 %")
    assert face_of(seen(), published=True)["rounds"][0]["moved"] == "", "no noise, and so no ε"


@pytest.mark.parametrize(("status", "actions"), [("active", ["cancel"]), ("completed", [])])
def test_only_what_can_be_done_is_offered(status: str, actions: list[str]) -> None:
    campaign = replace(CAMPAIGN, status=status)
    assert face_of(SeenFederation(campaign=campaign))["campaign"]["actions"] == actions


def test_of_a_long_campaign_the_newest_rounds_are_shown() -> None:
    history = [replace(ROUND, number=number) for number in range(1, 1001)]
    rounds = face_of(SeenFederation(campaign=replace(CAMPAIGN, history=history)))["rounds"]
    assert (len(rounds), rounds[-1]["number"]) == (MOST_ROUNDS, 1000)
