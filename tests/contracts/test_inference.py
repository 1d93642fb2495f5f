"""Models that answer: predict, inference services, the Open Inference Protocol, texts as they are written."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.http as triton

from tests.contracts.envelopes import refusal
from tests.contracts.people import Person
from tests.learned import mlp_onnx, principal_of, put_model, scattering, tiny_llama
from tests.workbench_server import WorkbenchServer
from tg_workbench.execution import Work, run_folder
from tg_workbench.models.serving.places import is_listening, socket_path, work_id
from tg_workbench.storage import Database

ROW = [0.0, 5.0, 1.0, 0.0]
SERVICES = "/api/v1/inference/services"
OURS = "/workbench/v1/services"


def until(is_so: Callable[[], bool], seconds: float = 60.0) -> float:
    """Wait until something is so, and say how long that took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < seconds, "it never was"
        time.sleep(0.02)
    return time.monotonic() - began


def oip(name: str) -> str:
    return f"/workbench/v1/inference/{name}/v2"


def tensors(rows: list[list[float]], **more: Any) -> dict[str, Any]:
    tensor = {"name": "features", "shape": [len(rows), 4], "datatype": "FP32", "data": rows}
    return {"inputs": [{**tensor, **more}]}


@pytest.fixture(scope="module")
def model(workbench_server: WorkbenchServer) -> str:
    """A model whose answer anybody can compute: the largest of a row's first three numbers."""
    return put_model(workbench_server)


@pytest.fixture(scope="module")
def language_model(workbench_server: WorkbenchServer) -> str:
    return put_model(workbench_server, **tiny_llama())


def started(api: httpx.Client, model_id: str, **more: Any) -> dict[str, Any]:
    """A service that is ready."""
    body = {"name": f"s-{uuid.uuid4().hex[:12]}", "model_id": model_id, **more}
    created = api.post(SERVICES, json=body)
    assert created.status_code == 201, created.text
    service: dict[str, Any] = created.json()["data"]
    assert service["status"] == "stopped"
    assert api.post(f"{SERVICES}/{service['id']}/start").json()["data"]["status"] in ("starting", "ready")
    until(lambda: bool(api.get(f"{OURS}/{service['id']}").json()["replicas"]), 90.0)
    return service


@pytest.fixture
def service(api: httpx.Client, model: str) -> Iterator[dict[str, Any]]:
    made = started(api, model)
    yield made
    api.delete(f"{OURS}/{made['id']}")


@pytest.fixture(scope="module")
def writer(api: httpx.Client, language_model: str) -> Iterator[dict[str, Any]]:
    """A service with a language model."""
    made = started(api, language_model)
    yield made
    api.delete(f"{OURS}/{made['id']}")


def worker_of(server: WorkbenchServer, target_id: str) -> int | None:
    """The process that does a service's or a model's work, if it listens."""
    work = work_id(target_id, 0)
    database = Database(server.database_url)
    with database.read() as session:
        row = session.get(Work, work)
    database.close()
    return row.pid if row is not None and is_listening(run_folder(server.home), work) else None


# ----------------------------------------------------------------------------- predict
@pytest.mark.operation("S3-15")
def test_predict_answers_one_row_and_several_as_the_document_shows(api: httpx.Client, model: str) -> None:
    one = api.post(f"/models/{model}/predict", json={"input": ROW})
    assert one.status_code == 200, one.text
    (found,) = one.json()["predictions"]
    assert found["class"] == "dog"
    assert found["confidence"] == pytest.approx(np.exp(5) / (1 + np.exp(5) + np.exp(1)))
    several = api.post(f"/models/{model}/predict", json={"inputs": [ROW, [9, 0, 0, 0], [0, 0, 9, 0]]})
    assert [row["class"] for row in several.json()["predictions"]] == ["dog", "cat", "owl"]


