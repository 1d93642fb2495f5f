"""Our own contract: runs, live events, datasets and the ledger, against real workers."""

from __future__ import annotations

import itertools
import json
import math
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.contracts.conftest import ROWS, WAIT, Caller
from tests.contracts.test_bad_input import tensors
from tests.workbench_server import WorkbenchServer

SAFETENSORS = {"Content-Type": "application/vnd.safetensors"}
SIZE = 64


PEOPLE = itertools.count()


def rows(count: int) -> bytes:
    """A small dataset of two classes, about people who are in no other: identical rows share a budget."""
    shift = next(PEOPLE) / 64
    features = [
        ((row * 7 + column) % 5) + (row % 2) * 3 + shift for row in range(count) for column in range(4)
    ]
    return tensors(
        features=("F32", [count, 4], struct.pack(f"<{count * 4}f", *features)),
        targets=("I64", [count], struct.pack(f"<{count}q", *(row % 2 for row in range(count)))),
    )


def register(api: httpx.Client, **query: Any) -> dict[str, Any]:
    """A dataset, handed over."""
    answer = api.post("/workbench/v1/datasets", params=query, content=rows(SIZE), headers=SAFETENSORS)
    assert answer.status_code == 201, answer.text
    view: dict[str, Any] = answer.json()
    return view


@pytest.fixture(scope="module")
def protected(api: httpx.Client) -> dict[str, Any]:
    """A protected dataset."""
    return register(api, name="patients")


@pytest.fixture(scope="module")
def public(api: httpx.Client) -> dict[str, Any]:
    """A public dataset."""
    return register(api, name="flowers", privacy="public")


@pytest.fixture
def private_client(caller: Caller, protected: dict[str, Any]) -> Iterator[str]:
    """A client that draws from the protected dataset."""
    dp = {"target_epsilon": 3.0, "noise_multiplier": None}
    client_id = caller.create(
        architecture=None, dataset_id=protected["dataset_id"], dp_config=dp, batch_size=16, max_steps=1000
    )
    yield client_id
    caller.http.delete(f"/api/v1/training_clients/{client_id}")


def test_a_dataset_is_protected_unless_it_says_otherwise(protected: dict[str, Any]) -> None:
    assert protected["privacy"] == "protected"
    assert protected["size"] == SIZE
    assert protected["delta"] == pytest.approx(min(1e-5, SIZE**-1.1))
    assert protected["epsilon_cap"] == 10
    assert protected["tensors"]["features"] == {"shape": [SIZE, 4], "dtype": "F32"}
    assert (protected["unit"], protected["relation"]) == ("example", "add_or_remove_one")


def test_datasets_are_listed_found_and_forgotten(api: httpx.Client, key: str) -> None:
    texts = {"name": "open notes", "texts": ["one", "two"], "privacy": "public"}
    headers = {"Idempotency-Key": key}
    answers = [api.post("/workbench/v1/datasets", json=texts, headers=headers).json() for _ in range(2)]
    assert answers[0] == answers[1]
    path = f"/workbench/v1/datasets/{answers[0]['dataset_id']}"
    found = api.get(path).json()
    assert {name: found[name] for name in answers[0]} == answers[0]
    assert answers[0] in api.get("/workbench/v1/datasets", params={"limit": 1000}).json()["datasets"]
    assert api.delete(path).json() == {"deleted": True}
    assert api.get(path).status_code == 404


@pytest.mark.parametrize(
    "body",
    [{"name": "x"}, {"name": "x", "texts": []}, {"name": "", "texts": ["a"]}, {"name": "x", "texts": [""]}],
    ids=str,
)
def test_a_dataset_without_rows_or_name_is_refused(api: httpx.Client, body: dict[str, Any]) -> None:
    assert api.post("/workbench/v1/datasets", json=body).status_code == 422


@pytest.mark.parametrize(
    "query",
    [{}, {"name": "x", "delta": "nan"}, {"name": "x", "delta": 0.5}, {"name": "x", "privacy": "Public"}],
    ids=str,
)
def test_a_dataset_with_an_impossible_policy_is_refused(api: httpx.Client, query: dict[str, Any]) -> None:
    answer = api.post("/workbench/v1/datasets", params=query, content=rows(4), headers=SAFETENSORS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "VALIDATION_ERROR")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(("dtype", "code"), [("F32", "f"), ("F64", "d")])
