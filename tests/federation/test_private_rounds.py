"""Rounds with differential privacy of devices: charged before their noise, shown in every answer."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from tests.federation.attacking import asked
from tests.federation.conftest import Fleet
from tests.federation.test_rounds import both
from tg_workbench.errors import PrivacyRefused
from tg_workbench.sdk.device import Device


def spent(fleet: Fleet) -> float:
    """What the ledger says was spent on the fleet."""
    with sqlite3.connect(fleet.server.home / "tgsp.db") as database:
        row = database.execute("SELECT spent_epsilon FROM fleets WHERE tenant_id = 'local'").fetchone()
    return float(row[0]) if row else 0.0


def charges(fleet: Fleet, round_id: str) -> list[Any]:
    """What was charged for a round: noise, whether its seed is still there, whether it was released."""
    with sqlite3.connect(fleet.server.home / "tgsp.db") as database:
        return database.execute(
            "SELECT attempt, sealed IS NULL, released_at IS NOT NULL FROM round_charges WHERE round_id = ?",
            (round_id,),
        ).fetchall()


def test_a_private_round_is_charged_and_says_what_it_costs(fleet: Fleet, pair: tuple[Device, Device]) -> None:
    before = spent(fleet)
    started = fleet.start(privacy_settings={"differential_privacy": True, "noise_level": 5.0})
    assert started["privacy"]["is_planned"]
    assert started["privacy"]["epsilon"] == pytest.approx(0.83, abs=0.2)
    fleet.recruiting(started["id"])
    both(pair, started["id"])
    ended = fleet.over(started["id"])
    assert ended["status"] == "completed", ended
    privacy = ended["privacy"]
    assert (privacy["unit"], privacy["noise_multiplier"], privacy["clip_norm"]) == ("device", 5.0, 1.0)
    assert privacy["epsilon"] == pytest.approx(started["privacy"]["epsilon"], rel=1e-3)
    assert privacy["delta"] == 1e-5
    assert spent(fleet) > before
    assert charges(fleet, started["id"]) == [(0, 1, 1)]


def test_a_private_round_tells_nothing_that_epsilon_does_not_cover(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    started = fleet.start(privacy_settings={"differential_privacy": True, "noise_level": 8.0})
    fleet.recruiting(started["id"])
    both(pair, started["id"])
    ended = fleet.over(started["id"])
    assert ended["progress"]["avg_accuracy"] is None
    assert ended["progress"]["avg_loss"] is None
    assert all(part["sample_count"] is None for part in fleet.parts(started["id"]).values())


@pytest.mark.parametrize(
    "settings",
    [
        {"adaptive_clipping": True, "noise_level": 6.0, "clip_norm": 0.5},
        {"mechanism": "dp_ftrl", "noise_level": 9.0, "max_participations": 2},
        {"target_epsilon": 0.5},
    ],
    ids=["adaptive clipping", "dp-ftrl", "target epsilon"],
)
def test_every_mechanism_makes_a_model_over_two_rounds(
    fleet: Fleet, pair: tuple[Device, Device], settings: dict[str, Any]
) -> None:
    started = fleet.start(rounds=2, privacy_settings={"differential_privacy": True, **settings})
    for number in range(2):
        history = fleet.campaign(started["campaign_id"])["history"]
        round_id = history[number]["id"]
        fleet.recruiting(round_id)
        both(pair, round_id)
        fleet.over(round_id)
    campaign = fleet.campaign_over(started["campaign_id"])
    assert campaign["status"] == "completed", campaign
    epsilons = [each["privacy"]["epsilon"] for each in campaign["history"]]
    assert epsilons == sorted(epsilons)
    if "target_epsilon" in settings:
        assert epsilons[-1] <= 0.5
    model = fleet.http.get(f"/workbench/v1/models/{campaign['model_id']}").json()
    assert model["privacy"]["epsilon"] == pytest.approx(epsilons[-1])


def test_a_round_is_offered_to_those_alone_whose_turn_it_is(
    fleet: Fleet, pair: tuple[Device, Device]
) -> None:
    settings = {"differential_privacy": True, "mechanism": "dp_ftrl", "noise_level": 20.0}
    started = fleet.start(rounds=3, privacy_settings={**settings, "max_participations": 1})
    fleet.recruiting(started["id"])
    both(pair, started["id"])
    fleet.over(started["id"])
    second = fleet.campaign(started["campaign_id"])["history"][1]["id"]
    fleet.recruiting(second)
    with pytest.raises(PrivacyRefused, match="at most 1 time"):
        pair[0].join(second)
    assert second not in [each["id"] for each in pair[0].rounds()]
    assert second in [each["id"] for each in fleet.enroll("one that was not there").rounds()]
    fleet.http.delete(f"/workbench/v1/federation/campaigns/{started['campaign_id']}")


def test_a_cancelled_campaign_leaves_no_seed_of_its_tree(fleet: Fleet, pair: tuple[Device, Device]) -> None:
    settings = {"differential_privacy": True, "mechanism": "dp_ftrl", "noise_level": 20.0}
    started = fleet.start(rounds=3, privacy_settings={**settings, "max_participations": 2})
    fleet.recruiting(started["id"])
    both(pair, started["id"])
    fleet.over(started["id"])
    question = "SELECT sealed IS NULL, done_at IS NULL FROM noise_trees WHERE campaign_id = ?"
    assert asked(fleet.server.home, question, started["campaign_id"]) == [(0, 1)]
    gone = fleet.http.delete(f"/workbench/v1/federation/campaigns/{started['campaign_id']}")
    assert gone.json()["status"] == "cancelled"
    assert asked(fleet.server.home, question, started["campaign_id"]) == [(1, 0)]


def test_the_documents_noise_level_is_refused_with_the_epsilon_that_it_means(fleet: Fleet) -> None:
    body = {
        "model_config": {"architecture": "cnn"},
        "privacy_settings": {"differential_privacy": True, "noise_level": 0.1},
    }
    answer = fleet.http.post("/api/v1/fl/rounds", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "PRIVACY_REFUSED"
    assert "past its cap of 10.00" in answer.text


@pytest.mark.parametrize(
    ("settings", "strategy", "told"),
    [
        ({"differential_privacy": True}, "median", "one noisy mean"),
        ({"differential_privacy": True}, "scaffold", "one noisy mean"),
        ({"differential_privacy": False, "noise_level": 1.0}, "fedavg", "differential_privacy"),
        ({"differential_privacy": True, "noise_level": 0.001}, "fedavg", "noise_level"),
        ({"differential_privacy": True, "sampling": "poisson", "sample_rate": 0.5}, "fedavg", "sampling"),
        ({"differential_privacy": True, "magic": 1}, "fedavg", "may only have"),
    ],
)
def test_privacy_that_cannot_be_is_refused(
    fleet: Fleet, settings: dict[str, Any], strategy: str, told: str
) -> None:
    model = {"architecture": "mlp"}
    body = {"model_config": model, "privacy_settings": settings, "strategy": strategy}
    answer = fleet.http.post("/api/v1/fl/rounds", json=body)
    assert answer.status_code in (400, 422), answer.text
    assert told in answer.text