@pytest.mark.operation("S3-15")
@pytest.mark.parametrize(
    ("body", "where", "says"),
    [
        ({}, "body", "either input"),
        ({"input": ROW, "inputs": [ROW]}, "body", "either input"),
        ({"input": [1, 2, 3]}, "input", "has 3 numbers"),
        ({"input": [1, "2", 3, 4]}, "input", "must be a number"),
        ({"input": [1, True, 3, 4]}, "input", "must be a number"),
        ({"input": [1, None, 3, 4]}, "input", "must be a number"),
        ({"inputs": []}, "inputs", "at least one row"),
        ({"inputs": [ROW, [1]]}, "inputs", "has 1 numbers"),
        ({"inputs": [ROW, {"a": 1}]}, "inputs", "must be a list"),
        ({"inputs": [[1e300, 0, 0, 0]]}, "inputs", "too large"),
        ({"inputs": [ROW] * 10_001}, "inputs", "at most 10000"),
        ({"inputs": "abc"}, "inputs", "must be a list"),
    ],
    ids=range(12),
)
def test_predict_says_which_row_is_wrong(
    api: httpx.Client, model: str, body: Any, where: str, says: str
) -> None:
    answer = api.post(f"/models/{model}/predict", json=body)
    assert refusal(answer, "deep_learning").code == "validation_error"
    (problem,) = answer.json()["details"]
    assert problem["field"] == where
    assert says in problem["message"]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"input": [NaN, 0, 0, 0]}', b'{"input": [1e999]}', b"\x80"]
)
def test_predict_reads_json_strictly(api: httpx.Client, model: str, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = api.post(f"/models/{model}/predict", content=content, headers=headers)
    assert refusal(answer, "deep_learning").status == 400


def test_predict_gives_values_where_a_model_has_no_classes(
    api: httpx.Client, workbench_server: WorkbenchServer
) -> None:
    model_id = put_model(workbench_server, task="regression", class_names=None)
    answer = api.post(f"/models/{model_id}/predict", json={"input": ROW})
    assert answer.json() == {"predictions": [{"value": [0.0, 5.0, 1.0]}]}


def test_predict_falls_back_to_torch_where_there_is_no_onnx(
    api: httpx.Client, workbench_server: WorkbenchServer
) -> None:
    model_id = put_model(workbench_server, **scattering())
    flat = api.post(f"/models/{model_id}/predict", json={"input": [0.5] * 64})
    nested = api.post(f"/models/{model_id}/predict", json={"input": [[[0.5] * 8] * 8]})
    assert flat.status_code == 200, flat.text
    assert flat.json() == nested.json()


def test_predict_tells_why_a_model_does_not_open(
    api: httpx.Client, workbench_server: WorkbenchServer
) -> None:
    model_id = put_model(workbench_server, onnx=b"no graph")
    answer = api.post(f"/models/{model_id}/predict", json={"input": ROW})
    assert refusal(answer, "deep_learning").status == 409
    assert "does not load" in answer.json()["message"]


def test_a_model_is_asked_by_its_owner_only(
    workbench_server: WorkbenchServer, model: str, alice: Person, bob: Person
) -> None:
    hers = put_model(workbench_server, principal_of(workbench_server, alice))
    assert alice.http.post(f"/models/{hers}/predict", json={"input": ROW}).status_code == 200
    for other in (hers, model):
        assert bob.http.post(f"/models/{other}/predict", json={"input": ROW}).status_code == 404


def test_a_worker_answers_its_own_user_only(
    api: httpx.Client, model: str, workbench_server: WorkbenchServer
) -> None:
    api.post(f"/models/{model}/predict", json={"input": ROW})
    path = socket_path(run_folder(workbench_server.home), work_id(model, 0))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "content",
    [b"GET / HTTP/1.1\r\n\r\n", b"tgf1" + b"\xff" * 8, b"tgf1" + bytes(8), b"tgf1\x02\0\0\0\0\0\0\0[]"],
)
def test_a_worker_hangs_up_on_what_is_no_frame(
    api: httpx.Client, model: str, workbench_server: WorkbenchServer, content: bytes
) -> None:
    api.post(f"/models/{model}/predict", json={"input": ROW})
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(60)
        link.connect(str(socket_path(run_folder(workbench_server.home), work_id(model, 0))))
        link.sendall(content)
        assert link.recv(100) == b""
    assert api.post(f"/models/{model}/predict", json={"input": ROW}).status_code == 200


