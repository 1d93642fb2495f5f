"""Audits by canaries: what is learned beside a dataset, whichever worker learns it, and costs nobody."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.workers.conftest import Workshop
from tests.workers.test_recovery import SMALL, Rows
from tg_workbench.datasets import Dataset
from tg_workbench.errors import InvalidRequest
from tg_workbench.training import Architecture, ClientSpec, DPSpec, OptimizerSpec

WIDE = Architecture((32,), 2, (64,))
QUICK = OptimizerSpec("adam", learning_rate=0.02)


@pytest.fixture
def wide() -> Rows:
    """So many numbers each that a network can learn 100 rows by heart."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(100, 32)).astype(np.float32), rng.integers(0, 2, 100)


def careless(workshop: Workshop, rows: Rows, canaries: int = 100) -> tuple[str, Dataset]:
    dataset = workshop.dataset(*rows, privacy="public")
    spec = ClientSpec("mlp", dataset_id=dataset.id, architecture=WIDE, batch_size=50, optimizer=QUICK)
    return workshop.create(replace(spec, audit_canaries=canaries)), dataset


def test_a_careless_model_is_found_out(workshop: Workshop, wide: Rows) -> None:
    for _ in range(3):  # whose canaries happen to hide, once in 400 clients
        client, _ = careless(workshop, wide)
        fresh = workshop.do(client, "audit", {"method": "canaries", "confidence": 1 - 1e-7})
        assert fresh["epsilon_lower_bound"] < 0.5, "nothing was learned yet"
        workshop.do(client, "train", {"steps": 300})
        found = workshop.do(client, "audit", {"method": "canaries"})
        if found["epsilon_lower_bound"] > 0.3 and found["auc"] > 0.7:
            break
    assert found["epsilon_lower_bound"] > 0.3
    assert found["auc"] > 0.7
    assert (found["epsilon"], found["gap"], found["canaries"], found["steps"]) == (None, None, 100, 300)


def test_another_worker_has_the_same_canaries(workshop: Workshop, wide: Rows) -> None:
    client, _ = careless(workshop, wide)
    workshop.do(client, "train", {"steps": 60})
    workshop.do(client, "save_state")
    before = workshop.do(client, "audit", {"method": "canaries"})
    first = workshop.kill_worker(client)
    assert workshop.do(client, "audit", {"method": "canaries"}) == before
    assert workshop.worker(client) != first
    workshop.do(client, "train", {"steps": 240})
    assert workshop.do(client, "audit", {"method": "canaries"})["auc"] > 0.6  # 0.86 with a spread of 0.05


def test_canaries_leave_what_rows_are_charged_and_divided_by_alone(workshop: Workshop, wide: Rows) -> None:
    dataset = workshop.dataset(*wide)
    dp = DPSpec(noise_multiplier=1.5)
    spec = ClientSpec("mlp", dataset_id=dataset.id, batch_size=20, dp=dp, max_steps=40, optimizer=QUICK)
    client = workshop.create(replace(spec, audit_canaries=100))
    workshop.do(client, "train", {"steps": 40})
    events = workshop.ledger(client)
    assert {(event.noise_multiplier, event.sample_rate) for event in events} == {(1.5, 0.2)}
    without = workshop.create(spec)
    workshop.do(without, "train", {"steps": 40})
    told, same = workshop.client(client).privacy or {}, workshop.client(without).privacy or {}
    assert told["spent_epsilon"] == same["spent_epsilon"]
    found = workshop.do(client, "audit", {"method": "canaries"})
    assert found["epsilon"] == told["spent_epsilon"]
    assert found["epsilon_lower_bound"] <= found["epsilon"]
    assert len(workshop.ledger(client)) == 40, "an audit is charged nothing"


def test_the_seed_is_each_clients_own_and_outlives_its_worker(workshop: Workshop, wide: Rows) -> None:
    one, _ = careless(workshop, wide)
    other, _ = careless(workshop, wide)
    seeds = [workshop.client(client).config["audit_seed"] for client in (one, other)]
    assert len(set(seeds)) == 2
    assert all(len(seed) == 64 for seed in seeds)
    assert workshop.client(one).status == "ready"
    events = [json.dumps(event) for kind in ("status", "operation") for event in workshop.events(one, kind)]
    assert not [event for event in events if seeds[0] in event]


