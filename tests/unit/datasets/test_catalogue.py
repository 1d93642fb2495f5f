"""What the catalogue keeps of a file, and for how long."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect
from sqlmodel import Session

from tg_workbench.datasets import Content, Datasets, DatasetSpec, FileSpec, is_named
from tg_workbench.errors import NotFound, PrivacyRefused
from tg_workbench.identity import Principal
from tg_workbench.storage import Blobs, Database, LeftBlobs
from tg_workbench.storage.database import after_commit

OWNER = Principal("user-a", "tenant", frozenset())
SPEC = FileSpec("rows", "rows.csv")
CONTENT = b"a,y\n1,0\n2,1\n"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'test.db'}")
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def uploaded(database: Database, blobs: Blobs) -> tuple[str, str]:
    with database.write() as session:
        source = blobs.put(CONTENT)
        made = Datasets(session, blobs, blobs.folder).upload(OWNER, SPEC, source, len(CONTENT))
        return made.id, source


def test_a_file_that_comes_again_while_its_twin_is_deleted_stays(database: Database, blobs: Blobs) -> None:
    first, source = uploaded(database, blobs)
    with database.write() as session:
        after_commit(session, lambda: uploaded(database, blobs) and None)  # before the file is let go
        Datasets(session, blobs).delete(OWNER, first, users=0)
    assert blobs.read(source) == CONTENT


def dying(database: Database, act: Callable[[Session], object]) -> None:
    """A process that writes, and is gone before that is stored."""
    if (child := os.fork()) == 0:
        database.engine.dispose(close=False)  # the parent's lines are not its own
        database.before_commit.append(lambda _: os._exit(0))
        with database.write() as session:
            act(session)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def an_hour_later(database: Database, blobs: Blobs) -> None:
    with database.write() as session:
        session.connection().exec_driver_sql("UPDATE left_blobs SET due_at = 0")
        LeftBlobs(session, blobs).sweep(is_named)
        assert not LeftBlobs(session, blobs).is_due()


def test_who_dies_before_the_dataset_is_there_leaves_no_file(database: Database, blobs: Blobs) -> None:
    rows = Content.of_texts(b'["one","two"]')
    LeftBlobs.announce(database, blobs, rows.digest)
    dying(database, lambda session: Datasets(session, blobs).register(OWNER, DatasetSpec("texts", rows)))
    assert blobs.path(rows.digest)
    an_hour_later(database, blobs)
    with pytest.raises(NotFound):
        blobs.path(rows.digest)


def test_what_a_dataset_names_stays_whoever_dies_with_the_same(database: Database, blobs: Blobs) -> None:
    _, source = uploaded(database, blobs)
    LeftBlobs.announce(database, blobs, source)
    dying(database, lambda session: Datasets(session, blobs, blobs.folder).upload(OWNER, SPEC, source, 12))
    an_hour_later(database, blobs)
    assert blobs.read(source) == CONTENT


def test_who_dies_after_a_dataset_was_deleted_leaves_no_file(database: Database, blobs: Blobs) -> None:
    first, source = uploaded(database, blobs)
    if (child := os.fork()) == 0:
        database.engine.dispose(close=False)
        with database.write() as session:
            after_commit(session, lambda: os._exit(0))
            Datasets(session, blobs).delete(OWNER, first, users=0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert blobs.path(source)
    an_hour_later(database, blobs)
    with pytest.raises(NotFound):
        blobs.path(source)


def test_a_list_does_not_read_what_only_one_is_asked_for(database: Database, blobs: Blobs) -> None:
    uploaded(database, blobs)
    with database.read() as session:
        (found,), _ = Datasets(session, blobs).list_page(OWNER)
        assert {"profile", "encoding", "asked"} <= inspect(found).unloaded


def test_only_the_curator_raises_what_may_be_spent(database: Database, blobs: Blobs) -> None:
    rows = Content.of_texts(b'["one","two"]')
    colleague = Principal("user-b", OWNER.tenant_id, frozenset())
    with database.write() as session:
        datasets = Datasets(session, blobs)
        first = datasets.register(OWNER, DatasetSpec("rows", rows, epsilon_cap=2.0))
        with pytest.raises(PrivacyRefused):
            datasets.register(colleague, DatasetSpec("mine", rows, epsilon_cap=900.0))
        theirs = datasets.register(colleague, DatasetSpec("mine", rows))
        assert (theirs.population, theirs.epsilon_cap, first.epsilon_cap) == (first.population, 2.0, 2.0)
        assert datasets.register(OWNER, DatasetSpec("rows", rows, epsilon_cap=3.0)).epsilon_cap == 3.0
