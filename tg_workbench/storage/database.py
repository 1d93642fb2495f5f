"""The database: sessions that read, sessions that write, and the schema's history.

SQLite in WAL mode. Writers take their lock at the start, so two processes that write at once wait for each
other instead of failing.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlmodel import Session

from tg_workbench.errors import DatabaseTooNew, DatabaseUnavailable, InvalidSetting, StorageFull
from tg_workbench.storage.statements import CURSOR

MIGRATIONS = Path(__file__).parent / "migrations"
PATIENCE_SECONDS = 15.0
LOCK_LOOK_SECONDS = 0.0001
AFTER_COMMIT = "after_commit_calls"
MADE, CHANGED, PASSES_BY = "made_rows", "changed_rows", "passes_by"
_SIGNS_OF_ABSENCE = (
    "unable to open",
    "database is locked",
    "disk i/o",
    "malformed",
    "not a database",
    "readonly",
    "no such table: alembic_version",
)


class Database:
    """One database, named by its URL. Cheap to make: connects on first use. Raises InvalidSetting.

    `patience_seconds` is how long to wait for a lock that another process holds.
    """

    def __init__(self, url: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.url = url
        parsed = make_url(url)
        self.path = Path(parsed.database or "").absolute()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as failure:
            expected = f"in a folder that you can make and write to ({failure.strerror})"
            raise InvalidSetting("DATABASE_URL", f"sqlite:///{self.path}", expected) from failure
        self.engine = sa.create_engine(parsed, hide_parameters=True)  # a traceback must not print rows
        self.engine = self.engine.execution_options(tg_patience=patience_seconds)
        self._writing = self.engine.execution_options(tg_write=True)
        self._writing_down = self.engine.execution_options(tg_write=True, tg_durable=True)
        event.listen(self.engine, "connect", partial(_prepare, patience_seconds=patience_seconds))
        event.listen(self.engine, "begin", _begin)
        self.before_commit: list[Callable[[Session], None]] = []
        """Called with each writing session that is about to commit: what they write is part of it."""

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for looking; nothing it changes is kept. Raises DatabaseUnavailable."""
        with self._named_failures(), self._transaction(self.engine) as (session, _):
            yield session

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[Session]:
        """A session that commits when the block ends well, and rolls back when it raises.

        What is committed survives the death of any process; `durable`, and whatever was committed before it,
        survives a power cut too. Raises DatabaseUnavailable when nothing answers and StorageFull when the
        disk has no room.
        """
        engine = self._writing_down if durable else self._writing
        with self._named_failures(), self._transaction(engine) as (session, connection):
            yield session
            session.flush()
            for write in self.before_commit:
                write(session)
            connection.commit()
            calls: list[Callable[[], None]] = session.info.pop(AFTER_COMMIT, [])
        for call in calls:
            call()

    @contextmanager
    def _transaction(self, engine: sa.Engine) -> Iterator[tuple[Session, sa.Connection]]:
        """One transaction, for the ORM and for prepared statements alike; rolled back unless committed.

        The session joins it only when the ORM is used, which is what costs.
        """
        with engine.connect() as connection:
            connection.begin()
            with Session(
                connection, expire_on_commit=False, join_transaction_mode="rollback_only"
            ) as session:
                session.info[CURSOR] = connection.connection.cursor()
                yield session, connection

    def ping(self) -> None:
        """Ask the database for a sign of life, and for tables as we know them. Raises DatabaseUnavailable."""
        with self.read() as session:
            revision = session.connection().exec_driver_sql("SELECT version_num FROM alembic_version")
            if revision.scalar() != _newest_revision():
                raise DatabaseUnavailable

    def migrate(self, revision: str = "head") -> None:
        """Bring the schema to `revision`. Quick when it is there, safe when two processes try at once.

        Raises DatabaseUnavailable, StorageFull, and DatabaseTooNew when a later version made it.
        """
        known = self._revision()
        if revision == "head" and known == _newest_revision():
            return
        if known is not None and known > _newest_revision():
            raise DatabaseTooNew(str(self.path))
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self._named_failures(), self._writing.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            connection.commit()

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        """What the driver says, in our words or SQLAlchemy's: prepared statements raise it bare."""
        try:
            yield
        except (DBAPIError, self.engine.dialect.loaded_dbapi.Error) as failure:
            text = str(getattr(failure, "orig", failure)).lower()
            if "disk is full" in text or "no space left" in text:
                raise StorageFull from failure
            gone = isinstance(failure, DBAPIError) and failure.connection_invalidated
            if gone or any(sign in text for sign in _SIGNS_OF_ABSENCE):
                raise DatabaseUnavailable from failure
            if isinstance(failure, DBAPIError):
                raise
            driver = self.engine.dialect.loaded_dbapi.Error
            raise DBAPIError.instance(None, None, failure, driver, hide_parameters=True) from failure

    def _revision(self) -> str | None:
        try:
            with self.engine.connect() as connection:
                return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        except SQLAlchemyError:
            return None


