"""Submits so many tiny jobs of many users, each under its own key, so that it can be killed and run again.

Usage: `submit_jobs.py HOME DATASETS COUNT`, DATASETS a JSON object of user → dataset id. It ends once every
job was accepted.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from tg_workbench.errors import TooManyJobs
from tg_workbench.execution import run_folder
from tg_workbench.identity import LOCAL_PRINCIPAL
from tg_workbench.storage import Database
from tg_workbench.training import Jobs, JobSpec


def main(home: Path, datasets: dict[str, str], count: int) -> None:
    """Each job in turn; a user who has too many already is asked again."""
    database = Database(f"sqlite:///{home}/tgsp.db")
    users = sorted(datasets)
    waiting = list(range(count))
    while waiting:
        number = waiting.pop(0)
        user = users[number % len(users)]
        owner = replace(LOCAL_PRINCIPAL, id=user)
        spec = JobSpec(datasets[user], "mlp", name=f"job {number}", epochs=3, batch_size=40)
        try:
            with database.write() as session:
                Jobs(session, run_folder(home)).submit(owner, spec, idempotency_key=f"job-{number}")
        except TooManyJobs:
            waiting.append(number)
            time.sleep(0.05)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]))
