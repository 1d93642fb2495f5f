"""Jobs go to their end by themselves, whoever dies on the way; and no more is told of them than may be."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from tests.held_writes import held
from tests.workers.conftest import CALM_SECONDS, Workshop, opened
from tg_workbench.datasets import Content, Dataset, Datasets, DatasetSpec
from tg_workbench.errors import (
    DatasetNotReady,
    IdempotencyConflict,
    InvalidField,
    JobNotFound,
    JobNotRestartable,
    PrivacyRefused,
    Refused,
    TooManyJobs,
    UnknownModel,
)
from tg_workbench.execution import Work, request_worker
from tg_workbench.identity import LOCAL_PRINCIPAL, Principal
from tg_workbench.models import Model, Models
from tg_workbench.outbox import Notice
from tg_workbench.storage import Blobs
from tg_workbench.training import (
    Artifact,
    DPSpec,
    EarlyStopping,
    Job,
    Jobs,
    JobSpec,
    JobStatus,
    LeftCheckpoints,
    LoraSpec,
    OperationRow,
    ScheduleSpec,
    TrainingClient,
    TrainingClients,
)

Rows = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
ALICE = replace(LOCAL_PRINCIPAL, id="user_alice")
BOB = replace(LOCAL_PRINCIPAL, id="user_bob")
SLOW_NOISE: dict[str, Any] = {"epochs": 3000, "batch_size": 1, "dp": DPSpec(target_epsilon=1.0)}
"""A million steps: the noise for them is sought for many seconds."""
SOON_SECONDS = 10.0


def submitted(
    workshop: Workshop,
    dataset_id: str,
    owner: Principal = LOCAL_PRINCIPAL,
    key: str | None = None,
    **asked: Any,
) -> str:
    spec = JobSpec(**{"dataset_id": dataset_id, "model_type": "mlp", "epochs": 3, **asked})
    with workshop.database.write() as session:
        return Jobs(session, workshop.folder).submit(owner, spec, idempotency_key=key).id


def steered(workshop: Workshop, verb: str, job_id: str) -> Job:
    with workshop.database.write() as session:
        job: Job = getattr(Jobs(session, workshop.folder), verb)(LOCAL_PRINCIPAL, job_id)
        return job


def job_of(workshop: Workshop, job_id: str) -> Job:
    with workshop.database.read() as session:
        return session.get_one(Job, job_id)


def has_done(workshop: Workshop, job_id: str, epochs: int) -> bool:
    return bool(job_of(workshop, job_id).progress.get("epoch", 0) >= epochs)


def ended(workshop: Workshop, job_id: str) -> Job:
    def is_over() -> bool:
        with workshop.database.read() as session:
            return Jobs(session, workshop.folder).is_over(job_id)

    workshop.until(is_over, every=CALM_SECONDS)
    return job_of(workshop, job_id)


def lines(workshop: Workshop, job_id: str) -> list[str]:
    return [event["message"] for event in workshop.events(job_id, "log")]


def notices(workshop: Workshop, job_id: str) -> list[tuple[str, dict[str, Any]]]:
    with workshop.database.read() as session:
        rows = session.exec(select(Notice).order_by(col(Notice.id))).all()
    pairs = [(row.event.removeprefix("training."), json.loads(row.data)) for row in rows]
    return [(event, data) for event, data in pairs if data.get("job_id") == job_id]


def models_of(workshop: Workshop, job_id: str) -> list[Model]:
    with workshop.database.read() as session:
        return list(session.exec(select(Model).where(Model.job_id == job_id)))


def owned(workshop: Workshop, dataset: Dataset, owner: Principal) -> str:
    with workshop.database.write() as session:
        session.connection().execute(
            sa.update(Dataset).where(col(Dataset.id) == dataset.id).values(owner_id=owner.id)
        )
    return dataset.id


@pytest.fixture
def public(workshop: Workshop, two_moons: Rows) -> str:
    return workshop.dataset(*two_moons, privacy="public").id


@pytest.fixture
def protected(workshop: Workshop, two_moons: Rows) -> str:
    return workshop.dataset(*two_moons).id


# ------------------------------------------------------------------------------- from start to end
def test_a_job_on_a_public_dataset_learns_and_tells_how(workshop: Workshop, public: str) -> None:
    job = ended(workshop, submitted(workshop, public, epochs=5, learning_rate=0.05))
    assert (job.status, job.reason) == ("completed", None), job.message
    assert job.final_metrics is not None
    assert job.final_metrics["val_accuracy"] > 0.9
    assert all(
        len(job.history[name]) == 5 for name in ("loss", "accuracy", "val_loss", "val_accuracy", "val_f1")
    )
    assert job.progress["step"] == job.progress["total_steps"]
    said = lines(workshop, job.id)
    assert said[0] == "Training started"
    assert said[1].startswith(f"Epoch 1/5, Loss: {job.history['loss'][0]:.3f}")
    assert said[-1] == "Training completed"
    assert workshop.client(job.client_id).status == "terminated"


def test_a_completed_job_leaves_one_model_that_opens(workshop: Workshop, public: str) -> None:
    job = ended(workshop, submitted(workshop, public, epochs=3, hidden_sizes=(8,)))
    (model,) = models_of(workshop, job.id)
    assert (job.model_id, model.task, model.dataset_id) == (model.id, "classification", public)
    assert model.architecture["hidden_sizes"] == [8]
    assert model.performance["measured_on"] == "held-out rows"
    assert model.privacy["guarantee"] == "none"
    with workshop.database.read() as session:
        home = workshop.settings.home
        weights, onnx = Models(session, Blobs(home / "blobs"), home).opened(model)
    assert len(weights) > 8
    assert onnx is not None


def test_a_job_on_a_protected_dataset_gets_the_default_plan(workshop: Workshop, protected: str) -> None:
    job = ended(workshop, submitted(workshop, protected, epochs=4))
    assert (job.status, job.reason) == ("completed", None), job.message
    assert len(workshop.ledger(job.client_id)) == job.progress["total_steps"]
    assert 0.0 < job.history["epsilon"][-1] <= 3.0
    (model,) = models_of(workshop, job.id)
    assert model.privacy["spent_epsilon"] == pytest.approx(job.history["epsilon"][-1])
    assert list(model.lineage) == [job.client_id]


def test_nothing_raw_of_a_protected_dataset_is_in_the_log_or_told_outside(
    workshop: Workshop, protected: str
) -> None:
    job = ended(workshop, submitted(workshop, protected, epochs=3))
    said = "\n".join(lines(workshop, job.id))
    for epoch in range(3):
        assert f"Epoch {epoch + 1}/3, Loss: {job.history['noisy_loss'][epoch]:.3f}, ε: " in said
    assert "Val" not in said
    told = notices(workshop, job.id)
    assert [event for event, _ in told][:1] + [event for event, _ in told][-1:] == ["started", "completed"]
    assert all(data["accuracy"] is None for _, data in told)
    assert told[-1][1]["model_id"] == job.model_id
    assert job.final_metrics is not None
    assert "not covered by ε" in job.final_metrics["metrics_note"]


def test_of_a_public_dataset_the_accuracy_is_told_outside(workshop: Workshop, public: str) -> None:
    job = ended(workshop, submitted(workshop, public, epochs=3))
    event, data = notices(workshop, job.id)[-1]
    assert (event, data["accuracy"]) == ("completed", job.history["val_accuracy"][-1])


def test_a_seed_gives_the_same_run_again(workshop: Workshop, public: str) -> None:
    first, second, other = (
        ended(workshop, submitted(workshop, public, epochs=2, seed=seed)).history["loss"]
        for seed in (7, 7, 8)
    )
    assert first == second != other


def test_early_stopping_keeps_the_best_weights_of_a_public_dataset(
    workshop: Workshop, two_moons: Rows
) -> None:
    features, targets = two_moons
    noise = np.random.default_rng(1).integers(0, 2, len(targets))
    dataset = workshop.dataset(features, noise, privacy="public")  # nothing to learn: it gets worse soon
    asked: dict[str, Any] = {
        "learning_rate": 0.05,
        "early_stopping": EarlyStopping(patience=3),
        "hidden_sizes": (64,),
    }
    job = ended(workshop, submitted(workshop, dataset.id, epochs=200, **asked))
    assert (job.status, job.reason) == ("completed", "early_stopping"), job.message
    seen = job.history["val_loss"]
    assert len(seen) - 1 - seen.index(min(seen)) == 3
    assert job.final_metrics is not None
    assert job.final_metrics["val_loss"] == pytest.approx(min(seen), rel=1e-5)


def test_no_raw_measure_steers_what_has_an_epsilon(workshop: Workshop, public: str) -> None:
    asked: dict[str, Any] = {"early_stopping": EarlyStopping(patience=2), "dp": DPSpec(noise_multiplier=4.0)}
    job = ended(workshop, submitted(workshop, public, epochs=30, learning_rate=1e-6, **asked))
    assert (job.status, job.reason) == ("completed", "early_stopping"), job.message
    watched = job.history["noisy_loss"]
    assert len(watched) - 1 - watched.index(min(watched)) == 2
    assert job.state["best"] is None
    assert any("no measure of the rows may steer" in warning for warning in job.warnings)
    with pytest.raises(PrivacyRefused):
        submitted(workshop, public, class_weights="balanced", dp=DPSpec(noise_multiplier=4.0))


def test_schedules_weights_and_other_models_run(workshop: Workshop, public: str) -> None:
    asked: list[dict[str, Any]] = [
        {"schedule": ScheduleSpec("cosine", warmup_steps=2)},
        {"class_weights": "balanced", "model_type": "logistic"},
        {"class_weights": (1.0, 2.0), "optimizer": "sgd", "optimizer_options": {"momentum": 0.9}},
        {"model_type": "cnn", "gpu_count": 0},
    ]
    jobs = [ended(workshop, submitted(workshop, public, epochs=1, **one)) for one in asked]
    assert [job.status for job in jobs] == ["completed"] * 4, [job.message for job in jobs]
    assert any("laid out as a square image" in warning for warning in jobs[3].warnings)


def test_a_spent_budget_completes_the_job_with_the_model_of_its_last_step(
    workshop: Workshop, two_moons: Rows
) -> None:
    dataset = workshop.dataset(*two_moons, epsilon_cap=1.0)
    dp = DPSpec(noise_multiplier=1.5, target_epsilon=None)
    job = ended(workshop, submitted(workshop, dataset.id, epochs=200, dp=dp))
    assert (job.status, job.reason) == ("completed", "budget_exhausted")
    assert job.progress["step"] == len(workshop.ledger(job.client_id)) < job.progress["total_steps"]
    assert len(models_of(workshop, job.id)) == 1


def test_a_dataset_without_budget_fails_the_job(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons, epsilon_cap=0.01)
    job = ended(workshop, submitted(workshop, dataset.id, dp=DPSpec(noise_multiplier=0.5)))
    assert (job.status, job.reason, job.model_id) == ("failed", "budget_exhausted", None)


def test_a_job_that_takes_too_long_fails_and_can_go_on(workshop: Workshop, public: str) -> None:
    job_id = submitted(workshop, public, epochs=5000, timeout_seconds=1)
    job = ended(workshop, job_id)
    assert (job.status, job.reason) == ("failed", "timeout")
    again = steered(workshop, "restart", job_id)
    assert (again.status, again.attempt) == ("queued", 2)
    job = ended(workshop, job_id)
    assert (job.status, job.reason) == ("failed", "timeout")
    assert any(line.startswith("Training started again, from step") for line in lines(workshop, job_id))


def texts_of(workshop: Workshop, **more: Any) -> str:
    """So many short texts, public."""
    told = {"texts": [f"{word} day {number}" for number in range(20) for word in ("good", "bad")], **more}
    content = Content.of_texts(json.dumps(told if more else told["texts"]).encode())
    with workshop.database.write() as session:
        datasets = Datasets(session, Blobs(workshop.settings.home / "blobs"))
        return datasets.register(LOCAL_PRINCIPAL, DatasetSpec("texts", content, "public")).id


def test_a_language_model_with_a_head_tells_texts_apart(workshop: Workshop) -> None:
    labelled = texts_of(workshop, targets=[0, 1] * 20)
    asked: dict[str, Any] = {"model_type": "tiny-llama", "epochs": 20, "learning_rate": 0.05}
    job = ended(workshop, submitted(workshop, labelled, **asked))
    assert job.status == "completed", job.message
    (model,) = models_of(workshop, job.id)
    assert (model.task, model.architecture["output_classes"]) == ("classification", 2)
    assert job.history["accuracy"][-1] > 0.8


def test_a_language_model_goes_on_learning_by_adapters(workshop: Workshop) -> None:
    lora = LoraSpec(rank=2, target_modules=("q_proj",))
    asked: dict[str, Any] = {"model_type": "tiny-llama", "lora": lora, "epochs": 1, "batch_size": 16}
    job = ended(workshop, submitted(workshop, texts_of(workshop), **asked))
    assert job.status == "completed", job.message
    (model,) = models_of(workshop, job.id)
    assert (model.task, model.architecture["lora"]["rank"]) == ("language_modeling", 2)
    assert job.final_metrics is not None
    assert job.final_metrics["val_perplexity"] > 0


# ------------------------------------------------------------------------------- steered
def test_a_running_job_is_stopped_saved_and_goes_on_where_it_was(workshop: Workshop, protected: str) -> None:
    job_id = submitted(workshop, protected, epochs=30, checkpoint_every_steps=7)
    workshop.until(partial(has_done, workshop, job_id, 2))
    assert steered(workshop, "stop", job_id).status == "stopping"
    stopped = ended(workshop, job_id)
    assert (stopped.status, stopped.reason) == ("cancelled", "stopped")
    saved = workshop.client(stopped.client_id).last_checkpoint
    assert saved is not None
    assert saved["step"] == stopped.progress["step"]
    assert steered(workshop, "stop", job_id).status == "cancelled"
    workshop.until(lambda: workshop.worker(stopped.client_id) is None)
    steered(workshop, "restart", job_id)
    job = ended(workshop, job_id)
    assert (job.status, job.attempt) == ("completed", 2), job.message
    assert job.progress["step"] == len(workshop.ledger(job.client_id)) == job.progress["total_steps"]
    assert len(job.history["epsilon"]) == 30
    with pytest.raises(JobNotRestartable):
        steered(workshop, "restart", job_id)


def test_the_last_checkpoint_goes_when_no_restart_is_possible_any_more(
    workshop: Workshop, public: str
) -> None:
    asked: dict[str, Any] = {
        "epochs": 5000,
        "timeout_seconds": 1,
        "early_stopping": EarlyStopping(patience=400),
    }
    job = ended(workshop, submitted(workshop, public, checkpoint_every_steps=5, **asked))
    workshop.until(lambda: workshop.worker(job.client_id) is None)
    kept = checkpoints_of(workshop, job)
    assert {(artifact.automatic, "best_epoch" in artifact.details) for artifact in kept} == {
        *((True, False), (False, True), (False, False))
    }
    assert swept(workshop) == 0, "it may still be restarted"
    ended_days_ago(workshop, job.id, 8)
    with pytest.raises(JobNotRestartable, match=r"failed more than 7 days ago.*submit it again"):
        steered(workshop, "restart", job.id)
    assert swept(workshop) == 2
    left = checkpoints_of(workshop, job)
    assert [artifact.id for artifact in left] == [
        artifact.id for artifact in kept if "job_id" in artifact.details
    ], "what was asked for stays"
    files = {path.name for path in (workshop.settings.home / "blobs").rglob("*")}
    assert {one.blob for one in kept} & files == {one.blob for one in left}
    ended_days_ago(workshop, job.id, 0)  # as if they were to be kept for longer from now on
    with pytest.raises(JobNotRestartable, match="its last checkpoint is not kept"):
        steered(workshop, "restart", job.id)
    assert swept(workshop) == 0


def checkpoints_of(workshop: Workshop, job: Job) -> list[Artifact]:
    with workshop.database.read() as session:
        its = select(Artifact).where(Artifact.client_id == job.client_id)
        return list(session.exec(its.order_by(col(Artifact.created_at))))


def ended_days_ago(workshop: Workshop, job_id: str, days: int) -> None:
    with workshop.database.write() as session:
        job = session.get_one(Job, job_id)
        job.ended_at = time.time() - days * 86_400
        session.add(job)


def swept(workshop: Workshop) -> int:
    with workshop.database.write() as session:
        return LeftCheckpoints(session, Blobs(workshop.settings.home / "blobs"), 7).sweep()


def test_checkpoints_every_so_many_steps_are_kept_and_bounded(workshop: Workshop, public: str) -> None:
    job = ended(workshop, submitted(workshop, public, epochs=3, checkpoint_every_steps=2))
    with workshop.database.read() as session:
        its = select(Artifact).where(Artifact.client_id == job.client_id).order_by(col(Artifact.step))
        steps = [artifact.step for artifact in session.exec(its) if not artifact.automatic]
    last = job.progress["total_steps"] // 2 * 2
    assert steps == [last - 4, last - 2, last]


def test_a_job_that_waits_is_cancelled_at_once(tmp_path: Path, two_moons: Rows) -> None:
    shop = Workshop(tmp_path)  # nobody dispatches
    dataset = shop.dataset(*two_moons)
    job_id = submitted(shop, dataset.id)
    job = steered(shop, "stop", job_id)
    assert (job.status, job.reason) == ("cancelled", "stopped")
    assert notices(shop, job_id) == []
    with shop.database.read() as session:
        assert not session.get_one(Work, job.client_id).wanted


def test_the_time_of_a_job_begins_before_its_noise_is_chosen(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons)
    began = time.monotonic()
    job = ended(workshop, submitted(workshop, dataset.id, timeout_seconds=1, **SLOW_NOISE))
    assert time.monotonic() - began < SOON_SECONDS
    assert (job.status, job.reason, job.started_at) == ("failed", "timeout", None), job.message
    assert workshop.ledger(job.client_id) == []


def test_a_job_that_is_stopped_while_its_noise_is_chosen_lets_its_worker_go(
    workshop: Workshop, two_moons: Rows
) -> None:
    dataset = workshop.dataset(*two_moons)
    job = job_of(workshop, submitted(workshop, dataset.id, **SLOW_NOISE))
    workshop.until(lambda: workshop.worker(job.client_id) is not None)
    assert steered(workshop, "stop", job.id).status == "cancelled"
    workshop.until(lambda: workshop.worker(job.client_id) is None, seconds=SOON_SECONDS)
    assert workshop.ledger(job.client_id) == []
    steered(workshop, "restart", job.id)
    workshop.until(lambda: workshop.worker(job.client_id) is not None)
    assert job_of(workshop, job.id).status == "queued"
    steered(workshop, "stop", job.id)


def test_a_job_that_is_stopped_in_its_first_epoch_tells_what_it_has_spent(
    workshop: Workshop, protected: str
) -> None:
    job_id = submitted(workshop, protected, epochs=5, batch_size=1, dp=DPSpec(noise_multiplier=3.0))
    workshop.until(lambda: job_of(workshop, job_id).progress.get("step", 0) > 2)
    running = job_of(workshop, job_id).progress
    assert running["epoch"] == 0
    assert running["metrics"]["epsilon"] > 0.0
    steered(workshop, "stop", job_id)
    job = ended(workshop, job_id)
    spent = (workshop.client(job.client_id).privacy or {})["spent_epsilon"]
    assert job.progress["metrics"]["epsilon"] == spent > 0.0


def test_a_job_that_ends_beside_its_worker_tells_what_its_client_has_spent(
    closed: Workshop, two_moons: Rows
) -> None:
    job = job_of(closed, submitted(closed, closed.dataset(*two_moons).id))
    its = sa.update(TrainingClient).where(col(TrainingClient.id) == job.client_id)
    with closed.database.write() as session:
        session.connection().execute(its.values(privacy={"spent_epsilon": 0.75}))
    assert steered(closed, "stop", job.id).progress["metrics"]["epsilon"] == 0.75


def test_a_job_that_was_to_stop_when_its_worker_was_lost_does_not_begin(
    tmp_path: Path, two_moons: Rows
) -> None:
    shop = Workshop(tmp_path)
    job_id = submitted(shop, shop.dataset(*two_moons).id)
    with shop.database.write() as session:
        its = sa.update(Job).where(col(Job.id) == job_id)
        session.connection().execute(its.values(status=JobStatus.STOPPING))
    shop.open()
    try:
        job = ended(shop, job_id)
    finally:
        shop.close()
    assert (job.status, job.reason, shop.ledger(job.client_id)) == ("cancelled", "stopped", [])
    assert "running" not in [event["status"] for event in shop.events(job_id, "status")]


# ------------------------------------------------------------------------------- lost
def test_a_killed_workers_job_goes_on_and_nothing_of_it_is_doubled(
    workshop: Workshop, protected: str
) -> None:
    job_id = submitted(workshop, protected, epochs=25, dp=DPSpec(noise_multiplier=3.0))
    for wanted in (2, 9):
        workshop.until(partial(has_done, workshop, job_id, wanted))
        workshop.kill_worker(job_of(workshop, job_id).client_id)
    job = ended(workshop, job_id)
    assert (job.status, job.attempt) == ("completed", 1), job.message
    assert {len(values) for values in job.history.values()} == {25}
    epochs = [line.split(",")[0] for line in lines(workshop, job_id) if line.startswith("Epoch")]
    assert epochs == [f"Epoch {epoch}/25" for epoch in range(1, 26)]
    assert [data["progress"] for event, data in notices(workshop, job_id) if event == "progress"] == list(
        range(10, 101, 10)
    )
    assert len(models_of(workshop, job_id)) == 1
    assert len(workshop.ledger(job.client_id)) >= job.progress["total_steps"]


def test_no_checkpoint_of_a_killed_worker_is_left_unheard_of(tmp_path: Path, two_moons: Rows) -> None:
    def files() -> set[str]:
        return {path.name for path in (tmp_path / "blobs").glob("??/*")}

    def named(shop: Workshop, table: str) -> set[str]:
        column = "name" if table == "left_blobs" else "blob"
        with shop.database.read() as session:
            found = session.connection().exec_driver_sql(f"SELECT {column} FROM {table}")  # noqa: S608
            return set(found.scalars())

    with opened(tmp_path) as shop:
        dataset = shop.dataset(*two_moons, privacy="public")
        job_id = submitted(shop, dataset.id, epochs=5000, checkpoint_every_steps=1, hidden_sizes=(64,))
        job = job_of(shop, job_id)
        shop.until(lambda: bool(checkpoints_of(shop, job)))
        with held(tmp_path / "tgsp.db", "INSERT ON artifacts"):
            known = named(shop, "artifacts") | named(shop, "datasets")
            shop.until(lambda: bool(files() - known))
            pid = shop.kill_worker(job.client_id)  # between the file and its row
            shop.until(lambda: not psutil.pid_exists(pid))
        steered(shop, "stop", job_id)
        ended(shop, job_id)
        left = files() - named(shop, "artifacts") - named(shop, "datasets")
        assert left, "it was not killed in between"
        assert left <= named(shop, "left_blobs")


def test_a_job_that_kills_three_workers_fails_and_says_so(workshop: Workshop, public: str) -> None:
    features = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float32)
    slow = workshop.dataset(features, (features[:, 0] > 0).astype(np.int64), privacy="public")
    job_id = submitted(workshop, slow.id, epochs=1, batch_size=100_000, hidden_sizes=(4096, 4096, 4096))
    client = job_of(workshop, job_id).client_id
    pids: set[int | None] = {None}

    def being_tried(attempt: int) -> bool:
        with workshop.database.read() as session:
            operation = session.exec(select(OperationRow).where(OperationRow.client_id == client)).one()
        new = workshop.worker(client) not in pids
        return operation.status == "running" and operation.attempt == attempt and new

    for attempt in range(3):
        workshop.until(partial(being_tried, attempt))
        pids.add(workshop.kill_worker(client))
    job = ended(workshop, job_id)
    assert (job.status, job.reason, job.model_id) == ("failed", "lost", None)


# ------------------------------------------------------------------------------- turns
def started(shop: Workshop, job_ids: list[str]) -> list[str]:
    """In which order jobs began."""
    jobs = [ended(shop, job_id) for job_id in job_ids]
    assert {job.status for job in jobs} == {"completed"}, [job.message for job in jobs]
    return [job.id for job in sorted(jobs, key=lambda job: job.started_at or 0.0)]


def test_two_users_take_turns_and_the_urgent_jobs_of_each_go_first(tmp_path: Path, two_moons: Rows) -> None:
    shop = Workshop(tmp_path, TG_MAX_JOBS="1")
    of_alice = owned(shop, shop.dataset(*two_moons, privacy="public"), ALICE)
    of_bob = owned(shop, shop.dataset(*two_moons, privacy="public"), BOB)
    hers = [submitted(shop, of_alice, ALICE, epochs=1) for _ in range(3)]
    his = [submitted(shop, of_bob, BOB, epochs=1) for _ in range(3)]
    urgent = submitted(shop, of_bob, BOB, epochs=1, priority=5)
    shop.open()
    try:
        order = started(shop, [*hers, *his, urgent])
    finally:
        shop.close()
    assert [job_id for job_id in order if job_id not in hers] == [urgent, *his]
    whose = ["alice" if job_id in hers else "bob" for job_id in order]
    assert whose in (["bob", "alice"] * 3 + ["bob"], ["alice", "bob"] * 3 + ["bob"])


def test_nobody_waits_for_the_urgent_jobs_of_another(tmp_path: Path, two_moons: Rows) -> None:
    shop = Workshop(tmp_path, TG_MAX_JOBS="1")
    of_alice = owned(shop, shop.dataset(*two_moons, privacy="public"), ALICE)
    of_bob = owned(shop, shop.dataset(*two_moons, privacy="public"), BOB)
    urgent = [submitted(shop, of_bob, BOB, epochs=1, priority=10) for _ in range(4)]
    hers = submitted(shop, of_alice, ALICE, epochs=1)
    shop.open()
    try:
        order = started(shop, [*urgent, hers])
    finally:
        shop.close()
    assert order.index(hers) <= 1


def test_a_job_waits_for_its_dataset(tmp_path: Path, two_moons: Rows) -> None:
    with opened(tmp_path) as shop:
        dataset = shop.dataset(*two_moons, privacy="public")
        its = sa.update(Dataset).where(col(Dataset.id) == dataset.id)
        with shop.database.write() as session:
            session.connection().execute(its.values(status="processing", size=0))
            request_worker(session, shop.folder, dataset.id, "dataset")  # nobody here does such work
        job_id = submitted(shop, dataset.id)
        other = ended(shop, submitted(shop, shop.dataset(*two_moons, privacy="public").id))
        assert (other.status, job_of(shop, job_id).status) == ("completed", "queued")
        assert job_of(shop, job_id).estimated_seconds is None
        with shop.database.write() as session:
            session.connection().execute(its.values(status="ready", size=400))
            session.connection().execute(
                sa.update(Work).where(col(Work.id) == dataset.id).values(wanted=False)
            )
        assert ended(shop, job_id).status == "completed"


def test_a_job_whose_dataset_turns_out_to_be_no_good_fails_with_its_reason(
    tmp_path: Path, two_moons: Rows
) -> None:
    with opened(tmp_path) as shop:
        dataset = shop.dataset(*two_moons)
        its = sa.update(Dataset).where(col(Dataset.id) == dataset.id)
        with shop.database.write() as session:
            session.connection().execute(its.values(status="processing"))
        job_id = submitted(shop, dataset.id)
        with shop.database.write() as session:
            nothing = {"blob": "", "tensors": "", "size": 0, "format": "texts"}
            session.connection().execute(its.values(status="failed", reason="line 3 is too short", **nothing))
        job = ended(shop, job_id)
        assert (job.status, "line 3 is too short" in (job.message or "")) == ("failed", True)
        with pytest.raises(DatasetNotReady):
            submitted(shop, dataset.id)


# ------------------------------------------------------------------------------- admitted
@pytest.fixture
def closed(tmp_path: Path) -> Workshop:
    """A workshop in which nothing runs."""
    return Workshop(tmp_path)


def test_a_user_has_at_most_five_active_jobs(closed: Workshop, two_moons: Rows) -> None:
    dataset = closed.dataset(*two_moons)
    jobs = [submitted(closed, dataset.id) for _ in range(5)]
    with pytest.raises(TooManyJobs) as refusal:
        submitted(closed, dataset.id)
    assert refusal.value.details["limit"] == 5
    assert refusal.value.retry_after >= 30
    steered(closed, "stop", jobs[0])
    submitted(closed, dataset.id)
    with pytest.raises(TooManyJobs):
        steered(closed, "restart", jobs[0])
    others = owned(closed, closed.dataset(*two_moons), BOB)
    submitted(closed, others, BOB)
    with closed.database.read() as session:
        counts = Jobs(session, closed.folder).counts(LOCAL_PRINCIPAL)
        page, total = Jobs(session, closed.folder).list_page(LOCAL_PRINCIPAL, limit=2)
    assert (counts[JobStatus.QUEUED], counts[JobStatus.CANCELLED], sum(counts.values())) == (5, 1, total)
    assert len(page) == 2


def test_the_same_key_gives_the_same_job(closed: Workshop, two_moons: Rows) -> None:
    dataset = closed.dataset(*two_moons)
    assert submitted(closed, dataset.id, key="once") == submitted(closed, dataset.id, key="once")
    with pytest.raises(IdempotencyConflict):
        submitted(closed, dataset.id, key="once", epochs=4)


def test_nobody_else_sees_a_job(closed: Workshop, two_moons: Rows) -> None:
    job_id = submitted(closed, closed.dataset(*two_moons).id)
    with closed.database.read() as session, pytest.raises(JobNotFound):
        Jobs(session, closed.folder).get(BOB, job_id)


def test_what_cannot_be_is_refused_at_once(closed: Workshop, two_moons: Rows) -> None:
    rows, open_rows = closed.dataset(*two_moons).id, closed.dataset(*two_moons, privacy="public").id
    rule = EarlyStopping(monitor="noisy_loss")
    for kind, dataset_id, asked in (
        (PrivacyRefused, rows, {"seed": 1}),
        (PrivacyRefused, rows, {"class_weights": "balanced"}),
        (PrivacyRefused, rows, {"dp": DPSpec(enabled=False)}),
        (PrivacyRefused, rows, {"dp": DPSpec(target_epsilon=50.0)}),
        (InvalidField, open_rows, {"early_stopping": rule}),
        (InvalidField, open_rows, {"model_type": "tiny-llama"}),
        (InvalidField, open_rows, {"schedule": ScheduleSpec(warmup_steps=10_000)}),
        (UnknownModel, open_rows, {"model_type": "resnet19"}),
    ):
        with pytest.raises(kind):
            submitted(closed, dataset_id, **asked)
    with closed.database.read() as session:
        assert session.exec(select(Job)).first() is None


def test_gpus_that_are_not_there_are_made_up_for(
    closed: Workshop, two_moons: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = closed.dataset(*two_moons)
    monkeypatch.setattr("tg_workbench.training.jobs.count_gpus", lambda: 0)
    job = job_of(closed, submitted(closed, dataset.id, gpu_count=1))
    assert job.warnings == ["this machine has no GPU: the job trains on the CPU"]
    monkeypatch.setattr("tg_workbench.training.jobs.count_gpus", lambda: 1)
    with pytest.raises(InvalidField, match="gpu_count"):
        submitted(closed, dataset.id, gpu_count=2)


def test_a_jobs_client_is_its_own_and_its_dataset_is_in_use(closed: Workshop, two_moons: Rows) -> None:
    dataset = closed.dataset(*two_moons)
    job = job_of(closed, submitted(closed, dataset.id))
    with closed.database.write() as session:
        clients = TrainingClients(session, closed.folder)
        assert clients.list_page(LOCAL_PRINCIPAL) == ([], 0)
        assert clients.users_of(dataset.id) == 1
        for verb in ("terminate", "pause", "resume", "stop"):
            with pytest.raises(Refused, match="belongs to job-"):
                getattr(clients, verb)(LOCAL_PRINCIPAL, job.client_id)
    steered(closed, "stop", job.id)
    with closed.database.read() as session:
        assert TrainingClients(session, closed.folder).users_of(dataset.id) == 0


def test_the_estimate_after_a_few_jobs_is_within_a_factor_of_two(workshop: Workshop, public: str) -> None:
    def off(**asked: Any) -> float:
        """By how much the estimate of a job was wrong: 2 is twice as long, or half as long."""
        job = ended(workshop, submitted(workshop, public, model_type="linear", **asked))
        assert job.estimated_seconds is not None
        assert job.started_at is not None
        assert job.ended_at is not None
        ratio = job.estimated_seconds / (job.ended_at - job.started_at)
        return max(ratio, 1 / ratio)

    for asked in ({"epochs": 20, "batch_size": 8}, {"epochs": 5, "batch_size": 400}):
        for _ in range(2):
            off(**asked)
        assert any(off(**asked) < 2.0 for _ in range(4))  # others may be at work on the machine
    assert any(off(epochs=40, batch_size=8) < 2.0 for _ in range(4)), "twice as long, as never before"
