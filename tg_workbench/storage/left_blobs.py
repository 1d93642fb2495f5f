"""Left blobs: files that nothing names any more, or nothing names yet, until somebody has removed them.

A process may be killed between a transaction and the file that belongs to it. What is to go is written down
in the transaction that forgets it, and what may come to nothing before one names it; so no sealed update
outlives its round by more than a sweep, and no file of a dataset the dataset.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import sqlalchemy as sa
from sqlmodel import Field, Session, SQLModel, col, select

from tg_workbench.storage.blobs import Blobs
from tg_workbench.storage.database import Database, after_commit, now, passes_by
from tg_workbench.storage.partial_files import PartialFile
from tg_workbench.storage.statements import Statement

log = logging.getLogger(__name__)
GRACE_SECONDS = 3600.0
"""How long a file may wait for the transaction that names it."""
MOST_AT_ONCE = 500
Names = Callable[[Session, str], bool]
"""Whether anything that is there names a blob."""


class LeftBlob(SQLModel, table=True):
    """A file that is to be removed from `due_at` on, unless a row has come to name it before."""

    __tablename__ = "left_blobs"

    name: str = Field(primary_key=True)
    due_at: float = Field(index=True)


def nobody(_: Session, __: str) -> bool:
    """Of files that only one could name: sealed ones, whose names are drawn anew each time."""
    return False


_DUE = Statement(
    sa.select(col(LeftBlob.name))
    .where(col(LeftBlob.due_at) <= sa.bindparam("moment"))
    .limit(sa.literal_column("1"))
)


class LeftBlobs:
    """What is to be removed."""

    def __init__(self, session: Session, blobs: Blobs) -> None:
        self.session = session
        self.blobs = blobs

    def forget(self, names: Iterable[str]) -> None:
        """Delete files once the transaction that names them no more is stored, or else with a sweep.

        Only what nobody else can name; for what may have the content of another, `leave`.
        """
        gone = tuple(names)
        self._note(gone, 0.0)

        def delete() -> None:
            for name in gone:
                self._delete(name)

        after_commit(self.session, delete)

    def leave(self, names: Iterable[str]) -> None:
        """The next sweep shall remove these files, unless somebody names them."""
        self._note(names, 0.0)

    def expect(self, names: Iterable[str]) -> None:
        """These files will be here in a moment, and a transaction is to name them soon: another than this."""
        passes_by(self.session)
        self._note(names, now() + GRACE_SECONDS)

    def named(self, names: Iterable[str]) -> None:
        """In the transaction that names them: they are to stay."""
        self.session.connection().execute(sa.delete(LeftBlob).where(col(LeftBlob.name).in_(list(names))))

    def is_due(self) -> bool:
        """Whether anything is to be swept."""
        return _DUE.first(self.session, moment=now()) is not None

    def sweep(self, is_named: Names = nobody) -> int:
        """Remove what is due and not named; how many were due. What cannot be removed is tried again later.

        Whoever gives content that is here to a new row does so in a writing transaction, as this is one: what
        `is_named` says holds until the file is gone.
        """
        due = select(LeftBlob).where(col(LeftBlob.due_at) <= now()).limit(MOST_AT_ONCE)
        found = list(self.session.exec(due))
        for left in found:
            if is_named(self.session, left.name) or self._delete(left.name):
                self.session.delete(left)
            else:
                left.due_at = now() + GRACE_SECONDS
                self.session.add(left)
        self.session.flush()
        return len(found)

    def _delete(self, name: str) -> bool:
        """Remove a blob, or what has come of one in pieces; whether it is gone.

        It raises nothing: what else was written beside must not be undone for the sake of one file.
        """
        try:
            if PartialFile.names(name):
                PartialFile(self.blobs, name).forget()
            else:
                self.blobs.delete(name)
        except OSError as failure:
            log.warning("a file could not be removed, and is tried again: %s", failure.strerror)
            return False
        return True

    @classmethod
    def announce(
        cls,
        database: Database,
        blobs: Blobs,
        name: str,
        hold: Callable[[Session], object] | None = None,
    ) -> None:
        """`expect` a file, in a transaction of its own, unless `hold` raises: who is to name it may not."""
        with database.write() as session:
            if hold is not None:
                hold(session)
            cls(session, blobs).expect([name])

    def _note(self, names: Iterable[str], due_at: float) -> None:
        for name in names:
            self.session.merge(LeftBlob(name=name, due_at=due_at))
        self.session.flush()
