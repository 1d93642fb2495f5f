"""TG-Tinker's training API, S0-05 … S0-12, against a running workbench with real workers."""

from __future__ import annotations

import re
import uuid

import httpx
import pytest

from tests.contracts.conftest import ARCHITECTURE, ROWS, Caller


@pytest.mark.operation("S0-05", "S0-06")
def test_a_created_client_answers_with_its_configuration(caller: Caller) -> None:
    body = {
        "model_ref": "mlp",
        "architecture": ARCHITECTURE,
        "batch_size": 4,
        "metadata": {"for": "test"},
    }
    answer = caller.http.post("/api/v1/training_clients", json=body)
    view = answer.json()
    assert answer.status_code == 201
    assert re.fullmatch(r"tc-[0-9a-f-]{36}", view["training_client_id"])
    assert view["status"] == "initializing"
    assert view["step"] == 0
    assert view["dp_metrics"] is None
    assert view["config"]["batch_size"] == 4
    assert view["config"]["metadata"] == {"for": "test"}
    assert view["config"]["optimizer"] == {
        "name": "adamw",
        "learning_rate": 1e-4,
        "weight_decay": 0.01,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
    }
    ready = caller.until(view["training_client_id"], lambda view: view["status"] == "ready")
    assert ready["privacy"]["guarantee"] == "none"
    assert ready["created_at"] == view["created_at"]


def test_clients_are_listed_newest_first(caller: Caller, client_id: str) -> None:
    other = caller.create()
    page = caller.http.get("/api/v1/training_clients", params={"limit": 1}).json()
    rest = caller.http.get("/api/v1/training_clients", params={"limit": 1, "offset": 1}).json()
    assert page["training_clients"][0]["training_client_id"] == other
    assert rest["training_clients"][0]["training_client_id"] == client_id
    assert (page["total"], page["limit"], rest["offset"]) == (rest["total"], 1, 1)


@pytest.mark.operation("S0-07")
def test_a_deleted_client_stays_to_be_seen_and_takes_nothing_more(caller: Caller) -> None:
    client_id = caller.create()
    for _ in range(2):
        answer = caller.http.delete(f"/api/v1/training_clients/{client_id}")
        assert (answer.status_code, answer.json()["status"]) == (200, "terminated")
    assert caller.get(client_id)["status"] == "terminated"
    refused = caller.post(client_id, "optim_step")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "CLIENT_TERMINATED")


@pytest.mark.operation("S0-08", "S0-09")
def test_a_pass_and_a_step_change_the_model(caller: Caller, client_id: str) -> None:
    losses = []
    for number in range(1, 9):
        passed = caller.post(client_id, "forward_backward", {"batch": ROWS}).json()
        assert (passed["status"], passed["operation"]) == ("completed", "forward_backward")
        losses.append(passed["result"]["loss"])
        stepped = caller.post(client_id, "optim_step").json()["result"]
        assert (stepped["step"], stepped["learning_rate"], stepped["dp_metrics"]) == (number, 0.05, None)
    assert losses[-1] < losses[0]


@pytest.mark.operation("S0-08")
def test_without_a_preference_an_operation_is_a_future(caller: Caller, client_id: str) -> None:
    path = f"/api/v1/training_clients/{client_id}/forward_backward"
    answer = caller.http.post(path, json={"batch": ROWS})
    future = answer.json()
    assert answer.status_code == 202
    assert re.fullmatch(r"fut-[0-9a-f-]{36}", future["future_id"])
    assert future["status"] in ("pending", "running")
    done = caller.http.get(f"/api/v1/futures/{future['future_id']}", params={"wait": 40}).json()
    result = caller.http.get(f"/api/v1/futures/{future['future_id']}/result").json()
    assert done["status"] == "completed"
    assert done["started_at"] <= done["completed_at"]
    assert result == {name: done[name] for name in ("future_id", "status", "result", "error")}
    assert set(done["result"]) >= {"loss", "grad_norm", "tokens_processed", "dp_metrics"}


@pytest.mark.operation("S0-08", "S0-09", "S0-11", "S0-12")
def test_gradients_add_up_until_the_step(caller: Caller) -> None:
    """Two halves and the whole lead to the same weights (SGD, one step, the same starting point)."""
    plain = {"optimizer": {"name": "sgd", "learning_rate": 0.5, "weight_decay": 0.0}, "batch_size": 2}
    whole, halves = caller.create(**plain), caller.create(**plain)
    saved = caller.post(whole, "save_state").json()["artifact_id"]
    assert caller.post(halves, "load_state", {"artifact_id": saved}).status_code == 200
    caller.post(whole, "forward_backward", {"batch": ROWS})
    for row in range(2):
        half = {name: column[row : row + 1] for name, column in ROWS.items()}
        caller.post(halves, "forward_backward", {"batch": half})
    for client_id in (whole, halves):
        assert caller.post(client_id, "optim_step").json()["result"]["step"] == 1
    first, second = (caller.own(one, "evaluate", {"batch": ROWS}).json()["loss"] for one in (whole, halves))
    assert first == pytest.approx(second, rel=1e-5)


