"""API Coordination's route for notifications: S4-12."""

from __future__ import annotations

from fastapi import APIRouter

from tg_workbench.contracts.coordination import schemas
from tg_workbench.contracts.coordination.errors import COORDINATION_FAILURES, CoordinationRoute
from tg_workbench.contracts.providers import PreferencesRoom, SignedIn

router = APIRouter(
    prefix="/api", route_class=CoordinationRoute, tags=["API Coordination"], responses=COORDINATION_FAILURES
)


@router.post("/notifications/preferences")
async def change_preferences(
    body: schemas.ChangePreferences, owner: SignedIn, preferences: PreferencesRoom
) -> schemas.Done:
    """Update which notifications reach you, and how. What you leave out stays as it is."""
    preferences.change(owner, body.wanted)
    return schemas.Done(message="Notification preferences updated")