def after_commit(session: Session, call: Callable[[], None]) -> None:
    """Have `call` made once what `session` wrote is stored; never when it is rolled back."""
    session.info.setdefault(AFTER_COMMIT, []).append(call)


def is_durable(session: Session) -> bool:
    """Whether what `session` writes will survive a power cut: it is that of `write(durable=True)`."""
    return bool(session.connection().get_execution_options().get("tg_durable", False))


def passes_by(session: Session) -> None:
    """Say that `session` does nothing of what was asked: it gets ready for that, or clears up after it."""
    session.info[PASSES_BY] = True


def is_passing_by(session: Session) -> bool:
    """Whether `session` said so."""
    return PASSES_BY in session.info


def made_in(session: Session) -> list[Any]:
    """The rows that `session` has added through the ORM and flushed, the first one first."""
    rows: list[Any] = session.info.get(MADE, [])
    return rows


def changed_in(session: Session) -> list[Any]:
    """The rows that `session` has changed through the ORM and flushed, once for each time."""
    rows: list[Any] = session.info.get(CHANGED, [])
    return rows


@event.listens_for(Session, "after_flush")
def _note_rows(session: Session, _flush: Any) -> None:
    if session.new:
        session.info.setdefault(MADE, []).extend(session.new)
    if session.dirty:
        session.info.setdefault(CHANGED, []).extend(session.dirty)


def now() -> float:
    """The time written into rows: seconds since 1970, UTC."""
    return time.time()


def _newest_revision() -> str:
    """Revisions are numbered files (`0001_….py`), so the newest is the last by name."""
    return max(path.name for path in (MIGRATIONS / "versions").glob("[0-9]*.py")).split("_")[0]


def _prepare(connection: Any, _record: Any, *, patience_seconds: float) -> None:
    connection.isolation_level = (
        None  # we say BEGIN ourselves: the driver's own way cannot take the lock first
    )
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "secure_delete=FAST",  # rows that callers sent do not linger in free pages
        _busy_timeout(patience_seconds),
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    """Begin; a writer takes its lock at once.

    SQLite itself waits for a lock by sleeping for whole milliseconds; our transactions last less than one.
    """
    driver: Any = connection.connection
    options = connection.get_execution_options()
    if not options.get("tg_write", False):
        driver.execute("BEGIN")
        return
    patience_seconds = options.get("tg_patience", PATIENCE_SECONDS)
    deadline = time.monotonic() + patience_seconds
    driver.execute(f"PRAGMA synchronous={'FULL' if options.get('tg_durable', False) else 'NORMAL'}")
    driver.execute("PRAGMA busy_timeout=0")
    try:
        while True:
            try:
                driver.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as failure:
                if failure.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(LOCK_LOOK_SECONDS)
    finally:
        driver.execute(f"PRAGMA {_busy_timeout(patience_seconds)}")


def _busy_timeout(patience_seconds: float) -> str:
    return f"busy_timeout={round(patience_seconds * 1000)}"
