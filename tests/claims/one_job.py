"""One job, done in this very process, so that a test can look into it and change it on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import sqlalchemy as sa
from sqlmodel import col, select

from tg_workbench.datasets import Content, Datasets, DatasetSpec, LedgerEvent
from tg_workbench.execution import Assignment, Work, run_folder
from tg_workbench.execution.bells import Bell, bell_name
from tg_workbench.identity import LOCAL_PRINCIPAL
from tg_workbench.settings import Settings
from tg_workbench.storage import Blobs, Database
from tg_workbench.training import DPSpec, Job, Jobs, JobSpec
from tg_workbench.training.fitting import Fit
from tg_workbench.training.worker import Worker

Rows = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def two_classes(count: int = 200, seed: int = 0) -> Rows:
    """Rows of two classes that a line tells apart."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, count)
    features = rng.normal(size=(count, 4)) + 2.0 * targets[:, None]
    return features.astype(np.float32), targets.astype(np.int64)


class OneJob:
    """A dataset, a job on it, and its worker up to the first step."""

    def __init__(self, home: Path, rows: Rows, *, privacy: str = "protected", **asked: Any) -> None:
        self.settings = Settings(home=home, database_url=f"sqlite:///{home}/here.db")
        self.database = Database(self.settings.database_url)
        self.database.migrate()
        content = safetensors.numpy.save({"features": rows[0], "targets": rows[1]})
        with self.database.write() as session:
            datasets = Datasets(session, Blobs(home / "blobs"))
            self.dataset = datasets.register(
                LOCAL_PRINCIPAL, DatasetSpec("rows", Content.of_tensors(content), privacy)
            )
        dp = DPSpec(noise_multiplier=4.0) if privacy == "protected" else None
        usual = {"dataset_id": self.dataset.id, "model_type": "mlp", "epochs": 3, "dp": dp}
        spec = JobSpec(**{**usual, **asked})
        with self.database.write() as session:
            self.id = Jobs(session, run_folder(home)).submit(LOCAL_PRINCIPAL, spec).id
        self.fit = self._begun()

    def _begun(self) -> Fit:
        client_id = self.row.client_id
        with self.database.write() as session:
            session.connection().execute(sa.update(Work).where(col(Work.id) == client_id).values(epoch=1))
        self.worker = Worker(Assignment(client_id, "job", epoch=1), self.settings)
        self.worker.bell = Bell(self.worker.folder, bell_name(client_id))
        operator = self.worker._load(self.worker.queue.client())
        operation = self.worker.queue.begin_next()
        assert operation is not None
        self.operation = operation
        return Fit(operator, operation, lambda: "go")

    @property
    def row(self) -> Job:
        """What is stored of it."""
        with self.database.read() as session:
            return session.get_one(Job, self.id)

    def done(self, watch: Callable[[Fit], None] = lambda _: None) -> Job:
        """Do it to its end; `watch` is called at every step border."""
        fit = self.fit

        def control() -> str:
            watch(fit)
            return "go"

        fit.control = control
        result = fit.go()
        self.worker.queue.complete(self.operation, result, also=fit.close)
        self.worker.bell.close()
        return self.row

    def ledger(self) -> list[LedgerEvent]:
        """What it was charged."""
        with self.database.read() as session:
            its = select(LedgerEvent).where(LedgerEvent.client_id == self.row.client_id)
            return list(session.exec(its.order_by(col(LedgerEvent.id))))