# ----------------------------------------------------------------------------- services
@pytest.mark.operation("S1-12", "S1-13", "S1-14", "S1-15")
def test_a_service_is_made_started_stopped_and_listed(api: httpx.Client, model: str) -> None:
    body = {"name": "mnist-inference", "model_id": model, "runtime": "triton", "gpu_count": 1}
    created = api.post(SERVICES, json=body)
    assert created.status_code == 201, created.text
    service = created.json()["data"]
    assert (service["status"], service["runtime"], service["runtime_used"]) == (
        "stopped",
        "triton",
        "onnxruntime",
    )
    assert [warning.split()[0] for warning in service["warnings"]] == ["no", "1"]
    path = f"{SERVICES}/{service['id']}"
    assert api.post(f"{path}/start").json()["data"]["status"] in ("starting", "ready")
    until(lambda: api.get(f"{OURS}/mnist-inference").json()["status"] == "ready")
    assert api.post(f"{path}/stop").json()["data"]["status"] in ("stopping", "stopped")
    until(lambda: api.get(f"{OURS}/mnist-inference").json()["status"] == "stopped")
    listed = api.get(SERVICES, params={"page_size": 100}).json()
    assert listed["success"] is True
    assert service["id"] in [one["id"] for one in listed["data"]]
    assert listed["meta"]["page"] == 1
    assert listed["meta"]["total"] >= 1
    assert (
        refusal(
            api.post(f"{oip('mnist-inference')}/models/{model}/infer", json=tensors([ROW])), "open_inference"
        ).status
        == 409
    )
    assert api.delete(f"{OURS}/{service['id']}").json() == {"deleted": True}
    assert api.get(f"{OURS}/{service['id']}").status_code == 404


@pytest.mark.operation("S1-13")
@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a b"},
        {"name": ""},
        {"runtime": "pickle"},
        {"gpu_count": -1},
        {"min_replicas": 2},
        {"max_replicas": 0},
        {"max_replicas": 17},
    ],
    ids=range(7),
)
def test_a_service_that_cannot_be_is_refused(api: httpx.Client, model: str, wrong: dict[str, Any]) -> None:
    answer = api.post(SERVICES, json={"name": "wrong", "model_id": model, **wrong})
    assert refusal(answer, "aitip").code == "Bad Request"


@pytest.mark.operation("S1-13")
def test_a_name_is_one_services_only(api: httpx.Client, service: dict[str, Any], alice: Person) -> None:
    again = api.post(SERVICES, json={"name": service["name"], "model_id": service["model_id"]})
    assert refusal(again, "aitip").code == "Conflict"
    stranger_model = alice.http.post(
        SERVICES, json={"name": service["name"], "model_id": service["model_id"]}
    )
    assert stranger_model.status_code == 404


@pytest.mark.operation("S1-14")
def test_a_service_whose_model_does_not_open_has_failed(
    api: httpx.Client, workbench_server: WorkbenchServer
) -> None:
    model_id = put_model(workbench_server, onnx=b"no graph")
    made = api.post(SERVICES, json={"name": "broken", "model_id": model_id}).json()["data"]
    api.post(f"{SERVICES}/{made['id']}/start")
    until(lambda: api.get(f"{OURS}/broken").json()["status"] == "failed")
    assert "does not load" in api.get(f"{OURS}/broken").json()["reason"]
    assert refusal(api.get(f"{oip('broken')}/health/ready"), "open_inference").status == 503
    assert api.delete(f"{OURS}/broken").status_code == 200


def test_a_killed_worker_is_not_ready_and_the_next_one_answers_soon(
    api: httpx.Client, service: dict[str, Any], workbench_server: WorkbenchServer
) -> None:
    """Under load: every answer that comes is the right one, and the others say when to come back."""
    path, stop = f"{oip(service['name'])}/models/{service['model_id']}/infer", threading.Event()
    answers: list[tuple[float, int, bool]] = []

    def ask(number: int) -> None:
        with workbench_server.client() as http:
            row = [float(number), 0.0, -1.0, 0.0]
            while not stop.is_set():
                answer = http.post(path, json=tensors([row]))
                is_right = answer.status_code == 503 and answer.headers["retry-after"] == "1"
                if answer.status_code == 200:
                    is_right = answer.json()["outputs"][0]["data"] == row[:3]
                answers.append((time.monotonic(), answer.status_code, is_right))

    with ThreadPoolExecutor(8) as threads:
        asking = [threads.submit(ask, number) for number in range(8)]
        try:
            time.sleep(1.0)
            pid = worker_of(workbench_server, service["id"])
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
            until(lambda: worker_of(workbench_server, service["id"]) not in (None, pid))
            time.sleep(1.5)
        finally:
            stop.set()
        for one in asking:
            one.result()
    assert all(is_right for _, _, is_right in answers)
    assert {status for _, status, _ in answers} <= {200, 503}
    again = min(at for at, status, _ in answers if at > killed + 0.1 and status == 200)
    assert again - killed < 5.0
    assert sum(status == 503 for _, status, _ in answers) <= 16


