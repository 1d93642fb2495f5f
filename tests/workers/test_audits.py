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


def careless(workshop: Workshop, rows: Rows, **more: object) -> tuple[str, Dataset]:
    dataset = workshop.dataset(*rows, privacy="public")
    spec = ClientSpec("mlp", dataset_id=dataset.id, architecture=WIDE, batch_size=50, optimizer=QUICK)
    return workshop.create(replace(spec, audit_canaries=100, **more)), dataset  # type: ignore[arg-type]


def test_a_careless_model_is_found_out(workshop: Workshop, wide: Rows) -> None:
    client, _ = careless(workshop, wide)
    fresh = workshop.do(client, "audit", {"method": "canaries"})
    assert fresh["epsilon_lower_bound"] < 0.5, "nothing was learned yet"
    workshop.do(client, "train", {"steps": 300})
    found = workshop.do(client, "audit", {"method": "canaries"})
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
    assert workshop.do(client, "audit", {"method": "canaries"})["auc"] > 0.7


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
    noisy = DPSpec(noise_multiplier=1.0, noisy_loss_bound=2.0)
    with pytest.raises(InvalidRequest, match="noisy loss"):
        workshop.create(replace(spec, audit_canaries=50, dp=noisy))
    plain = workshop.create(ClientSpec("mlp", dataset_id=dataset.id))
    refusal = workshop.refused(plain, "audit", {"method": "canaries"})
    assert refusal["type"] == "InvalidRequest"
    assert "without audit_canaries" in refusal["message"]
