"""What the notifications room stores: what people want to be told, what they were, and e-mail to send."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tg_workbench.storage.database import now


class NotificationPreference(SQLModel, table=True):
    """Where one kind of notification goes to, for one person. What nobody chose has no row."""

    __tablename__ = "notification_preferences"

    owner_id: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    channels: list[str] = Field(sa_type=sa.JSON)


class Notification(SQLModel, table=True):
    """One thing that somebody was told in the workbench."""

    __tablename__ = "notifications"
    __table_args__ = (sa.Index("ix_notifications_of", "owner_id", "number"), {"sqlite_autoincrement": True})

    number: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    owner_id: str
    kind: str
    data: str = Field(sa_type=sa.Text)
    at: float = Field(default_factory=now)
    read_at: float | None = None


class Mail(SQLModel, table=True):
    """One e-mail that waits to be sent. Whoever tries it puts `due_at` off for as long as a try may take."""

    __tablename__ = "mails"
    __table_args__ = ({"sqlite_autoincrement": True},)

    number: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    owner_id: str = Field(index=True)
    kind: str
    data: str = Field(sa_type=sa.Text)
    at: float = Field(default_factory=now)
    attempts: int = 0
    due_at: float = Field(default_factory=now, index=True)