def test_readiness_follows_the_worker(
    api: httpx.Client, service: dict[str, Any], workbench_server: WorkbenchServer
) -> None:
    pid = worker_of(workbench_server, service["id"])
    assert pid is not None
    ready = f"{oip(service['name'])}/health/ready"
    assert api.get(ready).status_code == 200
    children = psutil.Process(workbench_server.pid).children()
    (dispatcher,) = (child for child in children if child.cmdline()[-1:] == ["dispatch"])
    dispatcher.suspend()  # it must not be quicker than this test
    try:
        os.kill(pid, signal.SIGKILL)
        until(lambda: api.get(ready).status_code == 503)
    finally:
        dispatcher.resume()
    until(lambda: api.get(ready).status_code == 200)
    assert api.get(f"{OURS}/{service['id']}").json()["status"] == "ready"


def test_a_service_outlives_a_killed_api(
    api: httpx.Client, service: dict[str, Any], workbench_server: WorkbenchServer
) -> None:
    before = worker_of(workbench_server, service["id"])
    assert before is not None
    workbench_server.kill()
    workbench_server.restart()
    path = f"{oip(service['name'])}/models/{service['name']}/infer"
    with workbench_server.client() as http:
        assert http.post(path, json=tensors([ROW])).status_code == 200
    assert worker_of(workbench_server, service["id"]) == before


def test_a_service_gets_more_workers_while_a_queue_stays(
    api: httpx.Client, workbench_server: WorkbenchServer
) -> None:
    model_id = put_model(workbench_server, onnx=mlp_onnx(hidden=(2048, 2048)))
    made, stop = started(api, model_id, max_replicas=2), threading.Event()

    def ask() -> None:
        with workbench_server.client() as http:
            while not stop.is_set():
                http.post(f"{oip(made['id'])}/models/{model_id}/infer", json=tensors([ROW] * 100))

    with ThreadPoolExecutor(12) as threads:
        asking = [threads.submit(ask) for _ in range(12)]
        try:
            until(lambda: api.get(f"{OURS}/{made['id']}").json()["replicas"] == 2)
        finally:
            stop.set()
            for one in asking:
                one.result()
    assert api.delete(f"{OURS}/{made['id']}").status_code == 200


def test_nobody_keeps_the_workers_of_everybody(api: httpx.Client, model: str) -> None:
    made = []
    for number in range(2):
        body = {"name": f"kept-{number}-{uuid.uuid4().hex[:8]}", "model_id": model}
        made.append(
            api.post(SERVICES, json={**body, "min_replicas": 3, "max_replicas": 3}).json()["data"]["id"]
        )
    assert api.post(f"{SERVICES}/{made[0]}/start").status_code == 200
    refused = api.post(f"{SERVICES}/{made[1]}/start")
    assert (refused.status_code, "4 are the most" in refused.text) == (409, True)
    assert api.post(f"{SERVICES}/{made[0]}/stop").status_code == 200
    assert api.post(f"{SERVICES}/{made[1]}/start").status_code == 200
    for service in made:
        assert api.delete(f"{OURS}/{service}").status_code == 200


@pytest.fixture(scope="module")
def brief_server() -> Iterator[WorkbenchServer]:
    """Workers leave here after two seconds in which nobody asks."""
    server = WorkbenchServer(TG_WORKER_IDLE_SECONDS="2")
    yield server
    server.stop()


