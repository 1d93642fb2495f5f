"""A real workbench, and real devices that learn in it: each with a folder, keys and rows of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.workbench_server import WorkbenchServer
from tg_workbench.sdk.device import Device

OVER = ("completed", "failed")
SIDE, CLASSES = 4, 3


def rows_of(seed: int, count: int = 40) -> dict[str, NDArray[Any]]:
    """Rows that one linear layer tells apart: everybody's are told apart in the same way."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(count, SIDE)).astype(np.float32)
    directions = np.random.default_rng(0).normal(size=(SIDE, CLASSES))
    return {"features": features, "targets": (features @ directions).argmax(1).astype(np.int64)}


@dataclass
class Fleet:
    """A workbench with whoever looks after it, and the devices that were enrolled."""

    server: WorkbenchServer
    http: httpx.Client
    folder: Path
    made: list[Device]

    def token(self) -> str:
        """An enrolment token."""
        answer = self.http.post("/workbench/v1/enrollment-tokens", json={})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["enrollment_token"])

    def enroll(self, name: str | None = None, **more: Any) -> Device:
        """A new device."""
        name = name or f"device {len(self.made)}"
        folder = self.folder / f"{len(self.made)}"
        device = Device.enroll(
            self.token(), "local", socket=str(self.server.socket), folder=folder, name=name, **more
        )
        self.made.append(device)
        return device

    def start(self, **asked: Any) -> dict[str, Any]:
        """Start a round of a linear model, as a person does; `asked` joins the body."""
        model = {
            "architecture": "logistic",
            "input_shape": [SIDE],
            "output_size": CLASSES,
            "hyperparameters": {"learning_rate": 0.5, "batch_size": 8, "epochs": 2},
        }
        body = {"model_config": model, "participant_criteria": {"min_participants": 2}, **asked}
        answer = self.http.post("/api/v1/fl/rounds", json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def round(self, round_id: str) -> dict[str, Any]:
        """A round as it is now."""
        answer = self.http.get(f"/api/v1/fl/rounds/{round_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def until(self, round_id: str, is_so: Callable[[dict[str, Any]], bool], seconds: float = 60.0) -> Any:
        """The round, once it is as it should be."""
        deadline = time.monotonic() + seconds
        while not is_so(seen := self.round(round_id)):
            assert time.monotonic() < deadline, f"it never came true: {seen}"
            time.sleep(0.05)
        return seen

    def recruiting(self, round_id: str) -> dict[str, Any]:
        """The round, once it recruits."""
        return dict(self.until(round_id, lambda seen: seen["phase"] != "preparing"))

    def over(self, round_id: str) -> dict[str, Any]:
        """The round, once it is over."""
        return dict(self.until(round_id, lambda seen: seen["phase"] in OVER))

    def campaign(self, campaign_id: str) -> dict[str, Any]:
        """A campaign with its rounds."""
        return dict(self.http.get(f"/workbench/v1/federation/campaigns/{campaign_id}").json())

    def campaign_over(self, campaign_id: str, seconds: float = 60.0) -> dict[str, Any]:
        """The campaign, once it is over."""
        deadline = time.monotonic() + seconds
        while (seen := self.campaign(campaign_id))["status"] == "active":
            assert time.monotonic() < deadline, f"it goes on: {seen}"
            time.sleep(0.05)
        return seen

    def parts(self, round_id: str) -> dict[str, dict[str, Any]]:
        """Each device's part in a round, by the device's id."""
        answer = self.http.get(f"/workbench/v1/federation/rounds/{round_id}/participations")
        return {part["device_id"]: part for part in answer.json()["participations"]}


def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Look closely until it is so."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)


@contextmanager
def fleet_of(server: WorkbenchServer, folder: Path) -> Iterator[Fleet]:
    """A fleet of this workbench, whose devices are closed at the end."""
    with server.client() as http:
        fleet = Fleet(server, http, folder, [])
        yield fleet
        for device in fleet.made:
            device.close()


@contextmanager
def fleet_apart(folder: Path, **variables: str) -> Iterator[Fleet]:
    """A fleet of a workbench of its own, which is stopped at the end."""
    server = WorkbenchServer(OMP_NUM_THREADS="1", **variables)
    try:
        with fleet_of(server, folder) as fleet:
            yield fleet
    finally:
        server.stop()


@pytest.fixture(scope="session")
def fleet(workbench_server: WorkbenchServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The workbench of all tests in here."""
    with fleet_of(workbench_server, tmp_path_factory.mktemp("devices")) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A workbench of which anything may be killed."""
    with fleet_apart(tmp_path_factory.mktemp("mortal")) as fleet:
        yield fleet


@pytest.fixture(scope="session")
def pair(fleet: Fleet) -> tuple[Device, Device]:
    """Two devices that anybody may use."""
    return fleet.enroll("one of a pair"), fleet.enroll("the other")
