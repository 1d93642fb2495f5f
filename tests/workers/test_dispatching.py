"""The dispatcher under clocks that jump, workers that hang or cannot begin, and a dispatcher before it."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlmodel import col

from tests.workers import conftest
from tests.workers.conftest import Workshop, opened
from tests.workers.test_recovery import SMALL, Rows, own_rows
from tg_workbench.execution import Watched, Work
from tg_workbench.execution.bells import bell_name
from tg_workbench.execution.tables import DispatcherLease
from tg_workbench.execution.work import LifeLock
from tg_workbench.training import ClientSpec

PLAIN = ClientSpec("mlp", architecture=SMALL)


def test_a_clock_that_jumps_ahead_ends_no_worker(tmp_path: Path) -> None:
    with opened(tmp_path) as shop:
        client = shop.create(PLAIN)
        pid = shop.worker(client)
        with shop.database.write() as session:
            session.connection().execute(sa.update(Work).values(lease_until=1.0))
        time.sleep(1.0)  # four looks of the dispatcher
        assert shop.worker(client) == pid
        assert LifeLock(shop.folder, client).is_held()


def test_a_clock_that_jumps_back_does_not_keep_a_dead_dispatcher_in_office(
    tmp_path: Path, two_moons: Rows
) -> None:
    with opened(tmp_path) as shop:
        client = shop.create(PLAIN)
        shop.kill_dispatcher()
        with shop.database.write() as session:
            session.connection().execute(sa.update(DispatcherLease).values(until=time.time() + 3600))
        shop.kill_worker(client)
        shop.open()
        assert shop.do(client, "evaluate", own_rows(two_moons))["num_examples"] == 16


def test_workers_of_an_earlier_dispatcher_count(tmp_path: Path) -> None:
    with opened(tmp_path, TG_MAX_WORKERS="1") as shop:
        first = shop.create(PLAIN)
        shop.kill_dispatcher()
        shop.open()
        second = shop.create(PLAIN, ready=False)

        def is_ready() -> bool:
            locks = [LifeLock(shop.folder, client).is_held() for client in (first, second)]
            assert locks != [True, True]
            return shop.client(second).status == "ready"

        shop.until(is_ready)
        assert not LifeLock(shop.folder, first).is_held()


@pytest.mark.parametrize("holding", [False, True], ids=["at rest", "holding the database"])
def test_a_worker_that_hangs_is_replaced(
    tmp_path: Path, two_moons: Rows, monkeypatch: pytest.MonkeyPatch, holding: bool
) -> None:
    shorter = "import tg_workbench.execution.dispatcher as d; d.LEASE_SECONDS = 8.0\n"
    monkeypatch.setattr(conftest, "DISPATCH", shorter + conftest.DISPATCH)
    with opened(tmp_path) as shop:
        client = shop.create(PLAIN)
        pid = shop.worker(client)
        assert pid is not None
        if holding:
            for _ in range(300):
                shop.submit(client, "evaluate", own_rows(two_moons))
            stop_inside_a_write(shop, pid)
        else:
            time.sleep(1.0)  # what is committed can be seen a moment before the lock is let go
            os.kill(pid, signal.SIGSTOP)
        # Nobody's own patience with the lock may run out before the dispatcher's with the worker.
        assert shop.do(client, "evaluate", own_rows(two_moons))["num_examples"] == 16
        assert shop.worker(client) != pid


def stop_inside_a_write(shop: Workshop, pid: int) -> None:
    """Stop a busy worker while it holds the lock that writers take: try until it was met holding it."""
    probe = sqlite3.connect(shop.database.path, timeout=0.0, isolation_level=None)

    def is_locked() -> bool:
        try:
            probe.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        probe.execute("ROLLBACK")
        return False

    with contextlib.closing(probe):
        for _ in range(1000):
            os.kill(pid, signal.SIGSTOP)
            if is_locked():
                time.sleep(0.1)  # somebody who runs would let go meanwhile
                if is_locked():
                    return
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.003)
    pytest.fail("the worker was never met inside a write")


def test_a_worker_that_cannot_begin_is_started_ever_more_slowly_and_nothing_is_lost(
    tmp_path: Path, two_moons: Rows
) -> None:
    with opened(tmp_path) as shop:
        client = shop.create(PLAIN, ready=False)
        (shop.folder / bell_name(client)).mkdir()
        waiting = shop.submit(client, "evaluate", own_rows(two_moons))

        def starts() -> int:
            with shop.database.read() as session:
                return int(session.connection().execute(sa.select(col(Work.epoch))).scalar_one())

        shop.until(lambda: starts() == 3)
        assert shop.until(lambda: starts() == 4) > 1.0
        (shop.folder / bell_name(client)).rmdir()
        assert shop.ended(waiting).status == "completed"


def test_keys_that_cannot_be_read_end_the_client_with_the_reason(tmp_path: Path, two_moons: Rows) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    (tmp_path / "keys" / "key-encryption-keys.json").write_text("{}")
    with opened(tmp_path) as shop:
        client = shop.create(PLAIN)
        assert shop.client(client).status == "error"
        assert "put your copy of it back" in (shop.client(client).reason or "")


def test_a_value_is_watched_by_our_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: moment)
    watched = Watched()
    assert watched.seconds("lease", 1) == 0.0
    moment = 107.0
    assert watched.seconds("lease", 1) == 7.0
    assert watched.seconds("lease", 2) == 0.0
    watched.keep(set())
    moment = 110.0
    assert watched.seconds("lease", 2) == 0.0
