"""Jobs as three documents and our own contract see them: one job, each document's words for it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from tests.contracts.envelopes import refusal
from tests.contracts.people import People, Person
from tests.contracts.seeds import examples
from tests.workbench_server import WorkbenchServer

LINE = re.compile(
    r'data: \{"timestamp": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "level": "(\w+)", "message": "(.*)"\}'
    r"\r?\nid: (\d+)"
)
CREATE = {
    "aitip": "/api/v1/training/jobs",
    "deep_learning": "/training/start",
    "coordination": "/api/training/jobs",
    "workbench": "/workbench/v1/jobs",
}
"""Where each contract takes a job."""


@pytest.fixture(scope="module")
def server() -> Iterator[WorkbenchServer]:
    """A workbench of these tests' own: what they start takes nobody else's turn."""
    server = WorkbenchServer(TG_MAX_JOBS="2")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def people(server: WorkbenchServer) -> Iterator[People]:
    found = People(server)
    yield found
    found.close()


@pytest.fixture
def dora(people: People) -> Iterator[Person]:
    """Somebody whose jobs are stopped in the end."""
    person = people.register("dora")
    yield person
    for job in person.http.get("/workbench/v1/jobs").json()["jobs"]:
        person.http.post(f"/workbench/v1/jobs/{job['id']}/stop")


def dataset(person: Person, privacy: str = "public", rows: int = 64) -> str:
    generator = np.random.default_rng()
    features = generator.normal(size=(rows, 4)).astype(np.float32)
    content = save({"features": features, "targets": (features.sum(axis=1) > 0).astype(np.int64)})
    headers = {"Content-Type": "application/vnd.safetensors"}
    query = {"name": f"{privacy} flowers", "privacy": privacy}
    answer = person.http.post("/workbench/v1/datasets", params=query, content=content, headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["dataset_id"])


def body(contract: str, dataset_id: str, **learning: Any) -> dict[str, Any]:
    """A small job in a contract's form."""
    learning = {"epochs": 3, "batch_size": 16, "learning_rate": 0.05, **learning}
    if contract == "aitip":
        config = {"framework": "pytorch", "model": "mlp", **learning}
        return {"name": "flowers", "dataset_id": dataset_id, "config": config}
    where = "learning" if contract == "workbench" else "hyperparameters"
    return {"dataset_id": dataset_id, "model_type": "mlp", where: learning}


def submit(person: Person, dataset_id: str, **learning: Any) -> str:
    answer = person.http.post("/training/start", json=body("deep_learning", dataset_id, **learning))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job_id"])


def until(person: Person, job_id: str, *statuses: str, seconds: float = 60) -> dict[str, Any]:
    """Our view of a job once it stands there."""
    deadline = time.monotonic() + seconds
    while (view := person.http.get(f"/workbench/v1/jobs/{job_id}").json())["status"] not in statuses:
        assert time.monotonic() < deadline, view
        time.sleep(0.05)
    return dict(view)


def completed(person: Person, dataset_id: str, **learning: Any) -> str:
    job_id = submit(person, dataset_id, **learning)
    until(person, job_id, "completed")
    return job_id


def like(found: Any, documented: Any) -> None:
    """Every documented member is there and of the documented type; what is a list is one."""
    if isinstance(documented, dict):
        for name, member in documented.items():
            assert name in found, name
            like(found[name], member)
    elif isinstance(documented, list):
        assert isinstance(found, list)
        for one in found:
            like(one, documented[0])
    elif isinstance(documented, float):
        assert isinstance(found, int | float)
    elif isinstance(documented, str) and re.fullmatch(r"\d{4}-.*Z", documented):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found)
    else:
        assert isinstance(found, type(documented))


# ----------------------------------------------------------------------------- AITIP
@pytest.mark.operation("S1-08", "S1-09", "S1-11")
def test_aitips_own_example_is_a_job(dora: Person) -> None:
    asked, answered = examples("aitip", "Create Training Job")
    many = dataset(dora, "protected", 20_000)  # it is not done before it is stopped
    made = dora.http.post("/api/v1/training/jobs", json={**asked, "dataset_id": many})
    assert (made.status_code, made.json()["data"]["status"]) == (201, "pending")
    like(made.json(), answered)
    job = made.json()["data"]
    assert job["name"] == asked["name"]
    assert "CPU" in job["warnings"][0]  # it asks for a GPU, and there is none here
    read = dora.http.get(f"/api/v1/training/jobs/{job['id']}").json()
    assert read["data"]["id"] == job["id"]
    stopped = dora.http.post(f"/api/v1/training/jobs/{job['id']}/stop").json()["data"]
    assert stopped["status"] in ("running", "stopped")
    until(dora, job["id"], "cancelled")
    read = dora.http.get(f"/api/v1/training/jobs/{job['id']}").json()
    assert read["data"]["status"] == "stopped"


