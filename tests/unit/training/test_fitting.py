from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sqlmodel import select

from tests.claims.one_job import OneJob, two_classes
from tg_workbench.errors import InvalidBatch
from tg_workbench.training.fitting import Fit
from tg_workbench.training.tables import Artifact


@pytest.mark.parametrize("bad_step", [2, 4, 7, 11])
def test_job_whose_gradient_is_not_finite_fails_and_keeps_nothing_of_it(
    tmp_path: Path, bad_step: int
) -> None:
    """In the middle of an epoch, at its end, and at the very end; its loss is finite all the while."""
    asked = {"batch_size": 50, "validation_split": 0.0, "checkpoint_every_steps": 1}
    job = OneJob(tmp_path, two_classes(200), privacy="public", **asked)
    assert job.fit.course.total_steps == 12
    weight = next(job.fit.operator.trainer.network.module.parameters())

    def spoil(fit: Fit) -> None:
        hook = weight.register_hook(lambda gradient: gradient.clone().fill_(torch.inf))
        if fit.step != bad_step:
            hook.remove()

    with pytest.raises(InvalidBatch, match="not finite"):
        job.done(spoil)
    assert job.fit.step == bad_step + 1
    job.fit.operator.autosave(force=True)  # as the worker does when a job has failed
    with job.database.read() as session:
        artifacts = session.exec(select(Artifact).where(Artifact.client_id == job.row.client_id)).all()
        known = session.get_one(type(job.fit.operator.client), job.row.client_id).last_checkpoint
    assert artifacts
    assert known is not None
    assert max(artifact.step for artifact in artifacts) == bad_step
    for artifact in artifacts:
        tensors = job.fit.operator.checkpoints.load(artifact.id).tensors
        assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
