"""The home of a workbench: which database's files it holds.

Files of datasets lie in it under the names of their contents, and what was spent on them is written in one
database. A second one over the same files would have a ledger of its own for the same rows, and would take
files away that the first still needs. So a home has one, and says which.
"""

from __future__ import annotations

import os
from pathlib import Path

from tg_workbench.errors import InvalidSetting

MARK = "database"
LONGEST_PATH = 4096
ALL_BUT_OWNER = 0o077
"""The umask of every process that writes in a home: its user alone can read what is there."""


def database_of(home: Path) -> Path | None:
    """The database that a home belongs to, be it there or not; None where it says none."""
    try:
        with (home / MARK).open(encoding="utf-8") as mark:
            told = mark.read(LONGEST_PATH)
    except (OSError, ValueError):
        return None
    path = Path(told.rstrip("\n"))
    return path if told.endswith("\n") and "\0" not in told and path.is_absolute() else None


def belong(home: Path, database: Path) -> None:
    """Write down whose a home is. Raises InvalidSetting where another database, which is there, has it."""
    known, mine = database_of(home), database.resolve()
    if known is not None and os.path.lexists(known) and known.resolve() != mine:
        raise InvalidSetting(
            "DATABASE_URL",
            f"sqlite:///{database}",
            f"sqlite:///{known}, whose files and ledger TG_HOME={home} belongs to. For another database set "
            "another TG_HOME",
        )
    if known != mine:
        _write(home / MARK, f"{mine}\n")


def _write(path: Path, text: str) -> None:
    """All of it or nothing."""
    made = path.with_name(f"{path.name}.{os.getpid()}")
    made.write_text(text, encoding="utf-8")
    made.replace(path)