def test_a_dataset_with_a_number_that_is_none_is_refused(
    api: httpx.Client, number: float, dtype: str, code: str
) -> None:
    for place in (0, 300_000):  # the first, and one beyond the first piece that is looked at
        features = [1.0] * 300_001
        features[place] = number
        body = tensors(
            features=(dtype, [300_001, 1], struct.pack(f"<300001{code}", *features)),
            targets=("U8", [300_001], bytes(300_001)),
        )
        answer = api.post("/workbench/v1/datasets", params={"name": "x"}, content=body, headers=SAFETENSORS)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "VALIDATION_ERROR")
        assert "NaN or infinity" in answer.json()["error"]["message"]


def test_a_target_above_the_datasets_cap_is_refused_and_a_default_stays_below_it(caller: Caller) -> None:
    made = caller.http.post(
        "/workbench/v1/datasets",
        params={"name": "tight", "epsilon_cap": 2},
        content=rows(SIZE),
        headers=SAFETENSORS,
    ).json()
    asked = {"model_ref": "mlp", "dataset_id": made["dataset_id"], "dp_config": {"target_epsilon": 2.5}}
    refused = caller.http.post("/api/v1/training_clients", json=asked)
    assert refused.status_code == 400
    assert "at most 2" in refused.json()["error"]["message"]
    client_id = caller.create(dataset_id=made["dataset_id"], architecture=None, batch_size=16)
    privacy = caller.until(client_id, lambda view: view["privacy"] is not None)["privacy"]
    assert (privacy["target_epsilon"], privacy["dataset_epsilon_cap"]) == (2, 2)
    assert privacy["steps_left"] > 0
    caller.http.delete(f"/api/v1/training_clients/{client_id}")


def test_a_run_trains_privately_and_accounts_for_it(
    caller: Caller, private_client: str, protected: dict[str, Any]
) -> None:
    run = caller.own(private_client, "train", {"steps": 20}).json()
    result = run["result"]
    assert (run["status"], run["operation"]) == ("completed", "train")
    assert (result["steps_done"], result["step"], result["stopped"]) == (20, 20, False)
    privacy = caller.get(private_client)["privacy"]
    assert privacy["mode"] == "sampled"
    assert privacy["sample_rate"] == pytest.approx(16 / SIZE)
    assert 0 < privacy["spent_epsilon"] <= 3
    ledger = caller.http.get(
        "/workbench/v1/ledger", params={"training_client_id": private_client, "limit": 1000}
    ).json()
    assert len(ledger["events"]) == 20
    assert ledger["spent_epsilon"] == privacy["spent_epsilon"]
    of_dataset = caller.http.get(
        "/workbench/v1/ledger", params={"dataset_id": protected["dataset_id"]}
    ).json()
    assert of_dataset["spent_epsilon"] >= privacy["spent_epsilon"] - 1e-9
    assert of_dataset["epsilon_cap"] == 10


def test_a_dataset_in_use_stays(caller: Caller, private_client: str, protected: dict[str, Any]) -> None:
    answer = caller.http.delete(f"/workbench/v1/datasets/{protected['dataset_id']}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CONFLICT")


def test_the_ledger_outlives_its_dataset(caller: Caller) -> None:
    made = caller.http.post(
        "/workbench/v1/datasets", params={"name": "soon gone"}, content=rows(SIZE), headers=SAFETENSORS
    ).json()
    client_id = caller.create(
        dataset_id=made["dataset_id"],
        batch_size=16,
        architecture=None,
        dp_config={"enabled": True, "noise_multiplier": 1.0},
    )
    assert caller.own(client_id, "train", {"steps": 2}).json()["status"] == "completed"
    caller.http.delete(f"/api/v1/training_clients/{client_id}")
    assert caller.http.delete(f"/workbench/v1/datasets/{made['dataset_id']}").json() == {"deleted": True}
    asked = {"dataset_id": made["dataset_id"]}
    ledger = caller.http.get("/workbench/v1/ledger", params=asked).json()
    assert len(ledger["events"]) == 2
    assert ledger["spent_epsilon"] > 0


