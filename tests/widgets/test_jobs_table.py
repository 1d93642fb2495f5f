from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tg_widgets import JobsTable

from tests.widgets.conftest import Wire, wait_for
from tests.workbench_server import WorkbenchServer
from tg_workbench import InvalidRequest, Workbench
from tg_workbench.sdk import Dataset, Job


@pytest.fixture
def table(wire: Wire, workbench: Workbench) -> Iterator[JobsTable]:
    """A table on a page."""
    table = JobsTable(workbench)
    wire.say(table, {"action": "ready"})
    wait_for(lambda: table.shown["connection"] == "connected")
    yield table
    table.close()


@pytest.fixture
def endless(workbench: Workbench, town: Dataset) -> Iterator[Job]:
    """A job that goes on until it is stopped."""
    job = workbench.jobs.submit("logistic", town, name="endless", epochs=10_000, batch_size=10)
    yield job
    job.stop()


def row(table: JobsTable, job: Job) -> dict[str, Any]:
    return next((row for row in table.rows if row["id"] == job.id), {"status": "not there"})


def test_a_table_opens_without_a_workbench_and_says_how_to_get_one(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("TG_")]:
        monkeypatch.delenv(name)
    table = JobsTable()
    assert table.shown["connection"] == "looking"
    wire.say(table, {"action": "ready"})
    wait_for(lambda: table.shown["connection"] == "unreachable")
    assert "make lab" in table.shown["problem"]
    table.close()


def test_making_a_table_starts_nothing_and_a_limit_is_a_limit(wire: Wire, workbench: Workbench) -> None:
    before = set(threading.enumerate())
    JobsTable(workbench, limit=5).close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(InvalidRequest, match="from 1 to 100"):
        JobsTable(workbench, limit=1000)


def test_chosen_jobs_are_shown_in_the_order_they_were_chosen(
    wire: Wire, workbench: Workbench, town: Dataset
) -> None:
    first, second, _other = (
        workbench.jobs.submit("logistic", town, name=name, epochs=1, batch_size=50).wait(progress=False)
        for name in ("first", "second", "other")
    )
    unknown = "job-00000000-0000-4000-8000-000000000000"
    table = JobsTable(workbench, jobs=[second, first.id, unknown, second])
    wire.say(table, {"action": "ready"})
    wait_for(lambda: bool(table.rows))
    assert [row["id"] for row in table.rows] == [second.id, first.id]
    table.status = "failed"
    wait_for(lambda: not table.rows)
    table.close()
    with pytest.raises(InvalidRequest, match="as many are shown"):
        JobsTable(workbench, jobs=[unknown] * 101)


def test_the_newest_job_comes_first_with_its_curves_and_its_cost(
    table: JobsTable, open_job: Job, private_job: Job
) -> None:
    table._watch.look_now()
    wait_for(lambda: row(table, private_job)["status"] == "completed")
    ids = [each["id"] for each in table.rows]
    newest_first = sorted((private_job, open_job), key=lambda job: str(job.view.created_at), reverse=True)
    assert [each for each in ids if each in (private_job.id, open_job.id)] == [job.id for job in newest_first]
    private, public = row(table, private_job), row(table, open_job)
    assert (public["dataset"], public["epoch"], public["epochs"]) == ("a town", 30, 30)
    assert public["epsilon"] == {"kind": "none"}
    assert private["epsilon"]["target"] == "3"
    assert (private["note"], public["note"]) == ("not covered by ε", "")
    table.status = "failed"
    wait_for(lambda: private_job.id not in [each["id"] for each in table.rows])


def test_a_job_is_followed_read_stopped_and_restarted(wire: Wire, table: JobsTable, endless: Job) -> None:
    wait_for(lambda: row(table, endless)["status"] == "running" and row(table, endless)["epoch"] > 0)
    wire.say(table, {"action": "log", "values": {"id": endless.id}})
    wait_for(lambda: any("Epoch" in line["text"] for line in table.log.get("lines", ())))
    wire.say(table, {"action": "close_log"})
    wait_for(lambda: table.log == {})
    wire.say(table, {"action": "stop", "values": {"id": endless.id}})
    wait_for(lambda: row(table, endless)["status"] == "cancelled")
    wire.say(table, {"action": "stop", "values": {"id": endless.id}})
    wire.say(table, {"action": "restart", "values": {"id": endless.id}})
    wait_for(lambda: row(table, endless)["status"] in ("queued", "running"))
    assert endless.refresh().attempt == 2
    assert table.shown["error"] == ""


def test_two_that_read_a_log_at_once_show_no_line_twice(
    wire: Wire, workbench: Workbench, open_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = JobsTable(workbench)
    both_have_read = threading.Barrier(2, timeout=30)
    read = Job.logs

    def logs(job: Job, **asked: Any) -> Iterator[Any]:
        lines = list(read(job, **asked))
        both_have_read.wait()
        return iter(lines)

    monkeypatch.setattr(Job, "logs", logs)
    table._open(open_job.id)
    connection = table._reached()
    readers = [threading.Thread(target=table._read_log, args=(connection,)) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    expected = [line.message for line in read(open_job, follow=False)]
    assert [line["text"] for line in table.log["lines"]] == expected
    table.close()


def test_a_published_table_sends_nothing_that_epsilon_does_not_cover_and_takes_no_orders(
    wire: Wire, workbench: Workbench, private_job: Job, endless: Job
) -> None:
    table = JobsTable(workbench, published=True)
    wire.say(table, {"action": "ready"})
    wait_for(lambda: row(table, private_job)["status"] == "completed")
    assert [curve["name"] for curve in row(table, private_job)["curves"]] == ["noisy_loss"]
    for action in ("log", "stop"):
        wire.say(table, {"action": action, "values": {"id": endless.id}})
    wait_for(lambda: row(table, endless)["status"] == "running")
    history = private_job.history
    raw = [repr(value) for name in ("loss", "val_loss") for value in history[name] if value is not None]
    said = wire.told(table)
    assert raw
    assert not [value for value in raw if value in said]
    assert "accuracy" not in repr(row(table, private_job))
    assert "Epoch" not in said
    assert table.log == {}
    table.close()


def test_a_table_says_that_its_workbench_is_gone_and_looks_again(wire: Wire) -> None:
    server = WorkbenchServer()
    with Workbench(socket=str(server.socket), api_key=server.api_key) as workbench:
        table = JobsTable(workbench)
        wire.say(table, {"action": "ready"})
        wait_for(lambda: table.shown["connection"] == "connected")
        server.stop()
        wire.say(table, {"action": "retry"})
        wait_for(lambda: table.shown["connection"] == "unreachable")
        assert "starts it" in table.shown["problem"]
        table.close()


def test_a_table_that_is_shown_nowhere_asks_nothing(wire: Wire, workbench: Workbench) -> None:
    before = threading.active_count()
    table = JobsTable(workbench)
    wire.say(table, {"action": "ready"})
    wait_for(lambda: table.shown["connection"] == "connected")
    wire.say(table, {"action": "gone"})
    wait_for(lambda: threading.active_count() <= before)
    table.close()
