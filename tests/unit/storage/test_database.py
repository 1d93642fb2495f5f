from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlmodel import col

from tg_workbench.errors import DatabaseUnavailable, StorageFull
from tg_workbench.execution.tables import Work
from tg_workbench.storage import Database
from tg_workbench.storage.database import after_commit
from tg_workbench.storage.statements import Statement, insertion

INSERT = insertion(Work)
ALL = Statement(sa.select(col(Work.id), col(Work.epoch)).order_by(col(Work.id)))
EPOCH = Statement(sa.select(col(Work.epoch)).where(col(Work.id) == sa.bindparam("work")))
RAISE = Statement(
    sa.update(Work).where(col(Work.id) == sa.bindparam("work")).values(epoch=col(Work.epoch) + 1)
)


def add(database: Database, *names: str) -> None:
    with database.write() as session:
        for name in names:
            INSERT.change(session, **Work(id=name, kind="training", last_active=0.0).model_dump())


def test_a_prepared_statement_reads_and_changes(database: Database) -> None:
    add(database, "a", "b")
    with database.write() as session:
        assert RAISE.change(session, work="b") == 1
        assert RAISE.change(session, work="nobody") == 0
    with database.read() as session:
        assert [(row.id, row.epoch) for row in ALL.rows(session)] == [("a", 0), ("b", 1)]
        assert ALL.first(session).id == "a"
        assert EPOCH.value(session, work="b") == 1
        assert (EPOCH.first(session, work="nobody"), EPOCH.value(session, work="nobody")) == (None, None)


def test_prepared_statements_and_the_orm_share_one_transaction(database: Database) -> None:

    def fail_midway() -> None:
        with database.write() as session:
            session.add(Work(id="by-orm", kind="training", last_active=0.0))
            session.flush()
            assert RAISE.change(session, work="by-orm") == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_midway()
    with database.read() as session:
        assert ALL.rows(session) == []
    with database.write() as session:
        session.add(Work(id="by-orm", kind="training", last_active=0.0))  # flushed by the commit
    with database.read() as session:
        assert session.get_one(Work, "by-orm").epoch == 0


def test_what_a_reader_changes_is_not_kept(database: Database) -> None:
    add(database, "a")
    with database.read() as session:
        RAISE.change(session, work="a")
    with database.read() as session:
        assert EPOCH.value(session, work="a") == 0


def test_calls_come_after_the_commit_and_never_after_a_rollback(database: Database) -> None:
    called: list[int] = []
    with database.write() as session:
        INSERT.change(session, **Work(id="a", kind="training", last_active=0.0).model_dump())
        after_commit(session, lambda: called.append(1))
        assert not called
    assert called == [1]

    def fail() -> None:
        with database.write() as session:
            after_commit(session, lambda: called.append(2))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert called == [1]


def test_writers_wait_for_each_other_and_lose_nothing(database: Database) -> None:
    add(database, "a")

    def count() -> None:
        for _ in range(50):
            with database.write() as session:
                RAISE.change(session, work="a")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert EPOCH.value(session, work="a") == 200


def test_a_lock_that_nobody_lets_go_of_is_said(database: Database) -> None:
    holder = sqlite3.connect(str(database.engine.url.database))
    holder.execute("BEGIN IMMEDIATE")
    hasty = Database(database.url, patience_seconds=0.1)
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable), hasty.write():
        pass
    assert 0.1 <= time.monotonic() - began < 5.0
    hasty.close()
    holder.rollback()
    add(database, "a")


def test_a_database_that_is_gone_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    database = Database(f"sqlite:///{folder}/here.db")
    database.migrate()
    database.close()
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(DatabaseUnavailable):
        database.ping()
    (tmp_path / "elsewhere" / "here.db").write_bytes(b"no database at all, but something longer" * 100)
    (tmp_path / "elsewhere").rename(folder)
    with pytest.raises(DatabaseUnavailable), database.read() as session:
        ALL.rows(session)


def test_a_full_disk_is_said_and_nothing_is_half_written(database: Database) -> None:
    add(database, "a")

    def fill() -> None:
        with database.write() as session:
            pages = session.connection().exec_driver_sql("PRAGMA page_count").scalar_one()
            session.connection().exec_driver_sql(f"PRAGMA max_page_count={pages}")
            for number in range(10_000):
                row = Work(id=f"{number}", kind="x" * 1000, last_active=0.0)
                INSERT.change(session, **row.model_dump())

    with pytest.raises(StorageFull):
        fill()
    with database.read() as session:
        assert [row.id for row in ALL.rows(session)] == ["a"]


def test_what_must_outlive_a_power_cut_is_flushed_to_the_disk(database: Database) -> None:
    for durable, level in [(True, 2), (False, 1), (True, 2)]:
        with database.write(durable=durable) as session:
            assert session.connection().exec_driver_sql("PRAGMA synchronous").scalar_one() == level


def test_what_the_driver_says_bare_is_said_as_the_orm_says_it(database: Database) -> None:
    add(database, "a")
    with pytest.raises(sa.exc.IntegrityError) as failure:
        add(database, "a")
    assert isinstance(failure.value.orig, sqlite3.IntegrityError)
    with pytest.raises(sa.exc.OperationalError), database.read() as session:
        Statement(sa.text("SELECT nothing")).rows(session)
