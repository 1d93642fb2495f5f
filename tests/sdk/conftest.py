"""The SDK against a running workbench: real API, real workers, real training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.workbench_server import WorkbenchServer
from tg_workbench import TrainingClient, Workbench
from tg_workbench.sdk import Dataset

Rows = dict[str, Any]
NewClient = Callable[..., TrainingClient]


@pytest.fixture(scope="session")
def workbench(workbench_server: WorkbenchServer) -> Iterator[Workbench]:
    """The running workbench, as a notebook sees it."""
    with Workbench(socket=str(workbench_server.socket), api_key=workbench_server.api_key) as workbench:
        yield workbench


@pytest.fixture(scope="session")
def rows() -> Rows:
    """200 points, told apart by the sum of four numbers."""
    generator = np.random.default_rng(7)
    features = generator.normal(size=(200, 4)).astype(np.float32)
    return {"features": features, "targets": (features.sum(axis=1) > 0).astype(np.int64)}


@pytest.fixture(scope="session")
def dataset(workbench: Workbench, rows: Rows) -> Dataset:
    """The same points, registered and protected."""
    return workbench.datasets.upload("points", **rows)


@pytest.fixture
def new_client(workbench: Workbench) -> Iterator[NewClient]:
    """Creates training clients that end with the test."""
    made: list[TrainingClient] = []

    def create(model_ref: str = "mlp", **more: Any) -> TrainingClient:
        if model_ref == "mlp" and "dataset" not in more:
            more.setdefault("architecture", {"input_shape": [4], "output_size": 2, "hidden_sizes": [8]})
        made.append(workbench.create_training_client(model_ref, **{"learning_rate": 0.05, **more}))
        return made[-1]

    yield create
    for client in made:
        client.terminate()


@pytest.fixture
def socket_path(workbench_server: WorkbenchServer) -> str:
    """Where the workbench listens."""
    return str(workbench_server.socket)


@pytest.fixture(scope="session")
def public_dataset(workbench: Workbench, rows: Rows) -> Dataset:
    """Points that everybody knows: for runs that are long and quick."""
    known = {**rows, "features": rows["features"] + 0.01}
    return workbench.datasets.upload("known points", **known, privacy="public")