@pytest.mark.operation("S1-10")
def test_logs_are_the_documents_lines_and_end_with_the_job(dora: Person) -> None:
    job = submit(dora, dataset(dora))
    said = dora.http.get(f"/api/v1/training/jobs/{job}/logs", headers={"Accept": "text/event-stream"})
    assert said.headers["content-type"].startswith("text/event-stream")
    events = [event for event in re.split(r"\r?\n\r?\n", said.text) if event and not event.startswith(":")]
    lines = [LINE.fullmatch(event) or pytest.fail(event) for event in events]
    messages = [line[2] for line in lines]
    assert messages[0] == "Training started"
    assert re.match(r"Epoch 1/3, Loss: \d+\.\d{3}", messages[1])
    assert messages[-1] == "Training completed"
    numbers = [int(line[3]) for line in lines]
    assert numbers == sorted(set(numbers))
    path = f"/api/v1/training/jobs/{job}/logs"
    rest = dora.http.get(path, headers={"Last-Event-ID": str(numbers[1])})
    assert [int(one) for one in re.findall(r"^id: (\d+)", rest.text, re.MULTILINE)] == numbers[2:]
    assert dora.http.get(path, headers={"Last-Event-ID": str(numbers[-1])}).status_code == 204


@pytest.mark.operation("S1-07")
def test_aitip_lists_jobs_by_the_page(dora: Person) -> None:
    flowers = dataset(dora)
    jobs = [completed(dora, flowers, epochs=1) for _ in range(3)]
    first = dora.http.get("/api/v1/training/jobs", params={"page_size": 2}).json()
    assert [job["id"] for job in first["data"]] == [jobs[2], jobs[1]]
    assert first["meta"] == {"page": 1, "page_size": 2, "total": 3}
    second = dora.http.get("/api/v1/training/jobs", params={"page_size": 2, "page": 2}).json()
    assert [job["id"] for job in second["data"]] == [jobs[0]]


@pytest.mark.operation("S1-08")
def test_another_framework_is_refused(dora: Person) -> None:
    asked = body("aitip", dataset(dora), framework="tensorflow")
    assert refusal(dora.http.post("/api/v1/training/jobs", json=asked), "aitip").status == 400


# ----------------------------------------------------------------------------- Deep Learning Platform
@pytest.mark.operation("S3-09", "S3-10", "S3-12")
def test_the_platforms_own_example_is_a_job(dora: Person) -> None:
    asked, answered = examples("deep_learning", "POST /training/start")
    many = dataset(dora, "protected", 20_000)  # it is not done before it is stopped
    started = dora.http.post("/training/start", json={**asked, "dataset_id": many})
    assert (started.status_code, started.json()["status"]) == (201, "queued")
    like(started.json(), answered)
    job = started.json()["job_id"]
    until(dora, job, "running")
    status = dora.http.get(f"/training/status/{job}").json()
    assert (status["status"], status["total_epochs"]) == ("running", asked["hyperparameters"]["epochs"])
    (documented,) = examples("deep_learning", "POST /training/stop/{job_id}")
    dora.http.post(f"/training/stop/{job}")  # a busy machine may take longer than this waits
    until(dora, job, "cancelled")
    assert dora.http.post(f"/training/stop/{job}").json() == {**documented, "job_id": job}
    assert dora.http.get(f"/training/status/{job}").json()["status"] == "stopped"
    assert refusal(dora.http.get(f"/training/results/{job}"), "deep_learning").status == 404


@pytest.mark.operation("S3-10", "S3-11")
def test_what_comes_of_a_job_has_the_documents_members(dora: Person) -> None:
    job = completed(dora, dataset(dora))
    status = dora.http.get(f"/training/status/{job}").json()
    (documented,) = examples("deep_learning", "GET /training/status/{job_id}")
    like(status, documented)
    assert (status["status"], status["progress"], status["current_epoch"]) == ("completed", 100, 3)
    results = dora.http.get(f"/training/results/{job}").json()
    (documented,) = examples("deep_learning", "GET /training/results/{job_id}")
    like(results, {name: value for name, value in documented.items() if name != "model_id"})
    assert set(documented["final_metrics"]) <= set(results["final_metrics"])
    assert {len(values) for values in results["training_history"].values()} == {3}
    assert results["model_id"] is not None


