"""Jobs from the SDK: submitted, waited for, read, stopped and restarted on a running workbench."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.sdk.conftest import Rows
from tg_workbench import (
    DeadlineExceeded,
    EarlyStopping,
    InvalidRequest,
    JobFailed,
    JobNotFound,
    JobNotRestartable,
    Optimizer,
    PrivacyRefused,
    Schedule,
    UnknownModel,
    Workbench,
)
from tg_workbench.sdk import Dataset, Job

QUICK: dict[str, Any] = {"epochs": 3, "batch_size": 50, "learning_rate": 0.05, "hidden_sizes": [8]}


@pytest.fixture(scope="module")
def learned(workbench: Workbench, public_dataset: Dataset) -> Job:
    """A job that has come to its end."""
    return workbench.jobs.submit("mlp", public_dataset, name="first", **QUICK).wait(timeout=240)


@pytest.fixture(scope="module")
def endless(workbench: Workbench) -> Dataset:
    """Points to learn for as long as it takes."""
    generator = np.random.default_rng(3)
    features = generator.normal(size=(2000, 4)).astype(np.float32)
    targets = (features.sum(axis=1) > 0).astype(np.int64)
    return workbench.datasets.upload("endless", features=features, targets=targets, privacy="public")


def test_a_job_goes_to_its_end_and_leaves_a_model(learned: Job) -> None:
    assert learned.status == "completed"
    assert (learned.progress.fraction, learned.progress.epoch) == (1.0, 3)
    assert len(learned.history["loss"]) == 3
    assert learned.history["loss"][-1] < learned.history["loss"][0]
    assert learned.metrics["val_accuracy"] > 0.5
    assert learned.model is not None
    assert learned.model.job_id == learned.id
    assert learned.privacy.guarantee == "none"
    assert repr(learned).startswith("<Job first: completed · epoch 3/3")


def test_a_job_is_drawn_step_by_step(learned: Job) -> None:
    by_name = {line.name: line for line in learned.plot().data}
    assert list(by_name["loss of each batch"].x) == list(range(1, learned.progress.step + 1))
    assert list(by_name["loss, held out"].y) == list(learned.history["val_loss"])
    assert "ε spent" not in by_name


def test_a_job_on_a_protected_dataset_is_private_when_nothing_is_said(
    workbench: Workbench, rows: Rows
) -> None:
    people = workbench.datasets.upload(
        "job people", features=rows["features"] + 3, targets=rows["targets"], epsilon_cap=6.0
    )
    job = workbench.jobs.submit("mlp", people, **QUICK).wait(timeout=240, progress=False)
    assert 0 < (job.privacy.spent_epsilon or 0.0) <= 3.0
    assert (job.view.epsilon or 0.0) == pytest.approx(job.privacy.spent_epsilon, rel=1e-3)
    assert "ε = " in str(job.progress)
    assert job.view.metrics_note
    shown = {line.name: line.y for line in job.plot(published=True).data}
    assert set(shown) == {"noisy loss of each batch", "noisy loss", "ε spent"}
    assert shown["ε spent"][-1] == pytest.approx(job.privacy.spent_epsilon, rel=1e-3)
    with pytest.raises(PrivacyRefused):
        workbench.jobs.submit("mlp", people, private=False, **QUICK)
    with pytest.raises(PrivacyRefused):
        workbench.jobs.submit("mlp", people, seed=1, **QUICK)


def test_a_job_is_awaited_while_the_kernel_stays_free(workbench: Workbench, public_dataset: Dataset) -> None:
    async def wait() -> str:
        beats = asyncio.create_task(asyncio.sleep(0.01))
        job = await workbench.jobs.submit("logistic", public_dataset, epochs=2, batch_size=50)
        assert beats.done()
        return job.view.status

    assert asyncio.run(wait()) == "completed"


def test_what_a_job_is_to_be_is_said_in_words(workbench: Workbench, public_dataset: Dataset) -> None:
    job = workbench.jobs.submit(
        "mlp",
        public_dataset,
        optimizer=Optimizer("sgd", learning_rate=0.1, momentum=0.9, weight_decay=0.0),
        schedule=Schedule("cosine", floor=0.1),
        early_stopping=EarlyStopping(patience=2, monitor="val_accuracy"),
        class_weights="balanced",
        validation_split=0.3,
        seed=5,
        epochs=40,
        batch_size=50,
        hidden_sizes=(8, 8),
        checkpoint_every_steps=5,
        timeout_seconds=120,
        priority=1,
    ).wait(timeout=240)
    spec = job.view.spec
    assert (spec["optimizer"], spec["learning_rate"]) == ("sgd", 0.1)
    assert (spec["optimizer_options"]["momentum"], spec["schedule"]["name"]) == (0.9, "cosine")
    assert (spec["early_stopping"]["patience"], spec["seed"], spec["hidden_sizes"]) == (2, 5, [8, 8])
    assert job.view.reason in (None, "early_stopping")


def test_the_lines_of_a_log_come_in_order_and_end(workbench: Workbench, learned: Job) -> None:
    told = list(learned.logs())
    assert next(line.message for line in told if line.message.startswith("Epoch")).startswith("Epoch 1/3")
    assert [line.id for line in told] == sorted({line.id for line in told})
    assert "INFO" in str(told[0])
    assert told == list(learned.logs(follow=False))
    assert list(learned.logs(after=told[2].id)) == told[3:]


def test_a_job_stops_when_it_is_told_and_goes_on_from_there(workbench: Workbench, endless: Dataset) -> None:
    job = workbench.jobs.submit("mlp", endless, epochs=3000, batch_size=20, hidden_sizes=[8])
    with pytest.raises(DeadlineExceeded, match="goes on"):
        job.wait(timeout=0.2, progress=False)
    while not job.progress.step:
        time.sleep(0.1)
    assert job.stop(wait=30).status == "cancelled"
    assert job.wait().view.status == "cancelled"
    assert job.model is None
    step = job.view.position["step"]
    assert job.restart().attempt == 2
    while job.progress.step <= step:
        time.sleep(0.1)
    assert "again" in " ".join(line.message for line in job.logs(follow=False))
    job.stop()
    with pytest.raises(JobNotRestartable):
        workbench.jobs.submit("mlp", endless, epochs=1, batch_size=500).wait(timeout=120).restart()


def test_a_job_whose_dataset_was_deleted_says_so_when_it_is_restarted(workbench: Workbench) -> None:
    points = np.arange(400, dtype=np.float32).reshape(100, 4)
    dataset = workbench.datasets.upload("gone", features=points, targets=[0, 1] * 50, privacy="public")
    job = workbench.jobs.submit("linear", dataset, epochs=10_000, batch_size=1)
    while not job.progress.step:
        time.sleep(0.1)
    assert job.stop(wait=30).status == "cancelled"
    workbench.datasets.delete(dataset)
    with pytest.raises(JobNotRestartable, match="its dataset was deleted: submit one on a dataset that is"):
        job.restart()


def test_a_model_that_there_is_not_is_refused_before_the_dataset_is_read(workbench: Workbench) -> None:
    frame = pl.DataFrame({"age": list(range(70)), "sick": ["yes" if n > 40 else "no" for n in range(70)]})
    dataset = workbench.datasets.upload(frame, "not yet", target="sick", privacy="public", wait=False)
    with pytest.raises(UnknownModel, match="use one of linear"):
        workbench.jobs.submit("gpt-9", dataset)


def test_a_job_that_fails_says_why(workbench: Workbench, endless: Dataset) -> None:
    job = workbench.jobs.submit("mlp", endless, epochs=10_000, batch_size=10, timeout_seconds=1)
    with pytest.raises(JobFailed, match="was given 1 seconds") as failure:
        job.wait(timeout=120)
    assert failure.value.job_id == job.id
    assert job.reason == failure.value.reason
    assert job.model is None


def test_a_job_may_wait_for_its_dataset(workbench: Workbench) -> None:
    frame = pl.DataFrame({"age": list(range(80)), "sick": ["yes" if n > 40 else "no" for n in range(80)]})
    dataset = workbench.datasets.upload(frame, "late", target="sick", privacy="public", wait=False)
    job = workbench.jobs.submit("logistic", dataset, epochs=2, batch_size=20).wait(timeout=240)
    assert job.view.status == "completed"
    assert dataset.wait().status == "ready"


def test_jobs_are_found_again_and_counted(workbench: Workbench, learned: Job) -> None:
    assert workbench.jobs[learned.id].view.name == "first"
    assert learned.id in [job.id for job in workbench.jobs.list(status="completed", limit=100)]
    counts = workbench.jobs.stats()
    assert counts["total_jobs"] == sum(count for name, count in counts.items() if name != "total_jobs")
    with pytest.raises(JobNotFound):
        _ = workbench.jobs["job-nothing"]


def test_what_cannot_be_submitted_says_what_can(workbench: Workbench, public_dataset: Dataset) -> None:
    with pytest.raises(UnknownModel, match="mlp"):
        workbench.jobs.submit("gpt-17", public_dataset)
    with pytest.raises(InvalidRequest, match="epochs"):
        workbench.jobs.submit("mlp", public_dataset, epochs=0)
    with pytest.raises(InvalidRequest, match="monitor"):
        workbench.jobs.submit("mlp", public_dataset, early_stopping=EarlyStopping(monitor="luck"))
