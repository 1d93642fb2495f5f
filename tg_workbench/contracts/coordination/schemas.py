"""API Coordination's bodies and answers. An unknown member is ignored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from tg_workbench.contracts.tg_tinker.schemas import Form

Kind = Literal[
    "training.started",
    "training.progress",
    "training.completed",
    "training.failed",
    "dataset.processed",
    "privacy.budget_near_cap",
    "security.alert",
]
Channels = Annotated[list[Literal["in_app", "webhook", "email"]], Field(max_length=3)]


class ChangePreferences(Form):
    """Where each kind of notification goes to; none where the list is empty.

    `webhook` means the webhooks you have made for yourself (`personal`): your organisation's hear of
    everything, whatever its members prefer.
    """

    preferences: dict[Kind, Channels] = Field(min_length=1)

    @property
    def wanted(self) -> dict[str, list[str]]:
        """The room's words, which are the same."""
        return {kind: list(channels) for kind, channels in self.preferences.items()}


class Done(BaseModel):
    """API Coordination's answer to an action."""

    success: Literal[True] = True
    message: str | None = None
