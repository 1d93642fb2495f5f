from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.sdk.resources.scripted_server import (
    ScriptedServer,
    Step,
    answer,
    event,
    hang_up,
    refusal,
    stream,
)
from tg_workbench import (
    EarlyStopping,
    InvalidRequest,
    JobFailed,
    LoRA,
    Optimizer,
    Privacy,
    TooManyJobs,
    Workbench,
)
from tg_workbench.sdk import Job, JobProgress
from tg_workbench.sdk.job_plans import JobPlan

END = b"event: end\ndata: {}\n\n"
METRICS = {"loss": 0.5, "val_accuracy": 0.75, "epsilon": 1.25}
POSITION = {"epoch": 1, "total_epochs": 4, "step": 5, "total_steps": 20, "metrics": METRICS}


def view(status: str = "running", **more: Any) -> Step:
    told = {"id": "job-1", "name": "first", "status": status, "model": "mlp", "position": POSITION}
    return answer({**told, "unknown": 1, **more}, 201)


def line(number: int, message: str) -> bytes:
    return event(number, "log", level="INFO", message=message)


@pytest.fixture
def job(server: ScriptedServer, workbench: Workbench) -> Job:
    server.script = [view("queued")]
    job = workbench.jobs.submit("mlp", "ds-1")
    server.seen.clear()
    return job


def test_what_is_not_said_is_left_to_the_workbench(server: ScriptedServer, workbench: Workbench) -> None:
    server.script = [view()]
    workbench.jobs.submit("mlp", "ds-1")
    asked = server.seen[0].json
    assert asked == {
        "dataset_id": "ds-1",
        "model_type": "mlp",
        "learning": {},
        "name": "",
        "gpu_count": 0,
        "priority": 0,
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"early_stopping": 3},
        {"early_stopping": "val_loss"},
        {"schedule": 3},
        {"hidden_sizes": 8},
        {"class_weights": 1},
        {"lora": "q_proj"},
        {"privacy": 3.0},
    ],
)
def test_what_is_of_another_kind_is_refused_by_its_name(workbench: Workbench, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(InvalidRequest, match=f"{name} (is|are) "):
        workbench.jobs.submit("mlp", "ds-1", **wrong)


def test_a_job_without_a_dataset_is_refused_in_words(workbench: Workbench) -> None:
    nothing: Any = None
    with pytest.raises(InvalidRequest, match="learns from a dataset"):
        workbench.jobs.submit("mlp", nothing)


def test_what_is_said_travels_in_the_words_of_the_workbench() -> None:
    plan = JobPlan(
        optimizer=Optimizer("sgd", learning_rate=0.1),
        schedule="cosine",
        early_stopping=EarlyStopping(patience=3),
        privacy=Privacy(target_epsilon=2.0),
        lora=LoRA(rank=4),
        hidden_sizes=(8, 4),
        class_weights=(1, 2),
    ).as_wire()
    assert (plan["optimizer"], plan["learning_rate"], plan["schedule"]["name"]) == ("sgd", 0.1, "cosine")
    assert plan["optimizer_options"]["weight_decay"] == 0.01
    assert plan["early_stopping"] == {"patience": 3, "monitor": "val_loss", "min_delta": 0.0}
    assert (plan["dp_config"]["target_epsilon"], plan["lora_config"]["rank"]) == (2.0, 4)
    assert (plan["hidden_sizes"], plan["class_weights"]) == ([8, 4], [1, 2])
    assert JobPlan(early_stopping=True).as_wire() == {"early_stopping": {"enabled": True}}
    assert JobPlan(privacy=False).as_wire() == {"dp_config": {"enabled": False}}
    beside = JobPlan(optimizer=Optimizer("adam"), learning_rate=0.3).as_wire()
    assert beside["learning_rate"] == 0.3


def test_a_log_goes_on_after_the_last_line_it_saw(server: ScriptedServer, job: Job) -> None:
    status = event(2, "status", status="running")
    first, second = (
        stream(line(1, "one"), status),
        stream(line(1, "one"), line(3, "two"), line(4, "three"), END),
    )
    server.script = [first, hang_up, answer(b"", 503), second]
    assert [told.message for told in job.logs()] == ["one", "two", "three"]
    assert [seen.headers["last-event-id"] for seen in server.seen] == ["0", "2", "2", "2"]
    assert server.seen[0].path.startswith("/workbench/v1/jobs/job-1/events")


def test_the_lines_that_are_there_are_read_in_pages(
    server: ScriptedServer, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tg_workbench.sdk.jobs.PAGE", 2)

    def page(*events: bytes) -> Step:
        return answer({"events": [json.loads(told.split(b"data: ")[1]) for told in events]})

    server.script = [page(line(1, "one"), event(2)), page(line(3, "two"))]
    told = list(job.logs(follow=False))
    assert [(each.id, each.message) for each in told] == [(1, "one"), (3, "two")]
    assert str(told[0]) == "1970-01-01T00:00:00.000Z INFO    one"
    assert "after=2" in server.seen[1].path


def test_waiting_ends_with_the_job(
    server: ScriptedServer, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = [view(), view(), hang_up, view("completed", model_id="mdl-1")]
    assert job.wait(timeout=10) is job
    assert job.view.model_id == "mdl-1"
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("completed · epoch 1/4 · loss 0.5 · val accuracy 0.75 · ε = 1.25")


def test_a_failed_job_raises_its_reason_and_a_stopped_one_does_not(server: ScriptedServer, job: Job) -> None:
    server.script = [view("failed", reason="lost", message="its worker was lost three times")]
    with pytest.raises(JobFailed, match="job-1 failed: its worker was lost three times"):
        job.wait(progress=False)
    server.script = [view("cancelled", reason="stopped")]
    job.refresh()
    assert job.wait(progress=False).view.status == "cancelled"


def test_too_many_jobs_say_when_to_come_back(server: ScriptedServer, workbench: Workbench) -> None:
    server.script = [refusal("QUOTA_EXCEEDED", 429, "at most 5", kind="TooManyJobs", limit=5, retry_after=40)]
    with pytest.raises(TooManyJobs, match="at most 5") as refused:
        workbench.jobs.submit("mlp", "ds-1")
    assert refused.value.retry_after == 40


def test_stopping_waits_for_the_job_to_save_what_it_has(server: ScriptedServer, job: Job) -> None:
    server.script = [view("cancelled")]
    assert job.stop(wait=3).status == "cancelled"
    assert server.seen[0].path == "/workbench/v1/jobs/job-1/stop?wait=3.000"


def test_progress_shows_what_is_known_and_no_markup_of_others() -> None:
    assert str(JobProgress()) == "queued"
    assert JobProgress().fraction == 0.0
    half = JobProgress.from_wire({**POSITION, "state": "running", "step": 10, "note": "<b>"})
    assert half.fraction == 0.5
    assert "<b>" not in half.as_html()
    assert 'value="0.5000"' in half.as_html()
    assert JobProgress(state="completed").fraction == 1.0
