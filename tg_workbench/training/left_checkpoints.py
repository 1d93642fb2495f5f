"""Left checkpoints: those that jobs go on from, or chose among, once nobody will any more.

A job that failed or was cancelled keeps its last checkpoint for as long as it may be restarted. Checkpoints
that somebody asked for, every so many steps, are theirs and stay. Needs no torch: the API sweeps.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.storage import Blobs
from tg_workbench.storage.database import now
from tg_workbench.training.specs import OVER_JOBS
from tg_workbench.training.tables import Artifact, Job, TrainingClient

DAY_SECONDS = 86_400.0
KEPT_DAYS = 7
"""Unless an operator says otherwise."""
MOST_AT_ONCE = 100
SWEPT = "swept"
"""In a job's `state`: the checkpoint that it would go on from is gone."""


class LeftCheckpoints:
    """Checkpoints of jobs that ended more than `kept_days` ago."""

    def __init__(self, session: Session, blobs: Blobs, kept_days: int) -> None:
        self.session = session
        self.blobs = blobs
        self.kept_days = kept_days

    def is_due(self) -> bool:
        """Whether anything is to be removed."""
        return self.session.exec(self._due(1)).first() is not None

    def sweep(self) -> int:
        """Remove some; how many. Where it is killed half way, the next one removes the rest.

        **Why** the file goes first: a row without a file is found again, a file without a row never.
        """
        found = list(self.session.exec(self._due(MOST_AT_ONCE)))
        for artifact, job in found:
            self.blobs.delete(artifact.blob)
            self.session.delete(artifact)
            job.state = {**job.state, SWEPT: True}
            self.session.add(job)
            client = self.session.get_one(TrainingClient, artifact.client_id)
            if (client.last_checkpoint or {}).get("artifact_id") == artifact.id:
                client.last_checkpoint = None
                self.session.add(client)
        self.session.flush()
        return len(found)

    def _due(self, most: int) -> Any:
        is_best = col(Artifact.details)["best_epoch"].as_integer().is_not(None)
        return (
            select(Artifact, Job)
            .join(Job, col(Job.client_id) == col(Artifact.client_id))
            .where(
                col(Job.status).in_(OVER_JOBS),
                col(Job.ended_at) < ended_before(self.kept_days),
                sa.or_(col(Artifact.automatic), is_best),
            )
            .limit(most)
        )


def ended_before(kept_days: int) -> float:
    """The moment after which a job has to have ended to go on."""
    return now() - kept_days * DAY_SECONDS
