"""What training clients do with operations: order, steering, budgets, checkpoints, bad input."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from sqlmodel import select

from tests.workers.conftest import Workshop
from tests.workers.test_recovery import SMALL, Rows, own_rows
from tg_workbench.errors import DatasetNotFound, InvalidRequest, PrivacyRefused
from tg_workbench.security.tables import WrappedDataKey
from tg_workbench.storage import Blobs
from tg_workbench.training import Architecture, Artifact, ClientSpec, DPSpec, OptimizerSpec
from tg_workbench.training.plan import choose_plan
from tg_workbench.training.trainers import trainer_spec


def test_operations_run_in_the_order_they_were_accepted(workshop: Workshop, two_moons: Rows) -> None:
    client = workshop.create(ClientSpec("mlp", architecture=SMALL), ready=False)
    futures = []
    for _ in range(10):
        futures.append(workshop.submit(client, "forward_backward", own_rows(two_moons)))
        futures.append(workshop.submit(client, "optim_step"))
    ended = [workshop.ended(future) for future in futures]
    assert [operation.status for operation in ended] == ["completed"] * 20
    assert [(operation.result or {}).get("step") for operation in ended[1::2]] == list(range(1, 11))
    began = [operation.started_at or 0.0 for operation in ended]
    assert began == sorted(began)


def test_retry_with_the_same_key_is_the_same_step(workshop: Workshop, two_moons: Rows) -> None:
    client = workshop.create(ClientSpec("mlp", architecture=SMALL, dp=DPSpec(noise_multiplier=1.0)))
    workshop.do(client, "forward_backward", own_rows(two_moons))
    first = workshop.submit(client, "optim_step", key="once")
    assert workshop.submit(client, "optim_step", key="once") == first
    assert workshop.ended(first).result == workshop.operation(first).result
    assert len(workshop.ledger(client)) == 1


def test_pause_holds_a_run_and_resume_lets_it_go_on(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons)
    client = workshop.create(ClientSpec("mlp", dataset_id=dataset.id, batch_size=20, max_steps=4000))
    run = workshop.submit(client, "train", {"steps": 400})
    workshop.until(lambda: len(workshop.ledger(client)) > 5)
    workshop.steer("pause", client)
    workshop.until(lambda: workshop.client(client).paused)
    workshop.until(lambda: workshop.stands_still(client))
    held = len(workshop.ledger(client))
    assert workshop.operation(run).status == "running"
    workshop.steer("resume", client)
    assert (workshop.ended(run).result or {})["steps_done"] == 400
    assert held < 400


def test_stop_ends_a_run_within_a_second_and_the_client_stays_usable(
    workshop: Workshop, two_moons: Rows
) -> None:
    dataset = workshop.dataset(*two_moons)
    client = workshop.create(ClientSpec("mlp", dataset_id=dataset.id, batch_size=20, max_steps=40_000))

    def seconds_to_stop() -> float:
        run, before = workshop.submit(client, "train", {"steps": 40_000}), len(workshop.ledger(client))
        workshop.until(lambda: len(workshop.ledger(client)) > before + 5)
        workshop.steer("stop", client)
        waited = workshop.until(lambda: workshop.operation(run).status == "completed")
        result = workshop.operation(run).result or {}
        assert result["stopped"] is True
        assert 5 < result["steps_done"] < 40_000
        return waited

    assert any(seconds_to_stop() < 1.0 for _ in range(5))  # others may be at work on the machine
    assert workshop.do(client, "train", {"steps": 3})["steps_done"] == 3


def test_cap_refuses_the_step_that_would_pass_it_and_changes_nothing(
    workshop: Workshop, two_moons: Rows
) -> None:
    dp = DPSpec(noise_multiplier=2.0, target_epsilon=3.0, target_delta=1e-5)
    client = workshop.create(ClientSpec("mlp", architecture=SMALL, dp=dp))
    for _ in range(2):
        workshop.do(client, "forward_backward", own_rows(two_moons))
        workshop.do(client, "optim_step")
    workshop.do(client, "forward_backward", own_rows(two_moons))
    before = workshop.client(client)
    error = workshop.refused(client, "optim_step")
    assert error["type"] == "BudgetExhausted"
    assert error["details"]["spent_epsilon"] <= 3.0 < error["details"]["next_epsilon"]
    after = workshop.client(client)
    assert (after.step, after.privacy) == (before.step, before.privacy)
    assert len(workshop.ledger(client)) == 2


def test_clients_on_one_dataset_never_pass_its_cap_together(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons, epsilon_cap=1.5)
    spec = ClientSpec("mlp", dataset_id=dataset.id, batch_size=40, dp=DPSpec(noise_multiplier=1.5))
    clients = [workshop.create(spec) for _ in range(2)]
    runs = [workshop.submit(client, "train", {"steps": 200}) for client in clients]
    results = [workshop.ended(run).result or {} for run in runs]
    assert all("budget of this dataset is spent" in result["reason"] for result in results)
    spent = [workshop.client(client).privacy["dataset_spent_epsilon"] for client in clients]  # type: ignore[index]
    assert max(spent) <= 1.5
    steps = sum(len(workshop.ledger(client)) for client in clients)
    assert steps == sum(result["steps_done"] for result in results)


def test_who_comes_too_late_is_told_what_the_others_have_spent(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons, epsilon_cap=1.5)
    spec = ClientSpec("mlp", dataset_id=dataset.id, batch_size=40, dp=DPSpec(noise_multiplier=1.5))
    late, early = workshop.create(spec), workshop.create(spec)
    assert workshop.do(early, "train", {"steps": 200})["steps_done"] > 1
    spent = workshop.found(dataset.id).spent_epsilon
    refused = workshop.do(late, "train", {"steps": 1})
    assert f"ε = {spent:.2f} of 1.50" in refused["reason"]
    assert refused["privacy"]["dataset_spent_epsilon"] == spent


def test_datasets_about_the_same_people_never_pass_their_cap_together(
    workshop: Workshop, two_moons: Rows
) -> None:
    first = workshop.dataset(*two_moons, epsilon_cap=1.5)
    second = workshop.dataset(*two_moons, population=first.id)
    assert (second.population, second.epsilon_cap, second.delta) == (first.population, 1.5, first.delta)
    specs = [
        ClientSpec("mlp", dataset_id=dataset.id, batch_size=40, dp=DPSpec(noise_multiplier=1.5))
        for dataset in (first, second)
    ]
    clients = [workshop.create(spec) for spec in specs]
    runs = [workshop.submit(client, "train", {"steps": 200}) for client in clients]
    results = [workshop.ended(run).result or {} for run in runs]
    assert all("budget of this dataset is spent" in result["reason"] for result in results)
    steps = sum(len(workshop.ledger(client)) for client in clients)
    alone = workshop.create(
        ClientSpec(
            "mlp",
            dataset_id=workshop.dataset(*two_moons, epsilon_cap=1.5).id,
            batch_size=40,
            dp=DPSpec(noise_multiplier=1.5),
        )
    )
    assert steps == workshop.do(alone, "train", {"steps": 200})["steps_done"]
    shown = [workshop.found(dataset.id).spent_epsilon for dataset in (first, second)]
    assert shown[0] == shown[1] <= 1.5


def test_rows_that_come_again_bring_what_was_spent_on_them(workshop: Workshop, two_moons: Rows) -> None:
    first = workshop.dataset(*two_moons, epsilon_cap=2.0)
    spec = ClientSpec("mlp", batch_size=40, dp=DPSpec(noise_multiplier=1.5))
    client = workshop.create(replace(spec, dataset_id=first.id))
    workshop.do(client, "train", {"steps": 3})
    workshop.steer("terminate", client)
    workshop.forget(first.id)
    again = workshop.dataset_of(first)
    assert (again.id != first.id, again.population) == (True, first.population)
    assert again.spent_epsilon > 0
    heir = workshop.create(replace(spec, dataset_id=again.id))
    workshop.do(heir, "train", {"steps": 1})
    assert workshop.found(again.id).spent_epsilon > again.spent_epsilon
    with pytest.raises(InvalidRequest, match="only be raised"):
        workshop.dataset_of(first, epsilon_cap=1.0)
    with pytest.raises(InvalidRequest, match="delta is fixed"):
        workshop.dataset_of(first, delta=1e-6)
    with pytest.raises(PrivacyRefused, match="cannot be public"):
        workshop.dataset_of(first, privacy="public")
    other = workshop.dataset(*two_moons)
    with pytest.raises(PrivacyRefused, match="another population already"):
        workshop.dataset_of(first, population=other.id)
    with pytest.raises(DatasetNotFound):
        workshop.dataset(*two_moons, population="ds-nobody")
    with pytest.raises(InvalidRequest, match="has no population"):
        workshop.dataset(*two_moons, population=other.id, privacy="public")
    assert workshop.dataset_of(first, epsilon_cap=3.0).epsilon_cap == 3.0
    assert workshop.found(again.id).epsilon_cap == 3.0, "the curator raised it for these people"


def test_checkpoint_brings_model_and_lineage_to_another_client(workshop: Workshop, two_moons: Rows) -> None:
    spec = ClientSpec("mlp", architecture=SMALL, dp=DPSpec(noise_multiplier=2.0))
    teacher, pupil = workshop.create(spec), workshop.create(spec)
    for _ in range(3):
        workshop.do(teacher, "forward_backward", own_rows(two_moons))
        workshop.do(teacher, "optim_step")
    saved = workshop.do(teacher, "save_state", {"metadata": {"note": "three steps"}})
    assert saved["encryption"]["algorithm"] == "AES-256-GCM"
    assert workshop.do(pupil, "load_state", {"artifact_id": saved["artifact_id"]})["step"] == 3
    expected = workshop.do(teacher, "evaluate", own_rows(two_moons))
    assert workshop.do(pupil, "evaluate", own_rows(two_moons)) == expected
    inherited = workshop.client(pupil).privacy["spent_epsilon"]  # type: ignore[index]
    assert inherited == workshop.client(teacher).privacy["spent_epsilon"]  # type: ignore[index]


def test_loading_an_older_checkpoint_gives_no_budget_back(workshop: Workshop, two_moons: Rows) -> None:
    client = workshop.create(ClientSpec("mlp", architecture=SMALL, dp=DPSpec(noise_multiplier=2.0)))
    saved = workshop.do(client, "save_state")
    workshop.do(client, "forward_backward", own_rows(two_moons))
    workshop.do(client, "optim_step")
    spent = workshop.client(client).privacy["spent_epsilon"]  # type: ignore[index]
    workshop.do(client, "load_state", {"artifact_id": saved["artifact_id"]})
    assert workshop.client(client).step == 0
    assert workshop.client(client).privacy["spent_epsilon"] == spent > 0  # type: ignore[index]


def test_private_client_takes_up_no_weights_that_saw_unprotected_rows(
    workshop: Workshop, two_moons: Rows
) -> None:
    plain = workshop.create(ClientSpec("mlp", architecture=SMALL))
    untouched = workshop.do(plain, "save_state")
    workshop.do(plain, "forward_backward", own_rows(two_moons))
    workshop.do(plain, "optim_step")
    workshop.until(lambda: (workshop.client(plain).last_checkpoint or {}).get("step") == 1)
    workshop.kill_worker(plain)  # what the weights saw is remembered by the next worker, too
    workshop.until(lambda: bool(workshop.events(plain, "interrupted")))
    saved = workshop.do(plain, "save_state")
    private = workshop.create(ClientSpec("mlp", architecture=SMALL, dp=DPSpec(noise_multiplier=1.0)))
    error = workshop.refused(private, "load_state", {"artifact_id": saved["artifact_id"]})
    assert error["type"] == "PrivacyRefused"
    assert workshop.do(private, "load_state", {"artifact_id": untouched["artifact_id"]})["step"] == 0


@pytest.mark.parametrize("damage", ["edited", "cut", "swapped"])
def test_damaged_checkpoint_is_refused_and_nothing_changes(
    workshop: Workshop, two_moons: Rows, damage: str
) -> None:
    client = workshop.create(ClientSpec("mlp", architecture=SMALL))
    saved = workshop.do(client, "save_state")
    other = workshop.do(client, "save_state")
    before = workshop.do(client, "evaluate", own_rows(two_moons))
    blobs = Blobs(workshop.settings.home / "blobs")
    with workshop.database.read() as session:
        path = blobs.path(session.get_one(Artifact, saved["artifact_id"]).blob)
        swapped = blobs.read(session.get_one(Artifact, other["artifact_id"]).blob)
    content = path.read_bytes()
    edited = bytes([*content[:100], content[100] ^ 1, *content[101:]])
    path.write_bytes({"edited": edited, "cut": content[:-10], "swapped": swapped}[damage])
    error = workshop.refused(client, "load_state", {"artifact_id": saved["artifact_id"]})
    assert error["type"] == "SealBroken"
    assert workshop.do(client, "evaluate", own_rows(two_moons)) == before


def test_keys_are_rotated_while_clients_run(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons)
    dp = DPSpec(noise_multiplier=2.0)
    spec = ClientSpec("mlp", dataset_id=dataset.id, batch_size=40, dp=dp, max_steps=4000)
    client, other = workshop.create(spec), workshop.create(ClientSpec("mlp", architecture=SMALL))
    before = workshop.do(other, "save_state")["artifact_id"]
    run = workshop.submit(client, "train", {"steps": 200})
    workshop.until(lambda: len(workshop.ledger(client)) > 10)
    for _ in range(2):
        command = [sys.executable, "-m", "tg_workbench", "rotate-keys"]
        done = subprocess.run(command, env=workshop.environment, capture_output=True, text=True, check=True)
        assert "data key(s) are wrapped with kek-" in done.stdout
    keys = json.loads((workshop.settings.home / "keys" / "key-encryption-keys.json").read_text())["keys"]
    with workshop.database.read() as session:
        wrapped_with = set(session.exec(select(WrappedDataKey.kek_id)))
    assert wrapped_with == {keys[0]["id"]}, "nothing hangs on the older keys"
    assert (workshop.ended(run).result or {})["steps_done"] == 200
    after = workshop.do(other, "save_state")["artifact_id"]
    for artifact in (before, after):
        assert workshop.do(other, "load_state", {"artifact_id": artifact})["status"] == "ready"
    pid = workshop.kill_worker(client)
    workshop.until(lambda: workshop.worker(client) not in (pid, None))
    assert workshop.do(client, "train", {"steps": 1})["step"] == 201
    assert len(workshop.ledger(client)) == 201


def test_checkpoint_of_another_architecture_is_refused(workshop: Workshop) -> None:
    client = workshop.create(ClientSpec("mlp", architecture=SMALL))
    wider = workshop.create(ClientSpec("mlp", architecture=Architecture((4,), 2, (16,))))
    saved = workshop.do(wider, "save_state")
    assert workshop.refused(client, "load_state", {"artifact_id": saved["artifact_id"]})["type"] == (
        "CheckpointMismatch"
    )


def test_full_disk_refuses_a_checkpoint_and_loses_nothing(workshop: Workshop, two_moons: Rows) -> None:
    wide = Architecture(input_shape=(4,), output_size=2, hidden_sizes=(1024, 1024))
    client = workshop.create(ClientSpec("mlp", architecture=wide))
    worker = workshop.worker(client)
    assert worker is not None
    limit = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (8 * 2**20, limit[1]))
    workshop.do(client, "forward_backward", own_rows(two_moons))
    workshop.do(client, "optim_step")
    error = workshop.refused(client, "save_state")
    assert error["type"] == "StorageFull"
    resource.prlimit(worker, resource.RLIMIT_FSIZE, limit)
    assert workshop.do(client, "save_state")["step"] == 1


BAD_BATCHES: dict[str, dict[str, Any]] = {
    "empty": {"features": [], "targets": []},
    "wrong width": {"features": [[0.0] * 3], "targets": [0]},
    "ragged": {"features": [[0.0] * 4, [0.0] * 3], "targets": [0, 1]},
    "more targets": {"features": [[0.0] * 4], "targets": [0, 1]},
    "class out of range": {"features": [[0.0] * 4], "targets": [7]},
    "words": {"features": [["a", "b", "c", "d"]], "targets": [0]},
    "tokens for an mlp": {"input_ids": [[1, 2, 3]]},
    "nothing": {},
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_bad_batch_fails_with_a_sentence_and_the_client_goes_on(
    workshop: Workshop, two_moons: Rows, name: str
) -> None:
    client = workshop.create(ClientSpec("mlp", architecture=SMALL))
    error = workshop.refused(client, "forward_backward", {"batch": BAD_BATCHES[name]})
    assert error["type"] == "InvalidBatch"
    assert len(error["message"]) > 20
    workshop.do(client, "forward_backward", own_rows(two_moons))
    assert workshop.do(client, "optim_step")["step"] == 1


def test_hardened_noise_is_what_the_trainer_draws(workshop: Workshop, two_moons: Rows) -> None:
    dp = DPSpec(noise_multiplier=1.5, hardened_noise=True)
    client = workshop.create(ClientSpec("mlp", architecture=SMALL, dp=dp))
    assert (workshop.client(client).plan or {})["hardened_noise"] is True
    spec = ClientSpec.from_json(workshop.client(client).config)
    plan = choose_plan(spec, None)
    privacy = trainer_spec(spec, plan, None, workshop.settings).privacy
    assert privacy is not None
    assert privacy.hardened_noise
    workshop.do(client, "forward_backward", own_rows(two_moons))
    assert workshop.do(client, "optim_step")["dp_metrics"]["noise_applied"]


def test_every_charge_names_the_rate_of_the_plan(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons)
    dp = DPSpec(noise_multiplier=1.5, max_grad_norm=0.5)
    client = workshop.create(ClientSpec("mlp", dataset_id=dataset.id, batch_size=40, dp=dp))
    workshop.do(client, "train", {"steps": 6})
    told = {(e.sample_rate, e.noise_multiplier, e.max_grad_norm, e.mode) for e in workshop.ledger(client)}
    assert told == {(40 / 400, 1.5, 0.5, "sampled")}, "never that of the batch that came"
    assert len(workshop.ledger(client)) == 6


def test_step_without_a_gradient_is_refused(workshop: Workshop) -> None:
    client = workshop.create(ClientSpec("mlp", architecture=SMALL, dp=DPSpec(noise_multiplier=1.0)))
    assert workshop.refused(client, "optim_step")["type"] == "NoGradient"
    assert workshop.ledger(client) == []


def test_same_row_twice_in_one_private_step_is_refused(workshop: Workshop, two_moons: Rows) -> None:
    client = workshop.create(ClientSpec("mlp", architecture=SMALL, dp=DPSpec(noise_multiplier=1.0)))
    workshop.do(client, "forward_backward", own_rows(two_moons))
    assert workshop.refused(client, "forward_backward", own_rows(two_moons))["type"] == "InvalidBatch"
    workshop.do(client, "optim_step")
    workshop.do(client, "forward_backward", own_rows(two_moons))


def test_noise_cannot_be_left_out_of_a_private_client(workshop: Workshop, two_moons: Rows) -> None:
    client = workshop.create(ClientSpec("mlp", architecture=SMALL, dp=DPSpec(noise_multiplier=1.0)))
    workshop.do(client, "forward_backward", own_rows(two_moons))
    assert workshop.refused(client, "optim_step", {"apply_dp_noise": False})["type"] == "PrivacyRefused"


def test_protected_dataset_is_trained_on_privately_by_default(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons)
    client = workshop.create(ClientSpec("mlp", dataset_id=dataset.id, batch_size=40, max_steps=50))
    privacy = workshop.client(client).privacy
    assert privacy is not None
    assert (privacy["mode"], privacy["target_epsilon"], privacy["steps_left"]) == ("sampled", 3.0, 50)
    assert workshop.refused(client, "forward_backward", own_rows(two_moons))["type"] == "PrivacyRefused"
    assert workshop.refused(client, "evaluate", {"dataset_id": dataset.id})["type"] == "PrivacyRefused"
    result = workshop.do(client, "forward_backward", {"dataset_id": dataset.id})
    assert result["num_examples"] is None


def test_public_dataset_trains_without_noise_and_says_so(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons, privacy="public")
    optimizer = OptimizerSpec(learning_rate=0.05)
    spec = ClientSpec("mlp", dataset_id=dataset.id, batch_size=40, optimizer=optimizer)
    client = workshop.create(spec)
    workshop.do(client, "train", {"epochs": 10})
    assert workshop.do(client, "evaluate", {"dataset_id": dataset.id})["accuracy"] > 0.9
    assert (workshop.client(client).privacy or {})["guarantee"] == "none"


def test_unknown_weights_end_the_client_with_the_reason(workshop: Workshop, tmp_path: Any) -> None:
    (tmp_path / "config.json").write_text("{}")
    client = workshop.create(ClientSpec(str(tmp_path)))
    assert workshop.client(client).status == "error"
    assert workshop.client(client).reason


def test_progress_events_hold_every_step_once(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons)
    client = workshop.create(ClientSpec("mlp", dataset_id=dataset.id, batch_size=20, max_steps=4000))
    workshop.do(client, "train", {"steps": 150})
    workshop.until(lambda: workshop.client(client).step == 150)
    events = workshop.events(client, "progress")
    steps = [step for event in events for step in event["points"]["step"]]
    assert steps == list(range(1, 151))
    epsilons = [epsilon for event in events for epsilon in event["points"]["epsilon"]]
    assert epsilons == sorted(epsilons)