def test_operations_run_in_the_order_they_came(caller: Caller, client_id: str) -> None:
    base = f"/api/v1/training_clients/{client_id}"
    ids = []
    for _ in range(5):
        ids.append(caller.http.post(f"{base}/forward_backward", json={"batch": ROWS}).json()["future_id"])
        ids.append(caller.http.post(f"{base}/optim_step").json()["future_id"])
    ended = [caller.http.get(f"/api/v1/futures/{future}", params={"wait": 40}).json() for future in ids]
    assert [future["status"] for future in ended] == ["completed"] * 10
    assert [future["result"]["step"] for future in ended[1::2]] == [1, 2, 3, 4, 5]
    times = [future["completed_at"] for future in ended]
    assert times == sorted(times)


@pytest.mark.operation("S0-09")
def test_a_step_without_gradient_is_refused(caller: Caller, client_id: str) -> None:
    answer = caller.post(client_id, "optim_step")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "NO_GRADIENT")
    assert error["details"]["future_id"].startswith("fut-")


def test_a_step_may_be_answered_with_its_end(caller: Caller, client_id: str) -> None:
    base = f"/api/v1/training_clients/{client_id}"
    failed = caller.http.post(f"{base}/optim_step", params={"wait": 40})
    assert (failed.status_code, failed.json()["status"]) == (200, "failed")
    assert failed.json()["error"]["code"] == "NO_GRADIENT"
    learned = caller.http.post(f"{base}/forward_backward", json={"batch": ROWS}, params={"wait": 40})
    assert (learned.status_code, learned.json()["status"]) == (200, "completed")
    at_once = caller.http.post(f"{base}/optim_step", params={"wait": 0})
    assert (at_once.status_code, at_once.json()["status"]) == (202, "pending")
    assert caller.http.post(f"{base}/optim_step", params={"wait": 41}).status_code == 422


def test_a_retry_is_the_same_operation(caller: Caller, client_id: str, key: str) -> None:
    caller.post(client_id, "forward_backward", {"batch": ROWS})
    answers = [caller.post(client_id, "optim_step", **{"Idempotency-Key": key}).json() for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert caller.get(client_id)["step"] == 1
    other = caller.post(client_id, "optim_step", {"learning_rate": 0.5}, **{"Idempotency-Key": key})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "CONFLICT")


@pytest.mark.operation("S0-05")
def test_a_retried_creation_is_the_same_client(caller: Caller, key: str) -> None:
    body = {"model_ref": "mlp", "architecture": ARCHITECTURE}
    answers = [
        caller.http.post("/api/v1/training_clients", json=body, headers={"Idempotency-Key": key})
        for _ in "ab"
    ]
    assert len({answer.json()["training_client_id"] for answer in answers}) == 1
    other = caller.http.post(
        "/api/v1/training_clients", json=body | {"batch_size": 2}, headers={"Idempotency-Key": key}
    )
    assert (other.status_code, other.json()["error"]["code"]) == (409, "CONFLICT")


@pytest.mark.operation("S0-09")
def test_a_spent_budget_is_400_and_nothing_changes(caller: Caller) -> None:
    dp = {"noise_multiplier": 1.0, "target_epsilon": 5.0}
    client_id = caller.create(dp_config=dp)
    first = caller.step(client_id).json()["result"]["dp_metrics"]
    assert first["noise_applied"] is True
    assert 0 < first["total_epsilon"] <= 5.0
    refused = caller.step(client_id)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "DP_BUDGET_EXCEEDED")
    after = caller.get(client_id)
    assert (after["step"], after["dp_metrics"]) == (1, first)
    assert after["privacy"]["spent_epsilon"] == first["total_epsilon"]
    assert after["privacy"]["steps_left"] == 0


def test_a_retried_private_step_spends_once(caller: Caller, key: str) -> None:
    client_id = caller.create(dp_config={"noise_multiplier": 2.0})
    caller.post(client_id, "forward_backward", {"batch": ROWS})
    answers = [caller.post(client_id, "optim_step", **{"Idempotency-Key": key}).json() for _ in "abc"]
    spent = {answer["result"]["dp_metrics"]["total_epsilon"] for answer in answers}
    ledger = caller.http.get("/workbench/v1/ledger", params={"training_client_id": client_id}).json()
    assert spent == {ledger["spent_epsilon"]}
    assert len(ledger["events"]) == 1


def test_noise_cannot_be_left_out_of_a_private_client(caller: Caller) -> None:
    client_id = caller.create(dp_config={})
    caller.post(client_id, "forward_backward", {"batch": ROWS})
    refused = caller.post(client_id, "optim_step", {"apply_dp_noise": False})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "PRIVACY_REFUSED")
    assert caller.get(client_id)["privacy"]["spent_epsilon"] == 0