@pytest.mark.operation("S3-11")
def test_there_are_no_results_of_a_job_that_is_not_done(dora: Person) -> None:
    job = submit(dora, dataset(dora), epochs=10_000)
    said = refusal(dora.http.get(f"/training/results/{job}"), "deep_learning")
    assert (said.status, said.code) == (404, "not_found")
    assert re.search("it is (queued|running)", said.message)


@pytest.mark.operation("S3-12")
def test_a_job_that_is_done_is_not_said_to_have_been_stopped(dora: Person) -> None:
    job = completed(dora, dataset(dora))
    assert dora.http.post(f"/training/stop/{job}").json() == {
        "job_id": job,
        "status": "completed",
        "message": "Training job had completed before",
    }


@pytest.mark.operation("S3-09")
@pytest.mark.parametrize("rate", [0.0, -1, 1.5, 2])
def test_a_learning_rate_out_of_bounds_is_told_in_the_documents_words(dora: Person, rate: float) -> None:
    answer = dora.http.post("/training/start", json=body("deep_learning", dataset(dora), learning_rate=rate))
    (documented,) = examples("deep_learning", "400 Bad Request")
    assert answer.status_code == 400
    assert answer.json()["error"] == documented["error"]
    assert answer.json()["details"] == documented["details"]


# ----------------------------------------------------------------------------- API Coordination
@pytest.mark.operation("S4-01", "S4-02", "S4-03", "S4-04", "S4-05", "S4-06", "S4-07")
def test_api_coordination_sees_a_job_through(dora: Person) -> None:
    flowers = dataset(dora)
    made = dora.http.post("/api/training/jobs", json=body("coordination", flowers, epochs=10_000))
    assert (made.status_code, made.json()["data"]["status"]) == (201, "pending")
    path = f"/api/training/jobs/{made.json()['id']}"
    assert dora.http.get("/api/training/jobs").json()["total"] == 1
    until(dora, made.json()["id"], "running")
    assert dora.http.post(f"{path}/restart").status_code == 409
    assert dora.http.post(f"{path}/cancel").json()["success"] is True
    until(dora, made.json()["id"], "cancelled")
    assert dora.http.get(path).json()["data"]["status"] == "cancelled"
    assert dora.http.post(f"{path}/restart").json() == {
        "success": True,
        "message": "Training job restarted: attempt 2",
    }
    dora.http.post(f"{path}/cancel")
    until(dora, made.json()["id"], "cancelled")
    done = completed(dora, flowers)
    for verb in ("cancel", "restart"):
        assert refusal(dora.http.post(f"/api/training/jobs/{done}/{verb}"), "coordination").status == 409
    metrics = dora.http.get(f"/api/training/jobs/{done}/metrics").json()
    assert (metrics["id"], metrics["data"]["epoch"]) == (done, 3)
    assert len(metrics["data"]["history"]["loss"]) == 3
    stats = dora.http.get("/api/training/stats").json()
    assert stats == {"total_jobs": 2, "completed": 1, "running": 0, "failed": 0, "pending": 0, "cancelled": 1}
    assert stats["total_jobs"] == dora.http.get("/api/training/jobs").json()["total"]


@pytest.mark.operation("S4-08", "S4-09")
def test_figures_hold_what_jobs_cost_and_nothing_raw_of_protected_rows(dora: Person) -> None:
    kept, open_ = dataset(dora, "protected", 256), dataset(dora)
    job = completed(dora, kept)
    first = dora.http.get("/api/training/metrics/aggregate").json()
    assert (first["jobs"]["completed"], first["success_rate"], first["by_model"]) == (1, 1.0, {"mlp": 1})
    assert first["mean_accuracy"] is None
    (cost,) = first["privacy"]
    assert (cost["dataset_id"], cost["jobs"]) == (kept, 1)
    assert 0 < cost["spent_epsilon"] <= cost["epsilon_cap"]
    completed(dora, open_)
    assert dora.http.get("/api/training/metrics/aggregate").json()["mean_accuracy"] is not None
    dashboard = dora.http.get("/api/analytics/dashboard")
    assert dashboard.json()["recent_jobs"][1]["id"] == job
    assert dashboard.json()["privacy"] == first["privacy"]
    assert not re.search(r"loss|accuracy", dashboard.text)


