"""Writes of a running workbench that do not end, so that whoever is about one can be killed in the middle."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def held(database: Path, write: str) -> Iterator[None]:
    """A block in which whoever begins this kind of write, say `INSERT ON artifacts`, never comes to its end.

    It keeps the lock that writers take for as long as it lives: kill it before the block ends.
    """
    # A join of so many rows takes days, and a trigger may not say WITH RECURSIVE.
    endless = ", ".join(f"sqlite_master AS m{number}" for number in range(9))
    never = f"SELECT count(*) FROM {endless}"  # noqa: S608  (names of this module's own)
    _run(database, f"CREATE TRIGGER held BEFORE {write} BEGIN {never}; END")
    try:
        yield
    finally:
        _run(database, "DROP TRIGGER held")


def _run(database: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection:
        connection.execute(statement)
        connection.commit()