@pytest.mark.operation("S0-10")
def test_a_language_model_writes(caller: Caller) -> None:
    client_id = caller.create(model_ref="tiny-llama", architecture=None)
    answer = caller.post(client_id, "sample", {"prompts": ["a", "bc"], "max_tokens": 4, "temperature": 0})
    body = answer.json()
    assert answer.status_code == 200
    assert [sample["prompt"] for sample in body["samples"]] == ["a", "bc"]
    assert all(sample["tokens_generated"] <= 4 for sample in body["samples"])
    assert all(sample["finish_reason"] in ("stop", "length") for sample in body["samples"])
    assert (body["model_step"], body["sampling_config"]["top_k"]) == (0, 50)


@pytest.mark.operation("S0-10")
def test_a_model_without_words_does_not_write(caller: Caller, client_id: str) -> None:
    answer = caller.post(client_id, "sample", {"prompts": ["a"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "NOT_A_LANGUAGE_MODEL")


@pytest.mark.operation("S0-11", "S0-12")
def test_a_checkpoint_brings_the_model_back(caller: Caller, client_id: str) -> None:
    caller.step(client_id)
    before = caller.own(client_id, "evaluate", {"batch": ROWS}).json()["loss"]
    saved = caller.post(client_id, "save_state", {"metadata": {"note": "here"}}).json()
    assert saved["artifact_type"] == "checkpoint"
    assert saved["encryption"]["algorithm"] == "AES-256-GCM"
    assert saved["encryption"]["key_id"].startswith("dek-")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", saved["content_hash"])
    assert saved["metadata"] == {"note": "here"}
    caller.step(client_id)
    loaded = caller.post(client_id, "load_state", {"artifact_id": saved["artifact_id"]}).json()
    assert loaded == {
        "training_client_id": client_id,
        "loaded_artifact_id": saved["artifact_id"],
        "step": 1,
        "status": "ready",
    }
    assert caller.own(client_id, "evaluate", {"batch": ROWS}).json()["loss"] == pytest.approx(before)


@pytest.mark.operation("S0-12")
def test_a_checkpoint_of_another_model_is_refused(caller: Caller, client_id: str) -> None:
    other = caller.create(architecture={"input_shape": [4], "output_size": 3})
    saved = caller.post(other, "save_state").json()["artifact_id"]
    refused = caller.post(client_id, "load_state", {"artifact_id": saved})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "CHECKPOINT_INVALID")
    unknown = caller.post(client_id, "load_state", {"artifact_id": f"art-{uuid.uuid4()}"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "ARTIFACT_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/training_clients/tc-none", "TRAINING_CLIENT_NOT_FOUND"),
        ("DELETE", "/api/v1/training_clients/tc-none", "TRAINING_CLIENT_NOT_FOUND"),
        ("POST", "/api/v1/training_clients/tc-none/optim_step", "TRAINING_CLIENT_NOT_FOUND"),
        ("POST", "/api/v1/training_clients/tc-none/save_state", "TRAINING_CLIENT_NOT_FOUND"),
        ("GET", "/api/v1/futures/fut-none", "FUTURE_NOT_FOUND"),
        ("GET", "/api/v1/futures/fut-none/result", "FUTURE_NOT_FOUND"),
        ("POST", "/api/v1/futures/fut-none/cancel", "FUTURE_NOT_FOUND"),
        ("GET", "/workbench/v1/datasets/ds-none", "DATASET_NOT_FOUND"),
        ("DELETE", "/workbench/v1/api_keys/key-none", "API_KEY_NOT_FOUND"),
        ("GET", "/workbench/v1/training_clients/tc-none/events", "TRAINING_CLIENT_NOT_FOUND"),
    ],
)
def test_what_is_not_there_is_404_in_its_own_words(
    api: httpx.Client, method: str, path: str, code: str
) -> None:
    answer = api.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, code)


def test_a_waiting_operation_can_be_cancelled(caller: Caller, client_id: str) -> None:
    caller.until(client_id, lambda view: view["status"] == "ready")
    caller.own(client_id, "pause")
    path = f"/api/v1/training_clients/{client_id}/forward_backward"
    future = caller.http.post(path, json={"batch": ROWS}).json()["future_id"]
    assert caller.get(client_id)["status"] == "busy"
    assert caller.http.post(f"/api/v1/futures/{future}/cancel").json() == {"success": True}
    assert caller.http.post(f"/api/v1/futures/{future}/cancel").json() == {"success": True}, "a retry"
    view = caller.http.get(f"/api/v1/futures/{future}").json()
    assert (view["status"], view["error"]["code"]) == ("cancelled", "FUTURE_CANCELLED")
    caller.own(client_id, "resume")


def test_an_unknown_model_is_named_at_once(caller: Caller) -> None:
    answer = caller.http.post("/api/v1/training_clients", json={"model_ref": "nonexistent/model"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "UNKNOWN_MODEL")
    assert "nonexistent" not in answer.text
    assert "mlp" in error["details"]["known"]


def test_more_clients_than_workers_take_turns(caller: Caller) -> None:
    clients = [caller.create() for _ in range(6)]  # a workbench has four workers unless told otherwise
    for step in (1, 2):
        assert [caller.step(one).json()["result"]["step"] for one in clients] == [step] * 6
    for one in clients:
        caller.http.delete(f"/api/v1/training_clients/{one}")