def test_an_idle_worker_leaves_and_the_next_call_starts_another(brief_server: WorkbenchServer) -> None:
    model_id = put_model(brief_server)
    with brief_server.client() as http:
        made = started(http, model_id)
        path = f"{OURS}/{made['id']}"
        until(lambda: http.get(path).json()["replicas"] == 0)
        assert http.get(path).json()["status"] == "ready"
        answer = http.post(f"{oip(made['id'])}/models/{model_id}/infer", json=tensors([ROW]))
        assert answer.status_code == 200, answer.text


def test_a_service_that_wants_one_always_keeps_it(brief_server: WorkbenchServer) -> None:
    model_id = put_model(brief_server)
    with brief_server.client() as http:
        made = started(http, model_id, min_replicas=1)
        time.sleep(4.0)
        assert http.get(f"{OURS}/{made['id']}").json()["replicas"] == 1


# ----------------------------------------------------------------------------- the protocol
class Wired:
    """tritonclient, unchanged, on a port of its own that leads to the workbench's socket."""

    def __init__(self, server: WorkbenchServer, service: str) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.target = str(server.socket)
        threading.Thread(target=self._accept, daemon=True).start()
        port = self.listener.getsockname()[1]
        self.client = triton.InferenceServerClient(f"127.0.0.1:{port}/workbench/v1/inference/{service}")
        self.headers = {"Authorization": f"Bearer {server.api_key}"}
        self.port = port

    def close(self) -> None:
        self.client.close()
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self.target)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def wired(workbench_server: WorkbenchServer, service: dict[str, Any]) -> Iterator[Wired]:
    found = Wired(workbench_server, service["name"])
    yield found
    found.close()


def test_tritonclient_finds_its_way_about(wired: Wired, service: dict[str, Any]) -> None:
    client, headers, model_id = wired.client, wired.headers, service["model_id"]
    assert client.is_server_live(headers=headers)
    assert client.is_server_ready(headers=headers)
    assert client.is_model_ready(model_id, headers=headers)
    assert client.is_model_ready(model_id, "1", headers=headers)
    assert not client.is_model_ready(model_id, "2", headers=headers)
    assert "binary_tensor_data" in client.get_server_metadata(headers=headers)["extensions"]
    told = client.get_model_metadata(model_id, headers=headers)
    assert told["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 4]}]
    assert told["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": [-1, 3]}]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_tritonclient_infers(
    wired: Wired, service: dict[str, Any], binary_in: bool, binary_out: bool | None
) -> None:
    rows = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    asked = triton.InferInput("features", [7, 4], "FP32")
    asked.set_data_from_numpy(rows, binary_data=binary_in)
    outputs = None if binary_out is None else [triton.InferRequestedOutput("scores", binary_data=binary_out)]
    found = wired.client.infer(
        service["model_id"], [asked], outputs=outputs, request_id="r-1", headers=wired.headers
    )
    assert found.get_response()["id"] == "r-1"
    np.testing.assert_allclose(found.as_numpy("scores"), rows[:, :3], rtol=1e-6)


def test_tritonclient_asks_for_classes(wired: Wired, service: dict[str, Any]) -> None:
    asked = triton.InferInput("features", [1, 4], "FP32")
    asked.set_data_from_numpy(np.array([ROW], np.float32))
    for binary in (True, False):
        wanted = triton.InferRequestedOutput("scores", binary_data=binary, class_count=2)
        found = wired.client.infer(service["model_id"], [asked], outputs=[wanted], headers=wired.headers)
        told = [
            text.decode() if isinstance(text, bytes) else text for text in found.as_numpy("scores").ravel()
        ]
        assert told == ["5.000000:1:dog", "1.000000:2:owl"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "one input"),
        ({"inputs": []}, "one input"),
        (tensors([ROW], name="other"), "called features"),
        (tensors([ROW], datatype="FP64"), "FP32"),
        (tensors([ROW], datatype="BYTES"), "FP32"),
        (tensors([ROW], shape=[2, 4]), "its shape says"),
        (tensors([ROW], shape=[1, 5]), "shape"),
        (tensors([ROW], shape=[-1, 4]), "shape"),
        (tensors([ROW], shape=[0, 4]), "shape"),
        (tensors([ROW], shape=[2**62, 4]), "shape"),
        (tensors([ROW], data="abc"), "list of numbers"),
        (tensors([ROW], data=[[True] * 4]), "numbers"),
        (tensors([ROW], data=[[1e300] * 4]), "finite"),
        (tensors([ROW], parameters={"binary_data_size": 16}), "binary_data_size"),
        ({**tensors([ROW]), "outputs": [{"name": "other"}]}, "called scores"),
        ({**tensors([ROW]), "outputs": 3}, "outputs"),
        ({**tensors([ROW]), "parameters": 3}, "parameters"),
    ],
    ids=range(17),
)
def test_infer_says_what_is_wrong(
    api: httpx.Client, service: dict[str, Any], body: dict[str, Any], says: str
) -> None:
    answer = api.post(f"{oip(service['name'])}/models/{service['model_id']}/infer", json=body)
    found = refusal(answer, "open_inference")
    assert found.status == 400
    assert says in found.message


