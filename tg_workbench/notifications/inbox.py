"""The inbox: what somebody was told in the workbench, the newest first. The newest thousand are kept."""

from __future__ import annotations

import json
import uuid
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import NotificationNotFound
from tg_workbench.identity import Principal
from tg_workbench.notifications.tables import Notification
from tg_workbench.storage.database import now

MOST_KEPT = 1000
KEPT_SECONDS = 90 * 86_400.0


class Inbox:
    """The notifications of everybody, each seen by the one they are for."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def put(self, owner_id: str, kind: str, data: dict[str, Any], at: float) -> None:
        """Tell somebody, and forget what is too old or too much."""
        row = Notification(
            id=f"ntf-{uuid.uuid4()}", owner_id=owner_id, kind=kind, data=json.dumps(data), at=at
        )
        self.session.add(row)
        self.session.flush()
        mine = col(Notification.owner_id) == owner_id
        newest = sa.select(col(Notification.number)).where(mine).order_by(col(Notification.number).desc())
        first_left_out = newest.offset(MOST_KEPT).limit(1).scalar_subquery()
        is_old = col(Notification.at) < now() - KEPT_SECONDS
        gone = sa.delete(Notification).where(mine, is_old | (col(Notification.number) <= first_left_out))
        self.session.connection().execute(gone)

    def list_page(
        self, owner: Principal, *, unread: bool | None = None, limit: int = 50, offset: int = 0
    ) -> tuple[list[Notification], int]:
        """What somebody was told, newest first, and how much there is; `unread` picks some."""
        mine = [col(Notification.owner_id) == owner.id]
        if unread is not None:
            is_unread = col(Notification.read_at).is_(None)
            mine.append(is_unread if unread else ~is_unread)
        total = self.session.exec(select(sa.func.count()).select_from(Notification).where(*mine)).one()
        query = select(Notification).where(*mine).order_by(col(Notification.number).desc())
        return list(self.session.exec(query.limit(limit).offset(offset))), total

    def read(self, owner: Principal, notification_id: str) -> Notification:
        """Mark one as read; the first time counts. Raises NotificationNotFound."""
        query = select(Notification).where(
            Notification.id == notification_id, Notification.owner_id == owner.id
        )
        notification = self.session.exec(query).first()
        if notification is None:
            raise NotificationNotFound
        if notification.read_at is None:
            notification.read_at = now()
            self.session.add(notification)
            self.session.flush()
        return notification

    def read_all(self, owner: Principal) -> int:
        """Mark everything as read; how many were not."""
        mine = (col(Notification.owner_id) == owner.id, col(Notification.read_at).is_(None))
        return int(
            self.session.connection()
            .execute(sa.update(Notification).where(*mine).values(read_at=now()))
            .rowcount
        )
