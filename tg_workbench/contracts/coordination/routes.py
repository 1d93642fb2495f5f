"""API Coordination's routes: S4-01, S4-12."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from tg_workbench.contracts.coordination import schemas
from tg_workbench.contracts.coordination.errors import COORDINATION_FAILURES, CoordinationRoute
from tg_workbench.contracts.providers import PreferencesRoom, SignedIn, StatisticsRoom
from tg_workbench.observability.statistics import RunCounts

router = APIRouter(
    prefix="/api", route_class=CoordinationRoute, tags=["API Coordination"], responses=COORDINATION_FAILURES
)


class TrainingStats(BaseModel):
    """Training jobs by how they stand. The five add up to the first."""

    total_jobs: int
    completed: int
    running: int
    failed: int
    pending: int
    cancelled: int

    @classmethod
    def of(cls, counts: RunCounts) -> TrainingStats:
        """Counts in the document's words."""
        return cls(
            total_jobs=counts.total,
            completed=counts.completed,
            running=counts.running,
            failed=counts.failed,
            pending=counts.pending,
            cancelled=counts.cancelled,
        )


@router.get("/training/stats")
async def read_training_stats(owner: SignedIn, statistics: StatisticsRoom) -> TrainingStats:
    """Get training job statistics for the authenticated user."""
    return TrainingStats.of(statistics.runs_of(owner))


@router.post("/notifications/preferences")
async def change_preferences(
    body: schemas.ChangePreferences, owner: SignedIn, preferences: PreferencesRoom
) -> schemas.Done:
    """Update which notifications reach you, and how. What you leave out stays as it is."""
    preferences.change(owner, body.wanted)
    return schemas.Done(message="Notification preferences updated")
