"""Our own routes for notifications: what somebody was told, and what they want to be told."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query

from tg_workbench.contracts.providers import (
    InboxRoom,
    Limit,
    NotificationId,
    Offset,
    PreferencesRoom,
    SignedIn,
)
from tg_workbench.contracts.route import FAILURES, needs
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.tg_tinker.views import View, iso
from tg_workbench.notifications import Channel, Notification

router = APIRouter(
    prefix="/workbench/v1/notifications",
    route_class=WorkbenchRoute,
    tags=["Notifications"],
    responses=FAILURES,
)
Unread = Annotated[bool | None, Query(description="Only those you have not read, or only those you have.")]


class NotificationView(View):
    """One thing you were told."""

    notification_id: str
    event: str
    data: dict[str, Any]
    at: str
    read_at: str | None

    @classmethod
    def of(cls, notification: Notification) -> NotificationView:
        """A notification of the room."""
        return cls(
            notification_id=notification.id,
            event=notification.kind,
            data=json.loads(notification.data),
            at=iso(notification.at),
            read_at=None if notification.read_at is None else iso(notification.read_at),
        )


class NotificationList(View):
    """A page of what you were told, the newest first."""

    notifications: list[NotificationView]
    total: int
    limit: int
    offset: int


class PreferencesView(View):
    """The channels of each kind of notification, and whether this workbench sends e-mail at all."""

    preferences: dict[str, list[str]]
    email_available: bool


@router.get("")
async def list_notifications(
    owner: SignedIn, inbox: InboxRoom, unread: Unread = None, limit: Limit = 50, offset: Offset = 0
) -> NotificationList:
    """What you were told: the newest thousand of 90 days."""
    page, total = inbox.list_page(owner, unread=unread, limit=limit, offset=offset)
    shown = [NotificationView.of(notification) for notification in page]
    return NotificationList(notifications=shown, total=total, limit=limit, offset=offset)


@router.get("/preferences")
async def read_preferences(owner: SignedIn, preferences: PreferencesRoom) -> PreferencesView:
    """What reaches you, and how; `POST /api/notifications/preferences` changes it."""
    chosen = {
        kind: [channel.value for channel in Channel if channel in channels]
        for kind, channels in preferences.of(owner.id).items()
    }
    return PreferencesView(preferences=chosen, email_available=preferences.can_mail)


@router.post("/read_all")
@needs("read")
async def read_all(owner: SignedIn, inbox: InboxRoom) -> dict[str, int]:
    """Mark everything as read."""
    return {"read": inbox.read_all(owner)}


@router.post("/{notification_id}/read")
@needs("read")
async def read_notification(
    notification_id: NotificationId, owner: SignedIn, inbox: InboxRoom
) -> NotificationView:
    """Mark one as read."""
    return NotificationView.of(inbox.read(owner, notification_id))