# ----------------------------------------------------------------------------- in every contract
@pytest.mark.parametrize("contract", CREATE)
def test_a_sixth_active_job_has_to_wait(dora: Person, contract: str) -> None:
    flowers = dataset(dora)
    for _ in range(5):
        submit(dora, flowers, epochs=10_000)
    answer = dora.http.post(CREATE[contract], json=body(contract, flowers))
    assert refusal(answer, contract).status == 429
    assert int(answer.headers["retry-after"]) >= 1
    if contract == "deep_learning":
        assert answer.json()["error"] == "rate_limit_exceeded"
        assert answer.json()["retry_after"] == int(answer.headers["retry-after"])


@pytest.mark.parametrize("contract", CREATE)
def test_a_member_nobody_knows_is_refused(dora: Person, contract: str) -> None:
    """`dp_conifg` must not be no privacy."""
    asked = body(contract, dataset(dora), dp_conifg={"noise_multiplier": 1.0}, anything=1)
    answer = dora.http.post(CREATE[contract], json=asked)
    assert 400 <= refusal(answer, contract).status <= 422
    assert answer.text.count("it has a member that is not known here; known are ") >= 1
    assert " dp_config," in answer.text
    assert "dp_conifg" not in answer.text


@pytest.mark.parametrize("contract", CREATE)
def test_the_same_key_is_the_same_job(dora: Person, contract: str, key: str) -> None:
    asked, headers = body(contract, dataset(dora)), {"Idempotency-Key": key}
    first, second = (dora.http.post(CREATE[contract], json=asked, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert dora.http.get("/workbench/v1/jobs").json()["total"] == 1


@pytest.mark.parametrize("contract", CREATE)
def test_no_privacy_on_protected_rows_is_refused(dora: Person, contract: str) -> None:
    asked = body(contract, dataset(dora, "protected"), dp_config={"enabled": False})
    assert refusal(dora.http.post(CREATE[contract], json=asked), contract).status == 400


def test_a_job_with_everything_is_shown_whole(dora: Person) -> None:
    learning = {
        "optimizer": "sgd",
        "optimizer_options": {"momentum": 0.9},
        "schedule": {"name": "cosine", "warmup_steps": 2},
        "early_stopping": {"patience": 2, "monitor": "val_loss"},
        "class_weights": [1.0, 2.0],
        "seed": 7,
        "hidden_sizes": [8],
        "timeout_seconds": 60,
    }
    asked = body("workbench", dataset(dora), **learning) | {"name": "whole", "priority": 3}
    made = dora.http.post("/workbench/v1/jobs", json=asked).json()
    view = until(dora, made["id"], "completed")
    assert (view["name"], view["priority"], view["attempt"], view["position"]["epoch"]) == ("whole", 3, 1, 3)
    assert view["spec"]["schedule"]["name"] == "cosine"
    assert len(view["history"]["val_loss"]) == 3
    assert view["metrics_note"] is None
    events = dora.http.get(f"/workbench/v1/jobs/{made['id']}/events").text
    assert re.findall(r"^event: (\w+)", events, re.MULTILINE)[-1] == "end"
    only = dora.http.get("/workbench/v1/jobs", params={"status": "failed"}).json()
    assert only["total"] == 0


def test_whoever_owns_a_job_is_told_how_it_ended(dora: Person) -> None:
    job = completed(dora, dataset(dora, "protected", 256))
    deadline = time.monotonic() + 20
    while True:
        told = dora.http.get("/workbench/v1/notifications").json()["notifications"]
        ended = [one for one in told if one["event"] == "training.completed"]
        if ended:
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ended[0]["data"]["job_id"] == job
    assert ended[0]["data"]["accuracy"] is None
    assert "loss" not in json.dumps(told)


def test_measures_of_protected_rows_come_with_their_label(dora: Person) -> None:
    job = completed(dora, dataset(dora, "protected", 256))
    for path in (f"/training/status/{job}", f"/training/results/{job}", f"/workbench/v1/jobs/{job}"):
        view = dora.http.get(path).json()
        assert "not covered by ε" in view["metrics_note"]
        assert 0 < view["epsilon"] <= 3.0


def test_an_answer_of_a_stop_waits_for_the_end(dora: Person) -> None:
    job = submit(dora, dataset(dora), epochs=10_000)
    until(dora, job, "running")
    answer: httpx.Response = dora.http.post(f"/workbench/v1/jobs/{job}/stop", params={"wait": 20})
    assert (answer.json()["status"], answer.json()["reason"]) == ("cancelled", "stopped")
