"""A database of one's own, with every table and no row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import Session

from tg_workbench.storage import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty one."""
    opened = Database(f"sqlite:///{tmp_path}/here.db")
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """One transaction, as long as the test."""
    with database.write() as opened:
        yield opened
