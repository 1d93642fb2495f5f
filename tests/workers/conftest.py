"""A workshop: a database, a dispatcher process and its workers, without the API in front."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from sqlmodel import Session, col, select

from tg_workbench.datasets import Content, Dataset, Datasets, DatasetSpec, LedgerEvent
from tg_workbench.events import EventRow
from tg_workbench.execution import Work, run_folder
from tg_workbench.identity import LOCAL_PRINCIPAL
from tg_workbench.settings import Settings
from tg_workbench.storage import Blobs, Database
from tg_workbench.training import ClientSpec, Operation, OperationKind, TrainingClient, TrainingClients
from tg_workbench.training.tables import OperationRow

PEOPLE = itertools.count()
DISPATCH = """
from tg_workbench.execution.dispatcher import dispatch
from tg_workbench.settings import Settings
from tg_workbench.training import work_kinds
settings = Settings.from_environment()
dispatch(settings, work_kinds(settings))
"""
PATIENCE_SECONDS = 60.0
CALM_SECONDS = 0.02
"""How often we look where nothing is missed meanwhile: looking takes time from a worker, which is niced."""


class Workshop:
    """What the API would do, done by hand."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.environment = {
            **os.environ,
            "TG_HOME": str(home),
            "DATABASE_URL": f"sqlite:///{home}/tgsp.db",
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        self.settings = Settings.from_environment(self.environment)
        self.folder = run_folder(home)
        self.database = Database(self.settings.database_url)
        self.database.migrate()
        self.contents: dict[str, bytes] = {}
        self.dispatcher: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        self.dispatcher = subprocess.Popen(
            [sys.executable, "-c", DISPATCH], stdin=subprocess.PIPE, env=self.environment
        )

    def close(self) -> None:
        if self.dispatcher is not None:
            self.dispatcher.terminate()
            self.dispatcher.wait(timeout=20)

    def kill_dispatcher(self) -> None:
        assert self.dispatcher is not None
        self.dispatcher.kill()
        self.dispatcher.wait()

    def dataset(
        self, features: np.ndarray[Any, Any], targets: np.ndarray[Any, Any], **policy: Any
    ) -> Dataset:
        """Rows about people who are in no other dataset: identical rows share a budget."""
        features = features + np.float32(next(PEOPLE) / 1024)
        return self.registered(features, targets, **policy)

    def registered(
        self, features: np.ndarray[Any, Any], targets: np.ndarray[Any, Any], **policy: Any
    ) -> Dataset:
        """These very rows."""
        return self._register(safetensors.numpy.save({"features": features, "targets": targets}), **policy)

    def dataset_of(self, known: Dataset, **policy: Any) -> Dataset:
        """The very rows of a dataset, registered again."""
        return self._register(self.contents[known.id], **policy)

    def _register(self, content: bytes, **policy: Any) -> Dataset:
        with self.database.write() as session:
            name = f"rows {hashlib.sha256(content).hexdigest()[:16]}"  # versions of one name share a budget
            spec = DatasetSpec(name, Content.of_tensors(content), **policy)
            dataset = self._datasets(session).register(LOCAL_PRINCIPAL, spec)
        self.contents[dataset.id] = content
        return dataset

    def found(self, dataset_id: str) -> Dataset:
        with self.database.read() as session:
            return self._datasets(session).get(LOCAL_PRINCIPAL, dataset_id)

    def forget(self, dataset_id: str) -> None:
        with self.database.write() as session:
            self._datasets(session).delete(LOCAL_PRINCIPAL, dataset_id, users=0)

    def _datasets(self, session: Session) -> Datasets:
        return Datasets(session, Blobs(self.settings.home / "blobs"))

    def create(self, spec: ClientSpec, *, ready: bool = True) -> str:
        with self.database.write() as session:
            client_id = TrainingClients(session, self.folder).create(LOCAL_PRINCIPAL, spec).id
        if ready:
            self.until(lambda: self.client(client_id).status != "initializing", every=CALM_SECONDS)
        return client_id

    def client(self, client_id: str) -> TrainingClient:
        with self.database.read() as session:
            return TrainingClients(session, self.folder).get(LOCAL_PRINCIPAL, client_id)

    def steer(self, verb: str, client_id: str) -> TrainingClient:
        with self.database.write() as session:
            client: TrainingClient = getattr(TrainingClients(session, self.folder), verb)(
                LOCAL_PRINCIPAL, client_id
            )
            return client

    def submit(
        self, client_id: str, kind: str, body: dict[str, Any] | None = None, key: str | None = None
    ) -> str:
        payload = json.dumps(body or {}).encode()
        with self.database.write() as session:
            clients = TrainingClients(session, self.folder)
            operation = clients.submit(
                LOCAL_PRINCIPAL, client_id, OperationKind(kind), payload, idempotency_key=key
            )
            return operation.id

    def operation(self, future_id: str) -> Operation:
        with self.database.read() as session:
            return session.get_one(OperationRow, future_id)

    def ended(self, future_id: str) -> Operation:
        still = ("pending", "running")
        self.until(lambda: self.operation(future_id).status not in still, every=CALM_SECONDS)
        return self.operation(future_id)

    def do(self, client_id: str, kind: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        operation = self.ended(self.submit(client_id, kind, body))
        assert operation.status == "completed", operation.error
        assert operation.result is not None
        return operation.result

    def refused(self, client_id: str, kind: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        operation = self.ended(self.submit(client_id, kind, body))
        assert operation.status == "failed"
        assert operation.error is not None
        return operation.error

    def events(self, client_id: str, kind: str) -> list[dict[str, Any]]:
        with self.database.read() as session:
            query = select(EventRow).where(EventRow.subject == client_id, EventRow.type == kind)
            return [json.loads(row.data) for row in session.exec(query.order_by(col(EventRow.id)))]

    def ledger(self, client_id: str) -> list[LedgerEvent]:
        with self.database.read() as session:
            return list(session.exec(select(LedgerEvent).where(LedgerEvent.client_id == client_id)))

    def worker(self, client_id: str) -> int | None:
        with self.database.read() as session:
            return session.get_one(Work, client_id).pid

    def stands_still(self, client_id: str) -> bool:
        """Whether a client takes no step for a while."""
        before = len(self.ledger(client_id))
        time.sleep(0.3)
        return len(self.ledger(client_id)) == before

    def kill_worker(self, client_id: str) -> int:
        pid = self.worker(client_id)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return pid

    def until(
        self, true: Callable[[], bool], seconds: float = PATIENCE_SECONDS, *, every: float = 0.005
    ) -> float:
        """Wait for something to become true and return how long that took."""
        began = time.monotonic()
        while not true():
            assert time.monotonic() - began < seconds, "it did not become true in time"
            time.sleep(every)
        return time.monotonic() - began


@contextlib.contextmanager
def opened(home: Path, **environment: str) -> Iterator[Workshop]:
    """A workshop that is open for the length of the block."""
    shop = Workshop(home, **environment)
    shop.open()
    try:
        yield shop
    finally:
        shop.close()


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with opened(tmp_path_factory.mktemp("shop"), TG_MAX_WORKERS="16") as shop:
        yield shop


@pytest.fixture
def two_moons() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """400 rows of two classes that a small network tells apart."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 400)
    features = rng.normal(size=(400, 4)) + 2.0 * targets[:, None]
    return features.astype(np.float32), targets.astype(np.int64)
