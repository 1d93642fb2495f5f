"""Stopping a job and waiting for its end: two transactions with a wait between them, for whoever asked."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from tg_workbench.contracts.premises import Premises, premises_of
from tg_workbench.contracts.route import PRINCIPAL
from tg_workbench.contracts.waiting import Waiting
from tg_workbench.identity import Principal
from tg_workbench.training import Job, Jobs
from tg_workbench.training.specs import OVER_JOBS

GRACE_SECONDS = 25.0
"""How long an answer waits for a worker to save what it has. That it is to stop is stored by then."""


class JobDesk:
    """The jobs of one principal, for one request."""

    def __init__(self, premises: Premises, owner: Principal) -> None:
        self.premises = premises
        self.owner = owner

    async def stop(self, job_id: str, seconds: float = GRACE_SECONDS) -> Job:
        """Stop a job; as it is when it has ended, or after `seconds`. Raises JobNotFound."""
        with self.premises.database.write() as session:
            job = Jobs(session, self.premises.folder).stop(self.owner, job_id)
        return await Waiting(self.premises, job_id).settled(
            job,
            seconds,
            look=lambda session: Jobs(session, self.premises.folder).get(self.owner, job_id),
            is_settled=lambda seen: seen.status in OVER_JOBS,
        )


async def _desk(request: Request) -> JobDesk:
    return JobDesk(premises_of(request), request.scope[PRINCIPAL])


TheJobDesk = Annotated[JobDesk, Depends(_desk)]
