"""`kill -9` of what a panel depends on, while somebody looks at it."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing

from tests.browser.conftest import NewClient
from tests.browser.panel import Panel
from tests.browser.test_voila import DASHBOARD
from tests.widgets.lab import Lab, Visit


def worker(lab: Lab, client_id: str) -> int:
    """The process that trains a client."""
    database = lab.api().environ()["DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT pid FROM work WHERE id = ?", [client_id]).fetchone()[0])


def test_a_killed_worker_is_told_of_and_the_run_goes_on(
    visit: Visit, lab: Lab, new_client: NewClient
) -> None:
    client = new_client()
    client.train(steps=20_000, progress=False)
    visit.open(lab.url(DASHBOARD))
    panel = Panel(visit)
    panel.reaches(50)
    os.kill(worker(lab, client.id), signal.SIGKILL)
    told = panel.says("The worker was lost")
    assert "SIGKILL" in told
    assert "Went on from step" in told
    panel.reaches(client.refresh().step + 50)
    panel.shows("Training")
    assert panel.stops_within_a_second()


def test_a_killed_api_is_hardly_noticed(visit: Visit, lab: Lab, new_client: NewClient) -> None:
    client = new_client()
    client.train(steps=20_000, progress=False)
    visit.open(lab.url(DASHBOARD))
    panel = Panel(visit)
    panel.reaches(50)
    lab.api().kill()
    panel.reaches(client.refresh().step + 50)
    panel.shows("Training")
    assert panel.message == ""
    assert panel.stops_within_a_second()
