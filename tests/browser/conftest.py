"""A JupyterLab with the real notebooks in it, a browser, and watchmen at every door of this machine."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser

from tests.widgets.lab import Lab, Visit, running_chromium
from tg_workbench import TrainingClient, Workbench
from tg_workbench.sdk import Dataset

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "test-results"

WATCHMAN = """
import os, sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        address = arguments[1] if event == "socket.connect" else arguments[:2]
        host = str(address[0] or "localhost") if isinstance(address, tuple) else "localhost"
        if not host.startswith("127.") and host not in ("localhost", "::1", "0.0.0.0"):
            with open(os.environ["WATCHMAN"], "a") as book:
                print(event, address, sys.orig_argv, file=book)
sys.addaudithook(watch)
"""

NewClient = Callable[..., TrainingClient]
NewVisit = Callable[..., Visit]


class Watchman:
    """Writes down every connection that a Python process of the lab asks for beyond this machine."""

    def __init__(self, folder: Path) -> None:
        (folder / "sitecustomize.py").write_text(WATCHMAN)
        self._book = folder / "book"
        path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        self.environ = {"PYTHONPATH": path, "WATCHMAN": str(self._book)}

    @property
    def saw(self) -> list[str]:
        """What was written down."""
        return self._book.read_text().splitlines() if self._book.exists() else []


@pytest.fixture(scope="package")
def watchman() -> Iterator[Watchman]:
    """At the doors of the servers and kernels."""
    folder = Path(tempfile.mkdtemp(prefix="tgw-watch-"))
    yield Watchman(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="package")
def lab(watchman: Watchman) -> Iterator[Lab]:
    """JupyterLab as `make lab` starts it, with our notebooks."""
    lab = Lab(**watchman.environ)
    shutil.copytree(ROOT / "notebooks", lab.root, dirs_exist_ok=True)
    yield lab
    lab.stop()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium; these tests are the last, so its event loop is in nobody's way."""
    with running_chromium() as browser:
        yield browser


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Let the fixtures of a test know that it failed."""
    report: pytest.TestReport = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


FAILED = pytest.StashKey[bool]()


@pytest.fixture
def new_visit(lab: Lab, browser: Browser, request: pytest.FixtureRequest) -> Iterator[NewVisit]:
    """Visits of people, none of whom is led elsewhere; a failing test leaves pictures and logs."""
    visits: list[Visit] = []
    here = f"127.0.0.1:{lab.port}"

    def arrive(**options: Any) -> Visit:
        visit = Visit(browser, origin=here, **options)
        visits.append(visit)
        return visit

    yield arrive
    if request.node.stash.get(FAILED, False):
        sys.stderr.write(f"{lab.log}\n")  # the report of the failure shows it
        RESULTS.mkdir(exist_ok=True)
        for number, visit in enumerate(visits):
            visit.page.screenshot(path=RESULTS / f"{request.node.name}-{number}.png")
        for log in [lab.home / "jupyter.log", *(lab.home / "workbench" / "logs").glob("*.log")]:
            shutil.copy(log, RESULTS / f"{request.node.name}-{log.name}")
    for visit in visits:
        visit.close()
    assert [outside for visit in visits for outside in visit.outside] == []
    assert [error for visit in visits for error in visit.errors] == []


@pytest.fixture
def visit(new_visit: NewVisit) -> Visit:
    """One visit."""
    return new_visit()


@pytest.fixture(scope="package")
def workbench(lab: Lab) -> Iterator[Workbench]:
    """The lab's workbench, for whoever is not on the page: as a kernel sees it."""
    httpx.get(lab.url("tg/health"), timeout=60).raise_for_status()
    told = lab.api().environ()
    with Workbench(socket=told["TG_SOCKET"], api_key=told["TG_API_KEY"]) as workbench:
        yield workbench


@pytest.fixture(scope="package")
def dataset(workbench: Workbench) -> Dataset:
    """400 rows, told apart by the sum of their four numbers; protected."""
    features = np.random.default_rng(7).normal(size=(400, 4)).astype(np.float32)
    targets = (features.sum(axis=1) > 0).astype(np.int64)
    return workbench.datasets.upload("rows of a test", features=features, targets=targets)


@pytest.fixture
def new_client(workbench: Workbench, dataset: Dataset) -> Iterator[NewClient]:
    """Creates training clients from outside the page, that can train for minutes; they end with the test."""
    made: list[TrainingClient] = []

    def create(**more: Any) -> TrainingClient:
        plan = {"dataset": dataset, "max_steps": 20_000, "batch_size": 32, "learning_rate": 0.01}
        made.append(workbench.create_training_client("mlp", **{**plan, **more}))
        return made[-1]

    yield create
    for client in made:
        client.terminate()


@pytest.fixture
def pictures() -> Path | None:
    """Where the pictures for our words are to be written, if they are: the folder named in PICTURES."""
    return Path(os.environ["PICTURES"]).resolve() if "PICTURES" in os.environ else None
