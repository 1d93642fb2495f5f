"""The running workbench as its callers see it."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.contracts.learned import Registry
from tests.contracts.machines import Machine
from tests.contracts.people import People, Person
from tests.workbench_server import WorkbenchServer

ARCHITECTURE = {"input_shape": [4], "output_size": 2, "hidden_sizes": [8]}
ROWS: dict[str, Any] = {"features": [[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.5]], "targets": [0, 1]}
WAIT = {"Prefer": "wait=60"}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Each operation that Schemathesis tries gets an id of its own: of equal ones xdist runs one."""
    if (label := getattr(item, "operation_label", None)) is not None:
        item._id = item.id.with_params(label)


class Caller:
    """One user of the API. Addresses a training client by its id."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def create(self, **more: Any) -> str:
        """A new `mlp` client."""
        body = {
            "model_ref": "mlp",
            "architecture": ARCHITECTURE,
            "optimizer": {"learning_rate": 0.05},
            **more,
        }
        answer = self.http.post("/api/v1/training_clients", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["training_client_id"])

    def post(self, client_id: str, verb: str, body: Any = None, **headers: str) -> httpx.Response:
        """One S0 operation, waited for."""
        return self.http.post(
            f"/api/v1/training_clients/{client_id}/{verb}", json=body, headers=WAIT | headers
        )

    def own(self, client_id: str, verb: str, body: Any = None, **headers: str) -> httpx.Response:
        """One operation of our own contract."""
        path = f"/workbench/v1/training_clients/{client_id}/{verb}"
        return self.http.post(path, json=body, headers=WAIT | headers)

    def step(self, client_id: str) -> httpx.Response:
        """Learn from two rows and apply it."""
        assert self.post(client_id, "forward_backward", {"batch": ROWS}).status_code == 200
        return self.post(client_id, "optim_step")

    def get(self, client_id: str) -> dict[str, Any]:
        """The client as it is now."""
        view: dict[str, Any] = self.http.get(f"/api/v1/training_clients/{client_id}").json()
        return view

    def until(
        self, client_id: str, wanted: Callable[[dict[str, Any]], bool], seconds: float = 60
    ) -> dict[str, Any]:
        """The client, once it is as wanted."""
        deadline = time.monotonic() + seconds
        while not wanted(view := self.get(client_id)):
            assert time.monotonic() < deadline, f"still {view['status']} ({view['reason']})"
            time.sleep(0.05)
        return view


@pytest.fixture(scope="session")
def api(workbench_server: WorkbenchServer) -> Iterator[httpx.Client]:
    """The workbench over HTTP, signed in."""
    with workbench_server.client(timeout=120) as http:
        yield http


@pytest.fixture(scope="session")
def stranger(workbench_server: WorkbenchServer) -> Iterator[httpx.Client]:
    """The same without a credential."""
    with workbench_server.client() as http:
        del http.headers["Authorization"]
        yield http


@pytest.fixture(scope="session")
def caller(api: httpx.Client) -> Caller:
    """Somebody who uses it."""
    return Caller(api)


@pytest.fixture(scope="session")
def shared_client(caller: Caller) -> str:
    """A client that trains without privacy, for tests that do not mind what the others have done to it."""
    return caller.create()


@pytest.fixture
def client_id(caller: Caller) -> Iterator[str]:
    """A client of a test's own that trains without privacy."""
    client_id = caller.create()
    yield client_id
    caller.http.delete(f"/api/v1/training_clients/{client_id}")


@pytest.fixture
def key() -> str:
    """An Idempotency-Key nobody has used."""
    return uuid.uuid4().hex


@pytest.fixture(scope="session")
def people(workbench_server: WorkbenchServer) -> Iterator[People]:
    """Whoever registers here."""
    found = People(workbench_server)
    yield found
    found.close()


@pytest.fixture(scope="session")
def alice(people: People) -> Person:
    """She owns an organisation."""
    return people.register("alice")


@pytest.fixture(scope="session")
def bob(people: People) -> Person:
    """He owns another."""
    return people.register("bob")


@pytest.fixture(scope="session")
def carol(people: People, alice: Person) -> Person:
    """She is a member of Alice's organisation."""
    return people.invite(alice, "carol")


@pytest.fixture(autouse=True)
def _signed_in(request: pytest.FixtureRequest) -> None:
    """Sessions outlast the tokens that whole runs share."""
    for name in {"alice", "bob", "carol"} & set(request.fixturenames):
        request.getfixturevalue(name).stay_signed_in()


@pytest.fixture(scope="session")
def registry(workbench_server: WorkbenchServer) -> Registry:
    """Puts models into the workbench."""
    return Registry(workbench_server)


@pytest.fixture
def edge(alice: Person) -> Machine:
    """A device of Alice's organisation, with keys of its own."""
    return Machine.enroll(alice)


@pytest.fixture(scope="module")
def old(alice: Person) -> Machine:
    """Another one, which tests share that leave it as it is."""
    return Machine.enroll(alice)


@pytest.fixture
def sql(workbench_server: WorkbenchServer) -> Callable[..., None]:
    """Lets time pass, by what the database says of it."""

    def run(statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(workbench_server.home / "tgsp.db", timeout=30)) as connection:
            assert connection.execute(statement, values).rowcount > 0
            connection.commit()

    return run
