"""Whatever is killed while a hundred jobs run: none is lost, none ends twice, none is stuck."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import sqlalchemy as sa
from sqlmodel import col, select

from tests.claims.one_job import two_classes
from tests.workers.conftest import Workshop
from tg_workbench.datasets import Dataset
from tg_workbench.events import EventRow
from tg_workbench.execution import Work
from tg_workbench.execution.work import LEASE_SECONDS
from tg_workbench.models import Model
from tg_workbench.training import Job, JobStatus

SUBMIT = Path(__file__).parent / "resources" / "submit_jobs.py"
JOBS = 100
USERS = 20
KILLS = {"worker": 30, "submitter": 5, "dispatcher": 3}
BETWEEN_SECONDS = (0.1, 0.6)
OVER = ("completed", "failed", "cancelled")


class Wreckage:
    """A workshop, whoever hands jobs in, and the one that kills them."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        self.random = random.Random(20261126)  # noqa: S311 - no secret hangs on it
        self.killed: Counter[str] = Counter()
        self.datasets = {f"user_{number:02d}": self._dataset(number) for number in range(USERS)}
        self.submitter = self._submit()

    def _dataset(self, number: int) -> str:
        dataset = self.shop.dataset(*two_classes(120, seed=number), privacy="public")
        mine = sa.update(Dataset).where(col(Dataset.id) == dataset.id)
        with self.shop.database.write() as session:
            session.connection().execute(mine.values(owner_id=f"user_{number:02d}"))
        return dataset.id

    def _submit(self) -> subprocess.Popen[bytes]:
        arguments = [str(self.shop.settings.home), json.dumps(self.datasets), str(JOBS)]
        return subprocess.Popen([sys.executable, str(SUBMIT), *arguments], env=self.shop.environment)

    def jobs(self) -> list[Job]:
        with self.shop.database.read() as session:
            return list(session.exec(select(Job)))

    def kill_one(self) -> None:
        """Kill one of those that have been killed least, if there is one to kill."""
        left = [kind for kind, most in KILLS.items() if self.killed[kind] < most]
        if left:
            kind = self.random.choice(left)
            self.killed[kind] += getattr(self, f"_kill_{kind}")()

    def _kill_worker(self) -> int:
        with self.shop.database.read() as session:
            pids = list(session.exec(select(Work.pid).where(col(Work.pid).is_not(None), Work.kind == "job")))
        with contextlib.suppress(IndexError, ProcessLookupError):
            os.kill(self.random.choice(pids) or 0, signal.SIGKILL)
            return 1
        return 0

    def _kill_submitter(self) -> int:
        if self.submitter.poll() is not None:
            return 0
        self.submitter.kill()
        self.submitter.wait()
        self.submitter = self._submit()
        return 1

    def _kill_dispatcher(self) -> int:
        self.shop.kill_dispatcher()
        self.shop.open()
        return 1


def test_a_hundred_jobs_survive_whatever_is_killed(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, TG_MAX_JOBS="4")
    shop.open()
    wreckage = Wreckage(shop)
    began = moved = time.monotonic()
    seen = 0
    try:
        while seen < JOBS:
            time.sleep(wreckage.random.uniform(*BETWEEN_SECONDS))
            wreckage.kill_one()
            over = sum(job.status in OVER for job in wreckage.jobs())
            moved = time.monotonic() if over > seen else moved
            seen = over
            assert time.monotonic() - moved < LEASE_SECONDS + 10.0, "a job is stuck"
        assert wreckage.submitter.wait(timeout=30) == 0
    finally:
        wreckage.submitter.kill()
        shop.close()
    jobs = wreckage.jobs()
    counts = Counter(job.status for job in jobs)
    killed = ", ".join(f"{count} {kind}s" for kind, count in wreckage.killed.items())
    print(f"\n{len(jobs)} jobs, {killed} killed in {time.monotonic() - began:.0f} s: {dict(counts)}")  # noqa: T201
    assert sorted(job.name for job in jobs) == sorted(f"job {number}" for number in range(JOBS))
    assert counts[JobStatus.COMPLETED] + counts[JobStatus.FAILED] == JOBS
    assert {job.reason for job in jobs if job.status == JobStatus.FAILED} <= {"lost"}
    with shop.database.read() as session:
        ends = session.exec(
            select(EventRow).where(col(EventRow.subject).like("job-%"), EventRow.type == "status")
        )
        terminal = Counter(row.subject for row in ends if json.loads(row.data)["status"] in OVER)
        models = Counter(session.exec(select(Model.job_id)))
    assert terminal == {job.id: 1 for job in jobs}
    assert models == {job.id: 1 for job in jobs if job.status == JobStatus.COMPLETED}
    assert all(len(job.history["loss"]) == 3 for job in jobs if job.status == JobStatus.COMPLETED)
