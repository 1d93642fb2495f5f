"""Your jobs, the newest first, as they go on: how far, how well, and what they have spent.

One list is asked for every two seconds while something goes on, and less often when nothing does; details of
a job only when the list shows that it has changed.

Pitfalls: loss and accuracy of protected data are not covered by ε. They are for the data's curator; on a page
for others use `published=True`, which never sends them, nor logs or reasons, and offers no buttons.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

import traitlets

from tg_widgets import assets
from tg_widgets.job_rows import STOPPABLE, SeenJob, actions_of, row_of
from tg_widgets.live_card import LiveCard
from tg_workbench.errors import CallFailed, InvalidRequest, JobNotFound, WorkbenchError
from tg_workbench.sdk import Dataset, Job, Workbench
from tg_workbench.sdk.catalogue import Datasets
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.jobs import Jobs
from tg_workbench.sdk.values import PrivacyView

SECONDS_WHILE_ACTIVE, SECONDS_WHILE_QUIET = 2.0, 8.0
MOST_JOBS = 100
MOST_LINES = 200
"""Of a log the last lines are shown."""
STATUSES = ("", "queued", "running", "completed", "failed", "cancelled")
ACTIVE = (*STOPPABLE, "stopping")


class JobsTable(LiveCard):
    """Shows the newest `limit` jobs, or the `jobs` that are given, whole or by their ids, in their order.

    `status` (settable) shows only those that stand there.

    `workbench` None: the one this notebook runs on. `published` is for dashboards: no buttons, and nothing
    that ε does not cover.
    """

    _esm = assets.script("jobs_table")
    _css = assets.style("live_card.css", "jobs_table.css")

    status = traitlets.Enum(STATUSES, default_value="").tag(sync=True)
    log = traitlets.Dict().tag(sync=True)
    """The log that is open: `id`, and its last `lines`; empty when none is."""

    def __init__(
        self,
        workbench: Workbench | None = None,
        *,
        jobs: Sequence[Job | str] | None = None,
        published: bool = False,
        limit: int = 20,
    ) -> None:
        if not 1 <= limit <= MOST_JOBS or len(jobs or ()) > MOST_JOBS:
            raise InvalidRequest(f"limit must be from 1 to {MOST_JOBS}, and of jobs as many are shown")
        ids = [job if isinstance(job, str) else job.id for job in jobs or ()]
        self._chosen = None if jobs is None else tuple(dict.fromkeys(ids))
        self.published = published
        self.limit = limit
        self._seen: dict[str, SeenJob] = {}
        self._rows: list[dict[str, Any]] = []
        self._datasets: dict[str, Dataset | None] = {}
        self._log_id = ""
        self._log_at = 0
        self._lines: deque[dict[str, str]] = deque(maxlen=MOST_LINES)
        super().__init__(workbench)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What it shows of each job."""
        return self._rows

    @traitlets.observe("status")
    def _choose(self, _change: Mapping[str, Any]) -> None:
        self._watch.look_now()

    # ------------------------------------------------------------------------- looks
    def _look(self, connection: Connection) -> float:
        seen = {job.id: self._known(job, connection) for job in self._listed(connection)}
        rows = [
            row_of(one, self._dataset(one, connection), published=self.published) for one in seen.values()
        ]
        with self._lock:
            self._seen, self._rows = seen, rows
        self._read_log(connection)
        is_active = any(one.listed.status in ACTIVE for one in seen.values())
        return SECONDS_WHILE_ACTIVE if is_active else SECONDS_WHILE_QUIET

    def _listed(self, connection: Connection) -> list[Job]:
        """The jobs to show; of those that were chosen the ones that are still there."""
        jobs = Jobs(connection)
        if self._chosen is None:
            return jobs.list(status=self.status or None, limit=self.limit)
        found = []
        for job_id in self._chosen:
            with suppress(JobNotFound):
                found.append(jobs.get(job_id))
        return [job for job in found if self.status in ("", job.view.status)]

    def _known(self, job: Job, connection: Connection) -> SeenJob:
        """What is known of a job; asked for only when that is no longer all there is."""
        listed = job.view
        known = self._seen.get(job.id, SeenJob(listed))
        if not known.is_stale(listed):
            return SeenJob(listed, known.detail, known.privacy, known.seen_at)
        try:
            privacy = known.privacy
            if privacy is None:
                privacy = _settled(job)
            else:
                job.refresh()
            return SeenJob(listed, job.view, privacy, monotonic())
        except CallFailed:
            raise
        except WorkbenchError:  # it is gone since the list was written
            return SeenJob(listed, known.detail, known.privacy, known.seen_at)

    def _dataset(self, seen: SeenJob, connection: Connection) -> Dataset | None:
        """Its dataset, asked for once; None when it is there no more."""
        dataset_id = seen.listed.dataset_id
        if dataset_id not in self._datasets:
            try:
                self._datasets[dataset_id] = Datasets(connection).get(dataset_id)
            except CallFailed:
                raise
            except WorkbenchError:
                self._datasets[dataset_id] = None
        return self._datasets[dataset_id]

    def _read_log(self, connection: Connection) -> None:
        """What was written since the last look into the log that is open.

        A look and the button that opens the log may read at the same time: who comes second has read the
        same lines, and drops them.
        """
        with self._lock:
            job_id, after = self._log_id, self._log_at
        if not job_id or self.published:
            return
        lines = list(Jobs(connection).get(job_id).logs(follow=False, after=after))
        with self._lock:
            if (job_id, after) != (self._log_id, self._log_at):
                return
            self._log_at = lines[-1].id if lines else after
            told = ({"at": line.timestamp, "level": line.level, "text": line.message} for line in lines)
            self._lines.extend(told)
            self.log = {"id": job_id, "lines": list(self._lines)}

    def _face(self) -> Mapping[str, Any]:
        return {"rows": self._rows, "published": self.published, "limit": self.limit}

    # ------------------------------------------------------------------------- what is asked
    def _allows(self, action: str, values: Mapping[str, Any]) -> bool:
        if self.published:
            return False
        seen = self._seen.get(str(values.get("id")))
        return action == "close_log" or (seen is not None and action in actions_of(seen.listed.status))

    def _ask(self, action: str, values: Mapping[str, Any], connection: Connection) -> None:
        job_id = str(values.get("id"))
        if action == "stop":
            Jobs(connection).get(job_id).stop(wait=0.0)
        elif action == "restart":
            Jobs(connection).get(job_id).restart()
        else:
            self._open("" if action == "close_log" else job_id)
            self._read_log(connection)

    def _open(self, job_id: str) -> None:
        """Show this job's log, or none."""
        with self._lock:
            self._log_id, self._log_at = job_id, 0
            self._lines.clear()
            self.log = {"id": job_id, "lines": []} if job_id else {}


def _settled(job: Job) -> PrivacyView | None:
    """What it promises, once that is settled; its view is new then."""
    privacy = job.privacy
    return None if privacy.guarantee == "unknown" else privacy