@pytest.mark.parametrize(
    ("length", "raw"),
    [("-1", b""), ("x", b""), ("999999", b""), (None, bytes(15)), (None, bytes(17)), (None, b"")],
)
def test_infer_counts_raw_bytes_before_it_reads_them(
    api: httpx.Client, service: dict[str, Any], length: str | None, raw: bytes
) -> None:
    tensor = {"name": "features", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)) if length is None else length}
    path = f"{oip(service['name'])}/models/{service['model_id']}/infer"
    answer = api.post(path, content=head + raw, headers=headers)
    assert refusal(answer, "open_inference").status == 400


def test_a_wrong_question_among_many_fails_alone(
    workbench_server: WorkbenchServer, service: dict[str, Any]
) -> None:
    path = f"{oip(service['name'])}/models/{service['model_id']}/infer"

    def ask(number: int) -> int:
        row = [float(number), 0.0, 0.0, 0.0]
        body = tensors([row], datatype="INT8") if number % 5 == 0 else tensors([row])
        with workbench_server.client() as http:
            answer = http.post(path, json=body)
        if answer.status_code == 200:
            assert answer.json()["outputs"][0]["data"] == row[:3]
        return answer.status_code

    with ThreadPoolExecutor(10) as threads:
        statuses = list(threads.map(ask, range(50)))
    assert statuses == [400 if number % 5 == 0 else 200 for number in range(50)]


@pytest.fixture(scope="module")
def proxying() -> Iterator[tuple[WorkbenchServer, str]]:
    """A workbench whose Triton is a second workbench, and the id of a model that both have."""
    ours, theirs = WorkbenchServer(), WorkbenchServer()
    both = put_model(ours)
    with theirs.client() as http:
        named = started(http, put_model(theirs, class_names=("x", "y", "z")), name=both)
    wire = Wired(theirs, both)
    url = f"http://127.0.0.1:{wire.port}/workbench/v1/inference/{named['id']}"
    ours._variables.update(TG_TRITON_URL=url, TG_TRITON_TOKEN=theirs.api_key)
    ours.restart()
    yield ours, both
    wire.close()
    theirs.stop()
    ours.stop()


def test_a_service_asks_the_triton_that_has_its_model(proxying: tuple[WorkbenchServer, str]) -> None:
    ours, both = proxying
    body = {"name": "far", "model_id": both, "runtime": "triton"}
    with ours.client() as http:
        assert http.post(SERVICES, json=body).json()["data"]["runtime_used"] == "triton"
        made = http.post(f"{SERVICES}/far/start").json()["data"]
        assert (made["status"], made["warnings"]) == ("ready", [])
    wire = Wired(ours, "far")
    asked = triton.InferInput("features", [1, 4], "FP32")
    asked.set_data_from_numpy(np.array([ROW], np.float32))
    wanted = triton.InferRequestedOutput("scores", class_count=1)
    found = wire.client.infer(both, [asked], outputs=[wanted], headers=wire.headers)
    assert found.as_numpy("scores").ravel().tolist() == [b"5.000000:1:y"]  # as the other workbench calls it
    wire.close()
    with ours.client() as http:
        wrong = http.post(f"{oip('far')}/models/{both}/infer", json=tensors([ROW], datatype="INT8"))
        assert refusal(wrong, "open_inference").status == 400


