"""Whatever is killed while a hundred jobs run: none is lost, none ends twice, none is stuck.

Ten users hand them in and follow them over HTTP, each job under its own Idempotency-Key, and ask again for
whatever was not answered. Meanwhile workers, dispatchers and the API are killed at random moments.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest
import safetensors.numpy
from sqlmodel import col, select

from tests.claims.one_job import two_classes
from tests.contracts.people import People, Person
from tests.workbench_server import WorkbenchServer
from tg_workbench.execution import Work
from tg_workbench.execution.work import LEASE_SECONDS
from tg_workbench.models import Model
from tg_workbench.storage import Database

JOBS, USERS = 100, 10
KILLS = {"worker": 30, "dispatcher": 3, "API": 3}
STUCK_SECONDS = LEASE_SECONDS + 10.0
LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 540.0
"""It takes one or two minutes where nobody else is at work."""
OVER = ("completed", "failed", "cancelled")
LEARNING = {"epochs": 3, "batch_size": 40}
Facts = dict[str, Any]


class Customer:
    """A user who hands in ten jobs and follows them to their end."""

    def __init__(self, person: Person, numbers: range) -> None:
        self.http = person.http
        self.numbers = numbers
        self.ids: dict[int, str] = {}
        self.jobs: dict[str, Facts] = {}
        self.again = 0
        self.longest_still = 0.0
        self._changed: dict[str, float] = {}
        self._dataset_id = ""

    def upload(self) -> None:
        """Some rows of one's own."""
        features, targets = two_classes(120, seed=self.numbers.start)
        content = safetensors.numpy.save({"features": features, "targets": targets})
        headers = {"Content-Type": "application/vnd.safetensors"}
        asked = {"name": "rows", "privacy": "public"}
        answer = self.http.post("/workbench/v1/datasets", params=asked, content=content, headers=headers)
        self._dataset_id = answer.raise_for_status().json()["dataset_id"]

    def go(self) -> None:
        """Everything a user does; each job is handed in again after its end, which changes nothing."""
        waiting = list(self.numbers)
        while waiting or any(job["status"] not in OVER for job in self.jobs.values()):
            while waiting and (job := self._submitted(waiting[0])):
                self.ids[waiting.pop(0)] = job["id"]
            self._look()
            time.sleep(LOOK_SECONDS)
        for number in self.numbers:
            job = self._submitted(number)
            assert job is not None
            assert job["id"] == self.ids[number]

    def histories(self) -> Iterator[tuple[str, list[Facts]]]:
        """What is told of each job."""
        for job_id in self.ids.values():
            path = f"/workbench/v1/jobs/{job_id}/history"
            yield job_id, self._asked("GET", path, params={"limit": 500}).json()["events"]

    def _submitted(self, number: int) -> Facts | None:
        """The job; None while five of this user's wait or run."""
        body = {"dataset_id": self._dataset_id, "model_type": "mlp", "name": f"job {number}"}
        answer = self._asked(
            "POST",
            "/workbench/v1/jobs",
            json={**body, "learning": LEARNING},
            headers={"Idempotency-Key": f"job-{number}"},
        )
        if answer.status_code == 429:
            return None
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def _look(self) -> None:
        """See where each job stands; one that runs must not stand still."""
        moment = time.monotonic()
        for job in self._asked("GET", "/workbench/v1/jobs", params={"limit": 50}).json()["jobs"]:
            before = self.jobs.get(job["id"])
            has_moved = before is None or any(before[name] != job[name] for name in ("status", "progress"))
            if has_moved or job["status"] != "running":
                self._changed[job["id"]] = moment
            self.jobs[job["id"]] = job
            still = moment - self._changed[job["id"]]
            self.longest_still = max(self.longest_still, still)
            assert still < STUCK_SECONDS, f"{job['name']} is stuck"

    def _asked(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The answer, however often one has to ask: whoever was to answer may have been killed."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = self.http.request(method, path, **more)
                if answer.status_code != 503:
                    return answer
            self.again += 1
            time.sleep(0.1)


class Killer:
    """Kills what is to be killed, each at a moment that was drawn: when so many jobs are over."""

    def __init__(self, server: WorkbenchServer, customers: list[Customer]) -> None:
        self.server = server
        self.customers = customers
        self.random = random.Random(20261126)  # noqa: S311 - no secret hangs on it
        drawn = [
            (self.random.randrange(JOBS - 5), kind) for kind, count in KILLS.items() for _ in range(count)
        ]
        self.plan = sorted(drawn)
        self.killed: Counter[str] = Counter()
        self.database = Database(server.database_url)

    @property
    def over(self) -> int:
        """How many jobs their users saw end."""
        return sum(job["status"] in OVER for each in self.customers for job in list(each.jobs.values()))

    def go(self, is_done: threading.Event) -> None:
        """Kill until the plan is carried out, or everything is over."""
        while self.plan and not is_done.wait(self.random.uniform(0.02, 0.3)):
            after, kind = self.plan[0]
            if self.over >= after and getattr(self, f"_kill_{kind.lower()}")():
                self.plan.pop(0)
                self.killed[kind] += 1

    def _kill_worker(self) -> bool:
        with self.database.read() as session:
            pids = list(session.exec(select(Work.pid).where(col(Work.pid).is_not(None), Work.kind == "job")))
        return bool(pids) and _killed(self.random.choice(pids) or 0)

    def _kill_dispatcher(self) -> bool:
        for process in psutil.Process(self.server.pid).children():
            if process.cmdline()[-1:] == ["dispatch"]:
                return _killed(process.pid)
        return False

    def _kill_api(self) -> bool:
        self.server.kill()
        self.server.restart()
        return True


def _killed(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


@pytest.fixture
def server() -> Iterator[WorkbenchServer]:
    server = WorkbenchServer(TG_MAX_JOBS="4", OMP_NUM_THREADS="1")
    yield server
    server.stop()


@pytest.mark.timeout(600)
def test_a_hundred_jobs_survive_whatever_is_killed(
    server: WorkbenchServer, record_property: Callable[[str, object], None]
) -> None:
    people = People(server)
    each = JOBS // USERS
    customers = [Customer(people.register(), range(n * each, (n + 1) * each)) for n in range(USERS)]
    for customer in customers:
        customer.upload()
    killer, is_done = Killer(server, customers), threading.Event()
    began = time.monotonic()
    with ThreadPoolExecutor(USERS + 1) as threads:
        killing = threads.submit(killer.go, is_done)
        going = [threads.submit(customer.go) for customer in customers]
        try:
            for one in going:
                one.result(timeout=PATIENCE_SECONDS)
        finally:
            is_done.set()
            killing.result()
    took = time.monotonic() - began

    jobs = [job for customer in customers for job in customer.jobs.values()]
    counts = Counter(job["status"] for job in jobs)
    killed = ", ".join(f"{count} × {kind}" for kind, count in sorted(killer.killed.items()))
    asked_again = sum(customer.again for customer in customers)
    still = max(customer.longest_still for customer in customers)
    record_property(
        "told",
        f"{len(jobs)} jobs in {took:.0f} s, killed: {killed}; {asked_again} requests were sent again; "
        f"the longest that one stood still: {still:.1f} s; {dict(counts)}",
    )
    assert killer.killed == KILLS
    assert sorted(job["name"] for job in jobs) == sorted(f"job {number}" for number in range(JOBS))
    assert counts["completed"] + counts["failed"] == JOBS
    assert {job["reason"] for job in jobs if job["status"] == "failed"} <= {"lost"}
    ends = Counter(
        job_id
        for customer in customers
        for job_id, events in customer.histories()
        for event in events
        if event["type"] == "status" and event["data"]["status"] in OVER
    )
    with killer.database.read() as session:
        models = Counter(session.exec(select(Model.job_id)))
    people.close()
    assert ends == {job["id"]: 1 for job in jobs}
    assert models == {job["id"]: 1 for job in jobs if job["status"] == "completed"}