def test_protected_rows_are_not_evaluated_on(
    caller: Caller, private_client: str, protected: dict[str, Any]
) -> None:
    answer = caller.own(private_client, "evaluate", {"dataset_id": protected["dataset_id"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "PRIVACY_REFUSED")


def test_no_privacy_on_a_protected_dataset_is_refused(api: httpx.Client, protected: dict[str, Any]) -> None:
    body = {"model_ref": "mlp", "dataset_id": protected["dataset_id"], "dp_config": {"enabled": False}}
    answer = api.post("/api/v1/training_clients", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "PRIVACY_REFUSED")


def test_a_public_dataset_trains_and_evaluates_without(caller: Caller, public: dict[str, Any]) -> None:
    client_id = caller.create(architecture=None, dataset_id=public["dataset_id"])
    assert caller.own(client_id, "train", {"epochs": 2}).json()["result"]["steps_done"] == SIZE * 2 / 8
    found = caller.own(client_id, "evaluate", {"dataset_id": public["dataset_id"]}).json()
    assert (found["num_examples"], found["source"]) == (SIZE, "public")
    assert 0 <= found["accuracy"] <= 1
    said = caller.own(client_id, "predict", {"features": ROWS["features"]}).json()["predictions"]
    assert [set(one) for one in said] == [{"class", "confidence"}] * 2
    assert caller.get(client_id)["privacy"]["guarantee"] == "none"


def test_a_run_can_be_held_and_stopped(caller: Caller, public: dict[str, Any]) -> None:
    client_id = caller.create(architecture=None, dataset_id=public["dataset_id"])
    path = f"/workbench/v1/training_clients/{client_id}/train"
    run = caller.http.post(path, json={"steps": 1_000_000})
    assert run.status_code == 202
    caller.until(client_id, lambda view: view["step"] > 0)
    held = caller.own(client_id, "pause").json()
    assert (held["status"], held["paused"]) == ("busy", True)
    deadline, step = time.monotonic() + 30, -1
    while step != (step := caller.get(client_id)["step"]):  # it takes note of it between two steps
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(1)
    caller.own(client_id, "resume")
    caller.until(client_id, lambda view: view["step"] > step)
    caller.own(client_id, "stop")
    future = f"/api/v1/futures/{run.json()['future_id']}"
    ended = caller.http.get(future, params={"wait": 40}).json()
    assert (ended["status"], ended["result"]["stopped"]) == ("completed", True)
    assert caller.own(client_id, "train", {"steps": 1}).json()["result"]["steps_done"] == 1


def events_of(http: httpx.Client, client_id: str, enough: int, **headers: str) -> list[dict[str, Any]]:
    """The first events of a live feed."""
    found: list[dict[str, Any]] = []
    path = f"/workbench/v1/training_clients/{client_id}/events"
    with http.stream("GET", path, headers=headers, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        event: dict[str, Any] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name in ("id", "event", "data"):
                event[name] = value
            elif not line and event:
                found.append(event)
                event = {}
                if len(found) == enough:
                    break
    return found


def test_events_arrive_live_in_order_and_once(caller: Caller, public: dict[str, Any]) -> None:
    client_id = caller.create(architecture=None, dataset_id=public["dataset_id"])
    heard: list[dict[str, Any]] = []
    with httpx.Client(
        transport=caller.http._transport, base_url=caller.http.base_url, headers=caller.http.headers
    ) as http:
        listener = threading.Thread(target=lambda: heard.extend(events_of(http, client_id, 4)))
        listener.start()
        caller.own(client_id, "train", {"steps": 30})
        listener.join(30)
    assert [event["event"] for event in heard[:2]] == ["status", "status"]
    ids = [int(event["id"]) for event in heard]
    assert ids == sorted(set(ids))
    again = events_of(caller.http, client_id, 1, **{"Last-Event-ID": str(ids[0])})
    assert again[0] == heard[1]


def test_the_history_misses_no_point(caller: Caller, public: dict[str, Any]) -> None:
    client_id = caller.create(architecture=None, dataset_id=public["dataset_id"])
    caller.own(client_id, "train", {"steps": 300})
    steps: list[int] = []
    after = 0
    while page := caller.http.get(
        f"/workbench/v1/training_clients/{client_id}/history", params={"after": after, "limit": 3}
    ).json()["events"]:
        after = page[-1]["id"]
        for event in page:
            assert set(event) == {"id", "type", "training_client_id", "at", "data"}
            if event["type"] == "progress":
                steps += event["data"]["points"]["step"]
    assert steps == list(range(1, 301))


def test_a_failed_operation_is_told_in_the_contracts_words(caller: Caller, client_id: str) -> None:
    path = f"/api/v1/training_clients/{client_id}/optim_step"
    assert caller.http.post(path, json={}, headers={"Prefer": "wait=30"}).status_code == 400
    history = caller.http.get(f"/workbench/v1/training_clients/{client_id}/history").json()["events"]
    (told,) = [event["data"] for event in history if event["type"] == "operation"]
    assert (told["status"], told["error"]["code"]) == ("failed", "NO_GRADIENT")
    assert set(told["error"]) == {"code", "message", "details"}


def test_checkpoints_are_listed_newest_first(caller: Caller, client_id: str) -> None:
    for _ in range(2):
        caller.step(client_id)
        caller.post(client_id, "save_state")
    path = f"/workbench/v1/training_clients/{client_id}/artifacts"
    listed = [one for one in caller.http.get(path).json()["artifacts"] if not one["automatic"]]
    assert [one["step"] for one in listed] == [2, 1]
    assert {one["training_client_id"] for one in listed} == {client_id}


def test_the_ledger_is_asked_for_one_subject(api: httpx.Client) -> None:
    for query in ({}, {"dataset_id": "ds-1", "training_client_id": "tc-1"}):
        assert api.get("/workbench/v1/ledger", params=query).status_code == 422


@pytest.mark.parametrize(
    "body", [{}, {"steps": 1, "epochs": 1}, {"steps": 0}, {"epochs": 0}, {"step": 5}], ids=json.dumps
)
def test_a_run_has_one_length(caller: Caller, shared_client: str, body: dict[str, Any]) -> None:
    assert caller.own(shared_client, "train", body).status_code == 422


def names_in(feed: httpx.Response) -> Iterator[str]:
    """The names of a feed's events."""
    return (line.removeprefix("event: ") for line in feed.iter_lines() if line.startswith("event: "))


def test_a_feed_ends_when_nothing_more_can_happen(caller: Caller, client_id: str) -> None:
    caller.until(client_id, lambda view: view["status"] == "ready")
    caller.step(client_id)
    caller.http.delete(f"/api/v1/training_clients/{client_id}")
    path = f"/workbench/v1/training_clients/{client_id}"
    with caller.http.stream("GET", f"{path}/events") as feed:
        assert list(names_in(feed))[-1] == "end"
    newest = caller.http.get(f"{path}/history").json()["events"][-1]["id"]
    with caller.http.stream("GET", f"{path}/events?after={newest}") as feed:
        assert list(names_in(feed)) == ["end"]


def test_a_revoked_key_hears_no_more(
    caller: Caller, client_id: str, workbench_server: WorkbenchServer
) -> None:
    made = caller.http.post("/workbench/v1/api_keys", json={"name": "short", "scopes": ["read"]}).json()
    path = f"/workbench/v1/training_clients/{client_id}/events"
    with workbench_server.client() as other:
        other.headers["X-API-Key"] = made["key"]
        with other.stream("GET", path) as feed:
            caller.http.delete(f"/workbench/v1/api_keys/{made['key_id']}")
            assert "end" not in list(names_in(feed)), "it was hung up on, and not because all was told"
        assert other.get(path).status_code == 401


def test_a_run_says_after_which_event_it_begins(caller: Caller, public: dict[str, Any]) -> None:
    client_id = caller.create(architecture=None, dataset_id=public["dataset_id"], batch_size=8)
    for _ in range(2):
        told = caller.own(client_id, "train", {"steps": 3}).json()
        page = caller.http.get(
            f"/workbench/v1/training_clients/{client_id}/history?after={told['after_event']}"
        ).json()["events"]
        ended = [event["data"]["future_id"] for event in page if event["type"] == "operation"]
        assert ended == [told["future_id"]]
    caller.http.delete(f"/api/v1/training_clients/{client_id}")


def test_a_plan_says_what_a_run_would_cost_and_spends_nothing(
    caller: Caller, protected: dict[str, Any], private_client: str
) -> None:
    asked = {"dataset_id": protected["dataset_id"], "batch_size": 16, "epochs": 10, "target_epsilon": 2.0}
    plan = caller.http.post("/workbench/v1/plans", json=asked).json()
    assert (plan["sample_rate"], plan["steps"]) == (16 / SIZE, math.ceil(10 * SIZE / 16))
    assert 1.9 < plan["epsilon"] <= 2.0
    assert (plan["delta"], plan["epsilon_cap"], plan["fits"]) == (protected["delta"], 10.0, True)
    assert len(plan["curve"]["steps"]) == len(plan["curve"]["epsilon"]) > 10
    before = caller.http.get(f"/workbench/v1/datasets/{protected['dataset_id']}").json()
    assert caller.http.post("/workbench/v1/plans", json=asked).json() == plan
    assert caller.http.get(f"/workbench/v1/datasets/{protected['dataset_id']}").json() == before
    much = caller.http.post("/workbench/v1/plans", json={**asked, "target_epsilon": 50.0}).json()
    assert (much["fits"], much["steps_left"] < much["steps"]) == (False, True)


@pytest.mark.parametrize(
    "asked",
    [
        {"size": 100, "steps": 10},
        {"size": 100, "steps": 10, "target_epsilon": 1, "noise_multiplier": 1},
        {"steps": 10, "target_epsilon": 1},
        {"size": 100, "target_epsilon": 1},
        {"size": 100, "steps": 10, "epochs": 1, "target_epsilon": 1},
        {"size": 100, "steps": 10, "target_epsilon": 1, "delta": 0.5},
        {"size": 2**53, "epochs": 1_000_000, "target_epsilon": 1},
        {"size": 100, "steps": 10, "target_epsilon": 1, "accountant": "gdp"},
    ],
    ids=str,
)
def test_a_plan_that_is_none_is_refused(api: httpx.Client, asked: dict[str, Any]) -> None:
    answer = api.post("/workbench/v1/plans", json=asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "VALIDATION_ERROR")


def test_a_plan_on_a_dataset_of_somebody_else_is_not_found(api: httpx.Client) -> None:
    asked = {"dataset_id": "ds-nobody", "steps": 10, "target_epsilon": 1}
    assert api.post("/workbench/v1/plans", json=asked).status_code == 404


# ----------------------------------------------------------------------------- audits
def test_an_audit_is_a_future_and_a_retry_is_the_same_one(
    caller: Caller, private_client: str, key: str
) -> None:
    path = f"/workbench/v1/training_clients/{private_client}/audit"
    sure = 1 - 1e-7  # at 0.95 one audit in 170 goes above such a small epsilon
    asked = {"method": "mechanism", "canaries": 500, "steps": 20, "confidence": sure}
    first = caller.http.post(path, json=asked, headers={"Idempotency-Key": key})
    assert (first.status_code, first.json()["operation"]) == (202, "audit")
    again = caller.http.post(path, json=asked, headers={"Idempotency-Key": key, **WAIT})
    assert (again.status_code, again.json()["future_id"]) == (200, first.json()["future_id"])
    found = again.json()["result"]
    assert 0.0 <= found["epsilon_lower_bound"] <= found["epsilon"]
    assert found["gap"] == pytest.approx(found["epsilon"] - found["epsilon_lower_bound"])
    assert (found["method"], found["canaries"], found["steps"]) == ("mechanism", 500, 20)
    assert caller.get(private_client)["privacy"]["spent_epsilon"] == 0.0


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "guesswork"},
        {"method": None},
        {"method": "lira", "canaries": 100},
        {"canaries": 20_001},
        {"confidence": "0.95"},
        {"epsilon": 1.0},
    ],
    ids=str,
)
def test_an_audit_that_is_none_is_refused(caller: Caller, shared_client: str, asked: dict[str, Any]) -> None:
    answer = caller.own(shared_client, "audit", asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "VALIDATION_ERROR")


def test_an_audit_of_nothing_says_what_is_missing(caller: Caller, client_id: str) -> None:
    answer = caller.own(client_id, "audit", {"steps": 5})
    assert answer.status_code == 422
    assert "without differential privacy" in answer.json()["error"]["message"]


def test_the_seed_of_canaries_is_neither_taken_nor_shown(caller: Caller, public: dict[str, Any]) -> None:
    body = {"model_ref": "mlp", "dataset_id": public["dataset_id"], "audit_canaries": 50}
    answer = caller.http.post("/api/v1/training_clients", json={**body, "audit_seed": "ab" * 32})
    assert answer.status_code == 422
    client_id = caller.create(architecture=None, dataset_id=public["dataset_id"], audit_canaries=50)
    view = caller.until(client_id, lambda view: bool(view["status"] == "ready"))
    assert view["config"]["audit_canaries"] == 50
    for path in (f"/api/v1/training_clients/{client_id}", "/api/v1/training_clients"):
        assert "audit_seed" not in caller.http.get(path).text
    history = caller.http.get(f"/workbench/v1/training_clients/{client_id}/history")
    assert "audit_seed" not in history.text
    caller.http.delete(f"/api/v1/training_clients/{client_id}")
