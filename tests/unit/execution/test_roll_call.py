"""A worker whose dispatcher is gone notices it, and not because a clock was set."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from tg_workbench.execution import RollCall
from tg_workbench.execution.roll_call import ORPHAN_SECONDS, ROLL_CALL_SECONDS
from tg_workbench.execution.tables import DispatcherLease
from tg_workbench.storage import Database


def test_whoever_has_seen_no_dispatcher_for_long_is_orphaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    database.migrate()
    call = RollCall(database)

    def later(seconds: float) -> bool:
        nonlocal clock
        clock += seconds
        return call.is_orphaned()

    assert not later(ORPHAN_SECONDS * 2), "there never was one"
    with database.write() as session:
        session.add(DispatcherLease(holder="one", until=5.0))
    assert not later(ROLL_CALL_SECONDS)
    assert not later(ORPHAN_SECONDS - 1)
    with database.write() as session:
        session.connection().execute(sa.update(DispatcherLease).values(until=6.0))
    assert not later(ROLL_CALL_SECONDS)
    assert not later(ORPHAN_SECONDS - 1)
    assert later(ROLL_CALL_SECONDS)
    database.close()