def test_a_service_says_that_the_triton_lacks_its_model(proxying: tuple[WorkbenchServer, str]) -> None:
    ours, _ = proxying
    with ours.client() as http:
        made = started(http, put_model(ours), name="near", runtime="triton")
        assert made["runtime_used"] == "onnxruntime"
        assert "no Triton server has this model" in made["warnings"][0]
        answer = http.post(f"{oip('near')}/models/near/infer", json=tensors([ROW]))
        assert answer.json()["outputs"][0]["data"] == ROW[:3]


# ----------------------------------------------------------------------------- texts
def test_a_language_model_writes_on(api: httpx.Client, writer: dict[str, Any]) -> None:
    path = f"{oip(writer['id'])}/models/{writer['model_id']}/generate"
    body = {"text_input": "once upon", "parameters": {"max_tokens": 12, "temperature": 0}}
    answer = api.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"model_name", "model_version", "text_output"}
    assert api.post(path, json=body).json() == answer.json()


@pytest.mark.parametrize("text", ["a" * 100_000, "\N{SNOWMAN}" * 30_000], ids=["long", "not ascii"])
def test_a_text_that_a_language_model_cannot_read_is_refused_with_its_length(
    api: httpx.Client, writer: dict[str, Any], text: str
) -> None:
    path = f"{oip(writer['id'])}/models/{writer['model_id']}"
    for verb in ("generate", "generate_stream"):
        answer = api.post(f"{path}/{verb}", json={"text_input": text, "max_tokens": 2})
        assert (answer.status_code, "this model reads" in answer.text) == (400, True), answer.text


def test_a_language_model_tells_tokens_as_they_come(api: httpx.Client, writer: dict[str, Any]) -> None:
    path = f"{oip(writer['id'])}/models/{writer['model_id']}"
    body = {"text_input": "once upon", "max_tokens": 40}
    whole = api.post(f"{path}/generate", json=body).json()["text_output"]
    with api.stream("POST", f"{path}/generate_stream", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    pieces = [json.loads(line.removeprefix("data: "))["text_output"] for line in lines]
    assert "".join(pieces) == whole
    assert len(pieces) > 1


def test_a_reader_who_leaves_frees_the_language_model(api: httpx.Client, writer: dict[str, Any]) -> None:
    path = f"{oip(writer['id'])}/models/{writer['model_id']}"
    body = {"text_input": "a", "max_tokens": 500, "temperature": 1.0}
    for _ in range(3):
        with api.stream("POST", f"{path}/generate_stream", json=body) as answer:
            next(answer.iter_raw())
    began = time.monotonic()
    assert api.post(f"{path}/generate", json={"text_input": "a", "max_tokens": 1}).status_code == 200
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"text_input": ""},
        {"max_tokens": 0},
        {"max_tokens": 5000},
        {"temperature": -1},
        {"parameters": {"top_p": 0}},
    ],
    ids=range(5),
)
def test_a_text_that_cannot_be_written_is_refused(
    api: httpx.Client, writer: dict[str, Any], wrong: dict[str, Any]
) -> None:
    for verb in ("generate", "generate_stream"):
        path = f"{oip(writer['id'])}/models/{writer['model_id']}/{verb}"
        answer = api.post(path, json={"text_input": "a", **wrong})
        assert refusal(answer, "open_inference").status == 400


def test_a_language_model_predicts_the_next_token(api: httpx.Client, language_model: str) -> None:
    answer = api.post(f"/models/{language_model}/predict", json={"inputs": ["once", "upon"]})
    assert answer.status_code == 200, answer.text
    assert all(0 < found["confidence"] <= 1 for found in answer.json()["predictions"])
    wrong = api.post(f"/models/{language_model}/predict", json={"inputs": ["once", 3]})
    assert refusal(wrong, "deep_learning").status == 400


def test_each_model_says_what_it_cannot_be_asked(
    api: httpx.Client, service: dict[str, Any], writer: dict[str, Any]
) -> None:
    rows = api.post(f"{oip(service['id'])}/models/{service['model_id']}/generate", json={"text_input": "a"})
    texts = api.post(f"{oip(writer['id'])}/models/{writer['model_id']}/infer", json=tensors([ROW]))
    assert refusal(rows, "open_inference").status == refusal(texts, "open_inference").status == 400
