"""Jobs go to their end by themselves, whoever dies on the way; and no more is told of them than may be."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.workers.conftest import Workshop
from tg_workbench.identity import LOCAL_PRINCIPAL
from tg_workbench.training import Job, Jobs, JobSpec

Rows = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def submitted(workshop: Workshop, dataset_id: str, **asked: Any) -> str:
    spec = JobSpec(**{"dataset_id": dataset_id, "model_type": "mlp", "epochs": 3, **asked})
    with workshop.database.write() as session:
        return Jobs(session, workshop.folder).submit(LOCAL_PRINCIPAL, spec).id


def job_of(workshop: Workshop, job_id: str) -> Job:
    with workshop.database.read() as session:
        return Jobs(session, workshop.folder).get(LOCAL_PRINCIPAL, job_id)


def ended(workshop: Workshop, job_id: str) -> Job:
    def is_over() -> bool:
        with workshop.database.read() as session:
            return Jobs(session, workshop.folder).is_over(job_id)

    workshop.until(is_over)
    return job_of(workshop, job_id)


def lines(workshop: Workshop, job_id: str) -> list[str]:
    return [event["message"] for event in workshop.events(job_id, "log")]


def test_a_job_on_a_public_dataset_learns_and_tells_how(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons, privacy="public")
    job = ended(workshop, submitted(workshop, dataset.id, epochs=5, learning_rate=0.05))
    assert (job.status, job.reason) == ("completed", None)
    assert job.final_metrics is not None
    assert job.final_metrics["val_accuracy"] > 0.9
    assert all(len(job.history[name]) == 5 for name in ("loss", "accuracy", "val_loss", "val_accuracy"))
    assert job.progress["step"] == job.progress["total_steps"]
    said = lines(workshop, job.id)
    assert said[0] == "Training started"
    assert said[1].startswith(f"Epoch 1/5, Loss: {job.history['loss'][0]:.3f}")
    assert said[-1] == "Training completed"
    assert workshop.client(job.client_id).status == "terminated"


def test_a_job_on_a_protected_dataset_gets_the_default_plan(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons)
    job = ended(workshop, submitted(workshop, dataset.id, epochs=4))
    assert (job.status, job.reason) == ("completed", None), job.message
    ledger = workshop.ledger(job.client_id)
    assert len(ledger) == job.progress["total_steps"]
    assert 0.0 < job.history["epsilon"][-1] <= 3.0