def test_canaries_are_learned_beside_a_dataset_or_not_at_all(workshop: Workshop, wide: Rows) -> None:
    dataset = workshop.dataset(*wide)
    with pytest.raises(InvalidRequest, match="beside a dataset"):
        workshop.create(ClientSpec("mlp", architecture=SMALL, audit_canaries=50))
    spec = ClientSpec("mlp", dataset_id=dataset.id)
    with pytest.raises(InvalidRequest, match="more than the 100 rows"):
        workshop.create(replace(spec, audit_canaries=101))
    with pytest.raises(InvalidRequest, match="prove nothing"):
        workshop.create(replace(spec, audit_canaries=19))
    noisy = DPSpec(noise_multiplier=1.0, noisy_loss_bound=2.0)
    with pytest.raises(InvalidRequest, match="noisy loss"):
        workshop.create(replace(spec, audit_canaries=50, dp=noisy))
    plain = workshop.create(ClientSpec("mlp", dataset_id=dataset.id))
    refusal = workshop.refused(plain, "audit", {"method": "canaries"})
    assert refusal["type"] == "InvalidRequest"
    assert "without audit_canaries" in refusal["message"]


# -------------------------------------------------------------------------------------------- LiRA
def test_twins_show_who_was_learned_and_the_client_stays_what_it_was(workshop: Workshop, wide: Rows) -> None:
    client, dataset = careless(workshop, wide, canaries=0)
    workshop.do(client, "train", {"steps": 100})
    before, seen = workshop.client(client), workshop.do(client, "evaluate", {"dataset_id": dataset.id})
    found = workshop.do(client, "audit", {"method": "lira", "twins": 8})
    assert (found["twins"], found["rows"], found["steps"]) == (8, 100, 100)
    assert found["auc"] > 0.6  # 0.81 with a spread of 0.03
    assert 0.0 <= found["tpr_at_fpr_0_1_percent"] <= found["tpr_at_fpr_1_percent"] <= 1.0
    assert found["epsilon"] is None
    assert found["covered_by_epsilon"] is False
    after = workshop.client(client)
    assert (after.step, after.lineage, after.privacy) == (before.step, before.lineage, before.privacy)
    assert workshop.do(client, "evaluate", {"dataset_id": dataset.id}) == seen


def test_twins_with_noise_stay_below_what_a_client_is_charged(workshop: Workshop, wide: Rows) -> None:
    dataset = workshop.dataset(*wide)
    dp = DPSpec(noise_multiplier=1.5)
    spec = ClientSpec("mlp", dataset_id=dataset.id, batch_size=50, dp=dp, max_steps=10, optimizer=QUICK)
    client = workshop.create(spec)
    workshop.do(client, "train", {"steps": 10})
    found = workshop.do(client, "audit", {"method": "lira", "twins": 8})
    assert 0.0 <= found["epsilon_lower_bound"] <= found["epsilon"]
    assert found["epsilon"] == pytest.approx(
        (workshop.client(client).privacy or {})["spent_epsilon"], rel=0.05
    )
    assert len(workshop.ledger(client)) == 10, "twins are charged nothing: nothing of them is released"


def test_twins_are_begun_anew_when_their_worker_is_lost(workshop: Workshop, wide: Rows) -> None:
    client, _ = careless(workshop, wide, canaries=0)
    workshop.do(client, "train", {"steps": 5})
    audit = workshop.submit(client, "audit", {"method": "lira", "twins": 16, "steps": 100})
    workshop.until(lambda: workshop.operation(audit).status == "running")
    workshop.kill_worker(client)
    assert (workshop.ended(audit).result or {})["twins"] == 16
    assert workshop.client(client).step == 5


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"steps": 50_000, "twins": 4}, "take too long"),
        ({"steps": 5_000, "twins": 64}, "take too long"),
        ({}, "how many 'steps'"),
    ],
)
def test_twins_that_take_too_long_are_refused(
    workshop: Workshop, wide: Rows, asked: dict[str, int], reason: str
) -> None:
    client, _ = careless(workshop, wide, canaries=0)
    refusal = workshop.refused(client, "audit", {"method": "lira", **asked})
    assert (refusal["type"], reason in refusal["message"]) == ("InvalidRequest", True)


def test_twins_need_rows_of_numbers_and_enough_of_them(workshop: Workshop, wide: Rows) -> None:
    own = workshop.create(ClientSpec("mlp", architecture=SMALL))
    assert "without one" in workshop.refused(own, "audit", {"method": "lira", "steps": 5})["message"]
    few = workshop.dataset(wide[0][:20], wide[1][:20])
    client = workshop.create(ClientSpec("mlp", dataset_id=few.id))
    assert "at least 40 rows" in workshop.refused(client, "audit", {"method": "lira", "steps": 5})["message"]
