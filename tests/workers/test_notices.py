"""What is told outside of a run is told once, whatever becomes of its workers, and holds nothing private."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from sqlmodel import col, select

from tests.workers.conftest import Workshop
from tg_workbench.outbox import Notice
from tg_workbench.training import ClientSpec, DPSpec

Rows = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def told(workshop: Workshop, client: str) -> list[tuple[str, dict[str, Any]]]:
    """What waits in the outbox about a client: there is no API here that would take it out."""
    with workshop.database.read() as session:
        notices = session.exec(select(Notice).order_by(col(Notice.id))).all()
    pairs = [(notice.event.removeprefix("training."), json.loads(notice.data)) for notice in notices]
    return [(event, data) for event, data in pairs if data.get("model_id") == client]


def test_a_run_that_loses_its_worker_is_told_once(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons)
    client = workshop.create(ClientSpec("mlp", dataset_id=dataset.id, batch_size=20, max_steps=4000))
    run = workshop.submit(client, "train", {"steps": 400})
    workshop.until(lambda: len(workshop.ledger(client)) > 150)
    workshop.kill_worker(client)
    workshop.ended(run)
    events = [event for event, _ in told(workshop, client)]
    assert events == ["started", *["progress"] * 10, "completed"]
    assert [data["progress"] for event, data in told(workshop, client) if event == "progress"] == list(
        range(10, 101, 10)
    )


def test_a_short_run_tells_each_step_once(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons, privacy="public")
    client = workshop.create(ClientSpec("mlp", dataset_id=dataset.id))
    workshop.do(client, "train", {"steps": 3})
    progress = [data["progress"] for event, data in told(workshop, client) if event == "progress"]
    assert progress == [30, 60, 100]


def test_a_spent_budget_ends_a_run_and_is_told_as_the_reason(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons, epsilon_cap=1.0)
    plan = DPSpec(noise_multiplier=1.0, noisy_loss_bound=4.0)
    client = workshop.create(ClientSpec("mlp", dataset_id=dataset.id, batch_size=100, dp=plan))
    workshop.do(client, "train", {"steps": 4000})
    event, data = told(workshop, client)[-1]
    assert (event, data["status"], data["reason"]) == ("completed", "stopped", "budget_exhausted")
    assert data["privacy"]["spent_epsilon"] <= 1.0


def test_progress_holds_epsilon_and_the_noisy_loss_and_no_other(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons)
    plan = DPSpec(noise_multiplier=2.0, noisy_loss_bound=4.0)
    client = workshop.create(ClientSpec("mlp", dataset_id=dataset.id, max_steps=20, dp=plan))
    workshop.do(client, "train", {"steps": 20})
    _, data = next(pair for pair in told(workshop, client) if pair[0] == "progress")
    assert data.keys() == {
        *("job_id", "model_id", "dataset_id", "status", "progress"),
        *("step", "steps_done", "epsilon", "noisy_loss"),
    }
    points = [event["points"] for event in workshop.events(client, "progress")]
    noisy = {step: loss for p in points for step, loss in zip(p["step"], p["noisy_loss"], strict=True)}
    assert data["noisy_loss"] == noisy[data["step"]]


def test_an_operation_that_is_no_run_is_not_told(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons, privacy="public")
    client = workshop.create(ClientSpec("mlp", dataset_id=dataset.id))
    workshop.do(client, "forward_backward", {"dataset_id": dataset.id})
    workshop.do(client, "optim_step")
    assert told(workshop, client) == []
