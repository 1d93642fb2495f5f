"""What the catalogue keeps of a file, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect

from tg_workbench.datasets import Content, Datasets, DatasetSpec, FileSpec
from tg_workbench.errors import PrivacyRefused
from tg_workbench.identity import Principal
from tg_workbench.storage import Blobs, Database
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
