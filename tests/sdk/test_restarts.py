"""`kill -9` of the API, with somebody who starts it again: no request of the SDK fails."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.sdk.conftest import NewClient, Rows
from tests.workbench_server import WorkbenchServer
from tg_workbench import CallFailed, JobNotRestartable, Workbench
from tg_workbench.sdk import Dataset, Event
from tg_workbench.sdk.address import Address
from tg_workbench.sdk.connection import Body, Connection

KERNEL = """
import os, sys
from tg_workbench import Workbench
client = Workbench().create_training_client("mlp", dataset=sys.argv[1])
client.train(steps=1_000_000, progress=False)
print(client.id, flush=True)
os._exit(1)
"""


@contextmanager
def being_killed(server: WorkbenchServer, times: int = 2) -> Iterator[None]:
    """Kill the API again and again while the block runs, and start it each time, as a supervisor does."""
    over = threading.Event()

    def supervise() -> None:
        for _ in range(times):
            if not over.wait(0.5):
                server.kill()
                server.start()

    supervisor = threading.Thread(target=supervise)
    supervisor.start()
    try:
        yield
        supervisor.join()
    finally:
        over.set()
        supervisor.join()


def test_no_request_fails_and_none_is_done_twice(
    workbench_server: WorkbenchServer, new_client: NewClient, rows: Rows
) -> None:
    client = new_client()
    client.forward_backward(**rows)
    client.optim_step().result(timeout=240)
    taken = 1
    with being_killed(workbench_server):
        until = time.monotonic() + 4.0
        while time.monotonic() < until:
            client.forward_backward(**rows)
            assert client.optim_step().result().step == taken + 1
            taken += 1
    assert client.step == taken


def test_every_kind_of_request_outlives_the_api(
    workbench_server: WorkbenchServer, workbench: Workbench, new_client: NewClient, rows: Rows
) -> None:
    client = new_client()
    client.wait_blocking(timeout=240)
    requests: list[Callable[[], object]] = [
        lambda: client.evaluate(**rows),
        lambda: client.predict(rows["features"][:3]),
        client.save_state,
        client.refresh,
        workbench.training_clients.list,
        lambda: workbench.datasets.delete(workbench.datasets.upload("short-lived", **rows)),
    ]
    with ThreadPoolExecutor(len(requests)) as threads, being_killed(workbench_server):
        loops = [threads.submit(_repeat, request, seconds=3.0) for request in requests]
        assert all(loop.result(timeout=240) > 0 for loop in loops)


def _repeat(request: Callable[[], object], *, seconds: float) -> int:
    until, times = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        request()
        times += 1
    return times


def test_a_feed_loses_no_event_and_repeats_none(
    workbench_server: WorkbenchServer, new_client: NewClient, rows: Rows
) -> None:
    client = new_client()
    told: list[Event] = []
    feed = client.on_event(told.append)
    with being_killed(workbench_server):
        futures = [(client.forward_backward(**rows), client.optim_step())[1] for _ in range(30)]
        assert [future.result(timeout=240).step for future in futures] == list(range(1, 31))
    client.terminate()
    feed._thread.join(30)
    ids = [event.id for event in told]
    assert ids == sorted(set(ids))
    assert ids == [event.id for event in client.history(limit=1000)]
    steps = [step for event in told if event.type == "progress" for step in event.data["points"]["step"]]
    assert steps == list(range(1, 31))


def test_a_run_outlives_its_kernel_and_is_attached_to(
    workbench_server: WorkbenchServer, workbench: Workbench, public_dataset: Dataset
) -> None:
    kernel = subprocess.run(
        [sys.executable, "-c", KERNEL, public_dataset.id],
        env={**os.environ, **workbench_server.environment},
        capture_output=True,
        text=True,
    )
    client = workbench.attach(kernel.stdout.strip())
    with client.events() as events:
        moved = next(event for event in events if event.type == "progress" and event.data["done_steps"] > 1)
    assert client.status == "busy"
    client.stop()
    assert client.wait_blocking(timeout=120).step >= moved.data["step"]
    client.terminate()


def test_the_api_removes_what_no_job_goes_on_from_any_more(rows: Rows) -> None:
    server = WorkbenchServer(TG_RESTART_DAYS="2")
    try:
        with Workbench(socket=str(server.socket), api_key=server.api_key) as workbench:
            points = workbench.datasets.upload("points", **rows, privacy="public")
            job = workbench.jobs.submit("mlp", points, epochs=10_000)
            while job.progress.step < 10:
                time.sleep(0.05)
            job.stop()
            assert stored(server) == 1
            server.kill()
            three_days = 3 * 86_400
            with sqlite3.connect(server.home / "tgsp.db") as database:
                database.execute("UPDATE jobs SET ended_at = ended_at - ?", (three_days,))
            server.start()
            deadline = time.monotonic() + 30
            while stored(server):
                assert time.monotonic() < deadline, "the checkpoint is still there"
                time.sleep(0.1)
            with pytest.raises(JobNotRestartable, match="cancelled more than 2 days ago"):
                job.restart()
    finally:
        server.stop()


def stored(server: WorkbenchServer) -> int:
    """How many checkpoints are in the database."""
    with sqlite3.connect(server.home / "tgsp.db", timeout=10) as database:
        return int(database.execute("SELECT count(*) FROM artifacts").fetchone()[0])


@contextmanager
def suspended(server: WorkbenchServer) -> Iterator[None]:
    """The API takes what comes, and says nothing while the block runs."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_what_a_suspended_workbench_was_asked_often_is_done_once(
    workbench_server: WorkbenchServer, workbench: Workbench, public_dataset: Dataset
) -> None:
    asked = Body.of_json({"dataset_id": public_dataset.id, "model_type": "linear", "name": "asked often"})
    address = Address.find(None, workbench_server.api_key, socket=str(workbench_server.socket))
    impatient = Connection(address, patience=1.5)
    with suspended(workbench_server), pytest.raises(CallFailed, match=r"gives no answer.*before you ask"):
        impatient.post("/workbench/v1/jobs", asked, answer_seconds=0.5)
    impatient.close()
    deadline = time.monotonic() + 30
    while not (made := [job for job in workbench.jobs.list() if job.name == "asked often"]):
        assert time.monotonic() < deadline, "it was not done"
        time.sleep(0.1)
    made[0].wait(timeout=60, progress=False)
    assert len([job for job in workbench.jobs.list() if job.name == "asked often"]) == 1
