"""Unfinished: updates that were begun in pieces are forgotten with their round, device or time."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Session, col

from tg_workbench.federation.rounds.tables import UpdateUpload
from tg_workbench.storage import Blobs, LeftBlobs


def forget_unfinished(session: Session, blobs: Blobs, *which: sa.ColumnElement[bool]) -> None:
    """Forget what was begun, and what has come of it; what was submitted stays."""
    gone = session.connection().execute(sa.delete(UpdateUpload).where(*which).returning(col(UpdateUpload.id)))
    LeftBlobs(session, blobs).forget([row.id for row in gone])
