"""What the widget tests start from: a wire that can be read, a real JupyterLab, a real browser."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import comm
import numpy as np
import polars as pl
import pytest
from comm.base_comm import BaseComm
from playwright.sync_api import Browser

from tests.widgets.lab import Lab, running_chromium
from tests.workbench_server import WorkbenchServer
from tg_workbench import Workbench
from tg_workbench.sdk import Campaign, Dataset, Job
from tg_workbench.sdk.device import Device, Rows

EVIL = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"
"""A name that somebody might give, which is text and nothing else."""


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


class Wire:
    """Every message the widgets of a test send to their page, and a page that reads curves from them."""

    def __init__(self) -> None:
        self.comms: dict[str, BaseComm] = {}
        self.messages: list[tuple[str, dict[str, Any], list[bytes]]] = []

    def comm(self, **options: Any) -> BaseComm:
        """A comm that writes to this wire; takes the place of a kernel's."""
        wire = self

        class WiredComm(BaseComm):
            def publish_msg(
                self,
                msg_type: str,
                data: Any = None,
                metadata: Any = None,
                buffers: Any = None,
                **keys: Any,
            ) -> None:
                if msg_type == "comm_msg":
                    wire.messages.append((self.comm_id, data, list(buffers or [])))

        made = WiredComm(**options)
        self.comms[made.comm_id] = made
        return made

    def say(self, widget: Any, content: dict[str, Any], *buffers: bytes) -> None:
        """The page sends a custom message to a widget."""
        data = {"method": "custom", "content": content}
        widget.comm.handle_msg({"content": {"data": data}, "buffers": list(buffers)})

    def told(self, widget: Any) -> str:
        """Everything that a widget has told its page, in one text."""
        first = repr(
            {name: value for name, value in widget.get_state().items() if name not in ("_esm", "_css")}
        )
        return first + "".join(
            repr(data) for comm_id, data, _ in self.messages if comm_id == widget.comm.comm_id
        )

    def sent(self, widget: Any) -> list[tuple[dict[str, Any], list[bytes]]]:
        """The custom messages a widget has sent."""
        return [
            (data["content"], buffers)
            for comm_id, data, buffers in self.messages
            if comm_id == widget.comm.comm_id and data.get("method") == "custom"
        ]

    def drawn(self, curve: Any, name: str = "loss") -> list[tuple[float, float]]:
        """The points a page that listened from the start would draw."""
        points: list[tuple[float, float]] = []
        for content, buffers in self.sent(curve):
            if content["type"] == "replay":
                points = []
            if name in content["series"]:
                at = 2 * content["series"].index(name)
                points += zip(array("d", buffers[at]), array("d", buffers[at + 1]), strict=True)
        return points


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    """A wire in place of a kernel's."""
    wire = Wire()
    monkeypatch.setattr(comm, "create_comm", wire.comm)
    return wire


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    """A JupyterLab with the whole product in it."""
    lab = Lab()
    yield lab
    lab.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. It is closed with the module, for no other event loop can run beside Playwright's."""
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def workbench(workbench_server: WorkbenchServer) -> Iterator[Workbench]:
    """A running workbench, as a notebook sees it."""
    with Workbench(socket=str(workbench_server.socket), api_key=workbench_server.api_key) as workbench:
        yield workbench


def people(seed: int) -> pl.DataFrame:
    """A table of people, some of them sick."""
    random = np.random.default_rng(seed)
    ages = random.integers(18, 91, 200)
    return pl.DataFrame(
        {
            "age": ages,
            "smokes": ["often" if each else "never" for each in random.integers(0, 2, 200)],
            "pressure": [None if place == 7 else 101.25 + float(place) for place in range(200)],
            "sick": ["yes" if age > 55 else "no" for age in ages],
        }
    )


@pytest.fixture(scope="package")
def town(workbench: Workbench) -> Dataset:
    """A public dataset."""
    return workbench.datasets.upload(people(1), "a town", target="sick", privacy="public", progress=False)


@pytest.fixture(scope="package")
def clinic(workbench: Workbench) -> Dataset:
    """A protected dataset with a name to beware of."""
    said: Any = {
        "ranges": {"age": (0, 120)},
        "categories": {"smokes": ["never", "often"]},
        "epsilon_cap": 9.0,
    }
    return workbench.datasets.upload(people(2), f"a clinic {EVIL}", target="sick", progress=False, **said)


@pytest.fixture(scope="package")
def open_job(workbench: Workbench, town: Dataset) -> Job:
    """A job on public data that has come to its end."""
    job = workbench.jobs.submit(
        "mlp", town, name="open", epochs=30, batch_size=40, learning_rate=0.05, hidden_sizes=[8], seed=3
    )
    return job.wait(timeout=240, progress=False)


@pytest.fixture(scope="package")
def private_job(workbench: Workbench, clinic: Dataset) -> Job:
    """A job on protected data that has come to its end."""
    job = workbench.jobs.submit("mlp", clinic, name="private", epochs=4, batch_size=40, hidden_sizes=[8])
    return job.wait(timeout=240, progress=False)


@pytest.fixture(scope="package")
def wards(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Device, ...]]:
    """Two devices of the workbench, one of which has a name to beware of."""
    made = []
    for name in ("ward 4", f"ward {EVIL}"):
        token = workbench.devices.enrollment_token()
        folder = tmp_path_factory.mktemp("ward")
        assert token.enrollment_token is not None
        socket = workbench._connection.address.socket
        entered = Device.enroll(
            token.enrollment_token, token.organization_id, folder=folder, name=name, socket=socket
        )
        entered.heartbeat()
        made.append(entered)
    yield tuple(made)
    for device in made:
        device.close()


@pytest.fixture(scope="package")
def learned(workbench: Workbench, wards: tuple[Device, ...]) -> Campaign:
    """A campaign of two rounds that two devices have gone through."""
    campaign = workbench.federation.start(
        "logistic",
        input_shape=[4],
        output_size=2,
        rounds=2,
        learning_rate=0.5,
        min_participants=2,
        name="wards",
    )
    features = np.random.default_rng(1).normal(size=(60, 4)).astype(np.float32)
    rows: Rows = {"features": features, "targets": (features[:, 0] > 0).astype(np.int64)}
    with ThreadPoolExecutor(2) as pool:
        for device in wards:
            pool.submit(device.learn, rows, rounds=2)
    return campaign.wait(timeout=60, progress=False)
