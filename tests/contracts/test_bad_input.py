"""Bad input is the caller's error, in the contract's envelope, without a word of what was sent."""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from typing import Any

import httpx
import pytest

from tests.contracts.conftest import ROWS, Caller
from tests.contracts.envelopes import refusal
from tests.workbench_server import WorkbenchServer
from tg_workbench.contracts.table import PREFIXES, contract_name_at

CREATE = "/api/v1/training_clients"
JSON = {"Content-Type": "application/json"}
NOT_A_NUMBER = struct.pack("<4f", math.nan, 1, 2, 3)
MALFORMED = {
    "nothing": b"",
    "half": b'{"model_ref": "ml',
    "NaN": b'{"model_ref": "mlp", "batch_size": NaN}',
    "Infinity": b'{"model_ref": "mlp", "optimizer": {"learning_rate": Infinity}}',
    "1e999": b'{"model_ref": "mlp", "optimizer": {"learning_rate": 1e999}}',
    "1e999 where anything goes": b'{"model_ref": "mlp", "metadata": {"a": [1e999]}}',
    "lone surrogate": b'{"model_ref": "\\ud800"}',
    "lone surrogate as a name": b'{"model_ref": "mlp", "metadata": {"\\udc00": 1}}',
    "lone surrogate of the wrong type": b'{"model_ref": "mlp", "batch_size": "\\ud800"}',
    "NUL": b'{"model_ref": "mlp\\u0000"}',
    "NUL as a name": b'{"model_ref": "mlp", "metadata": {"\\u0000": 1}}',
    "2^63": b'{"model_ref": "mlp", "metadata": {"a": 9223372036854775808}}',
    "-2^63-1": b'{"model_ref": "mlp", "metadata": {"a": -9223372036854775809}}',
    "5000 digits": b'{"model_ref": "mlp", "batch_size": ' + b"9" * 5000 + b"}",
    "deep": b'{"model_ref": "mlp", "metadata": {"a": ' + b"[" * 40 + b"]" * 40 + b"}}",
    "very deep": b"[" * 100_000 + b"]" * 100_000,
    "not UTF-8": b'{"model_ref": "\xff"}',
    "UTF-16": '{"model_ref": "mlp"}'.encode("utf-16"),
    "an array": b"[]",
    "a text": b'"mlp"',
    "null": b"null",
}


def problem_of(answer: httpx.Response, status: int = 422, code: str = "VALIDATION_ERROR") -> dict[str, Any]:
    """The error in an answer, whose envelope is checked on the way."""
    error: dict[str, Any] = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    assert set(error) == {"code", "message", "details", "request_id"}
    assert error["request_id"] == answer.headers["x-request-id"]
    return error


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_json_is_a_validation_error(api: httpx.Client, name: str) -> None:
    problem_of(api.post(CREATE, content=MALFORMED[name], headers=JSON))


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_json_is_one_where_tensors_may_come_too(api: httpx.Client, name: str) -> None:
    path = "/api/v1/training_clients/tc-none/forward_backward"
    problem_of(api.post(path, content=MALFORMED[name], headers=JSON))


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 0},
        {"batch_size": "8"},
        {"batch_size": 1.5},
        {"max_steps": -1},
        {"lora_config": {"rank": 0}},
        {"lora_config": {"rank": 513}},
        {"lora_config": {"bias": "some"}},
        {"optimizer": {"learning_rate": 0}},
        {"optimizer": {"learning_rate": 1.01}},
        {"optimizer": {"name": "adamax"}},
        {"optimizer": {"betas": [0.9]}},
        {"optimizer": {"betas": [0.9, 1.0]}},
        {"dp_config": {"noise_multiplier": 0}},
        {"dp_config": {"max_grad_norm": -1}},
        {"dp_config": {"target_delta": 1}},
        {"dp_config": {"accountant_type": "guess"}},
        {"dp_config": {"noise_multiplyer": 2.0}},
        {"dp_config": {"engine": "opacus"}},
        {"dp_config": {"engine": None}},
        {"dp_conifg": {}},
        {"architecture": {"input_shape": [], "output_size": 2}},
        {"architecture": {"input_shape": [4], "output_size": 0}},
        {"metadata": {"long": "x" * 70_000}},
        {"loss": "hinge"},
        {"gradient_checkpointing": "yes"},
        {"precision": "fp8"},
        {"precision": None},
        {"model_ref": None},
        {"dataset_id": "../../etc/passwd"},
    ],
    ids=str,
)
def test_what_is_out_of_bounds_is_refused(api: httpx.Client, change: dict[str, Any]) -> None:
    body = {"model_ref": "mlp", "architecture": {"input_shape": [4], "output_size": 2}, **change}
    error = problem_of(api.post(CREATE, json=body))
    assert error["details"]["problems"]


def test_no_answer_repeats_what_was_sent(api: httpx.Client) -> None:
    secret = "patient-4711"
    bodies: list[Any] = [
        {"model_ref": secret},
        {"model_ref": "mlp", "batch_size": secret},
        {"model_ref": "mlp", secret: 1},
        {"model_ref": "mlp", "dp_config": {secret: 1}},
        {"model_ref": "mlp", "optimizer": {"name": secret}},
        [secret],
        secret,
    ]
    answers = [api.post(CREATE, json=body) for body in bodies]
    answers += [api.post(CREATE, content=f'{{"{secret}": {secret}}}', headers=JSON)]
    answers += [api.get(f"/{secret}"), api.get(f"{CREATE}?limit={secret}"), api.get(f"{CREATE}/{secret}%20")]
    for answer in answers:
        assert 400 <= answer.status_code < 500
        assert secret not in answer.text
        assert secret not in str(answer.headers)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=1e3", "offset=-1", "offset=9223372036854775808", "limit=", "limit=%00"],
)
def test_a_page_out_of_bounds_is_refused(api: httpx.Client, query: str) -> None:
    problem_of(api.get(f"{CREATE}?{query}"))


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"model_ref": "mlp"}', {"Content-Type": "text/plain"}),
        (b'{"model_ref": "mlp"}', {}),
        (b"model_ref=mlp", {"Content-Type": "application/x-www-form-urlencoded"}),
    ],
)
def test_a_body_that_does_not_say_it_is_json_is_told_to(
    api: httpx.Client, body: bytes, headers: dict[str, str]
) -> None:
    error = problem_of(api.post(CREATE, content=body, headers=headers))
    assert "Content-Type: application/json" in error["message"]


@pytest.mark.parametrize(
    "batch",
    [
        {},
        {"features": [], "targets": []},
        {"features": [[1.0, 2.0, 3.0, 4.0]]},
        {"features": [[1.0]], "targets": [0], "colour": [1]},
        {"input_ids": [[1]], "features": [[1.0]]},
        {"input_ids": [["a"]]},
        {"input_ids": [[2**40]]},
        {"input_ids": []},
        "rows",
        None,
    ],
    ids=str,
)
def test_a_batch_that_is_none_is_refused_at_the_door(caller: Caller, batch: Any) -> None:
    problem_of(caller.post("tc-none", "forward_backward", {"batch": batch}))


@pytest.mark.parametrize(
    "batch",
    [
        {"features": [[1.0, 2.0]], "targets": [0]},
        {"features": [[1.0, 2.0, 3.0, 4.0], [1.0]], "targets": [0, 1]},
        {"features": [["a", "b", "c", "d"]], "targets": [0]},
        {"features": [[1.0, 2.0, 3.0, 4.0]], "targets": [7]},
        {"features": [[1.0, 2.0, 3.0, 4.0]], "targets": [0, 1]},
        {"features": [[1.0, {"a": 1}, 3.0, 4.0]], "targets": [0]},
        {"input_ids": [[1, 2, 3]]},
    ],
    ids=str,
)
def test_a_batch_of_the_wrong_shape_is_refused_by_the_worker(
    caller: Caller, shared_client: str, batch: Any
) -> None:
    problem_of(caller.post(shared_client, "forward_backward", {"batch": batch}))
    assert caller.step(shared_client).status_code == 200


def tensors(**columns: tuple[str, list[int], bytes]) -> bytes:
    """Columns as the safetensors format has them."""
    header: dict[str, Any] = {}
    body = b""
    for name, (dtype, shape, content) in columns.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(content)]}
        body += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def test_tensors_are_taken_as_they_are(caller: Caller, shared_client: str) -> None:
    numbers = struct.pack("<8f", *ROWS["features"][0], *ROWS["features"][1])
    body = tensors(features=("F32", [2, 4], numbers), targets=("I64", [2], struct.pack("<2q", 0, 1)))
    headers = {"Content-Type": "application/vnd.safetensors", "Prefer": "wait=60"}
    path = f"/api/v1/training_clients/{shared_client}/forward_backward"
    by_tensors = caller.http.post(path, content=body, headers=headers).json()["result"]
    caller.post(shared_client, "optim_step", {"learning_rate": 1e-12})
    by_json = caller.post(shared_client, "forward_backward", {"batch": ROWS}).json()["result"]
    assert by_tensors["loss"] == pytest.approx(by_json["loss"], rel=1e-6)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"PK\x03\x04" + bytes(100),
        struct.pack("<Q", 2**62) + b"{}",
        tensors(features=("F32", [2, 4], bytes(16)), targets=("I64", [2], bytes(16))),
        tensors(weights=("F32", [1], bytes(4))),
        tensors(
            features=("F32", [1, 4], struct.pack("<4f", math.nan, 1, 2, 3)), targets=("I64", [1], bytes(8))
        ),
    ],
    ids=["empty", "zip", "long header", "short data", "other names", "NaN"],
)
def test_tensors_that_are_none_are_refused(caller: Caller, shared_client: str, body: bytes) -> None:
    headers = {"Content-Type": "application/vnd.safetensors", "Prefer": "wait=60"}
    path = f"/api/v1/training_clients/{shared_client}/forward_backward"
    problem_of(caller.http.post(path, content=body, headers=headers))


@pytest.mark.parametrize("prefix", [prefix.rstrip("/") for prefix in PREFIXES])
def test_an_unknown_path_is_404_in_the_words_of_its_contract(api: httpx.Client, prefix: str) -> None:
    path = f"{prefix}/no/where"
    assert refusal(api.get(path), contract_name_at(path)).status == 404


@pytest.mark.parametrize(
    ("path", "contract"),
    [(CREATE, "tg_tinker"), ("/api/v1/health", "qflare"), ("/docs", "deep_learning"), ("/", "deep_learning")],
)
def test_another_method_is_405_and_says_which_there_are(api: httpx.Client, path: str, contract: str) -> None:
    answer = api.put(path)
    assert refusal(answer, contract).status == 405
    assert answer.headers["allow"]


def test_what_a_path_takes_is_all_that_its_routes_take(api: httpx.Client) -> None:
    one = api.put("/workbench/v1/uploads/up-550e8400-e29b-41d4-a716-446655440000")
    assert (one.status_code, one.headers["allow"]) == (405, "DELETE, GET, PATCH")
    assert api.put("/workbench/v1/datasets").headers["allow"] == "GET, POST"


def test_a_body_that_says_it_is_too_large_is_refused_unread(
    workbench_server: WorkbenchServer,
) -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(workbench_server.socket))
        head = f"POST {CREATE} HTTP/1.1\r\nHost: x\r\nX-API-Key: {workbench_server.api_key}\r\n"
        line.sendall(
            f"{head}Content-Length: 99999999999\r\nContent-Type: application/json\r\n\r\n{{".encode()
        )
        line.settimeout(60)
        with line.makefile("rb") as file:
            answer = file.read()  # to the end: the server hangs up
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"PAYLOAD_TOO_LARGE" in answer


def test_a_body_that_turns_out_too_large_is_refused_in_time(api: httpx.Client) -> None:
    sent = 0

    def endless() -> Any:
        nonlocal sent
        while sent < 200:
            sent += 1
            yield bytes(1024 * 1024)

    try:
        answer = api.post(CREATE, content=endless(), headers=JSON)
        problem_of(answer, 413, "PAYLOAD_TOO_LARGE")
    except httpx.TransportError:
        pass  # the server has hung up while we were still sending, as it may
    assert sent < 200
    assert api.get("/live").status_code == 200


@pytest.mark.parametrize("key", ["", "a b", "caf\xe9", "x" * 256])
def test_an_idempotency_key_has_a_form(api: httpx.Client, key: str) -> None:
    answer = api.post(f"{CREATE}/tc-none/optim_step", headers={b"Idempotency-Key": key.encode("latin-1")})
    problem_of(answer)


@pytest.mark.parametrize(
    "prefer", ["wait", "wait=-1", "wait=x", "respond-async", "wait=99999999999999999999"]
)
def test_a_preference_we_do_not_know_is_left_aside(caller: Caller, shared_client: str, prefer: str) -> None:
    path = f"/api/v1/training_clients/{shared_client}/forward_backward"
    answer = caller.http.post(path, json={"batch": ROWS}, headers={"Prefer": prefer})
    assert answer.status_code == 202


@pytest.mark.parametrize("folder", ["/" + "a" * 300, "/root/../proc/1/root", "/dev/null"])
def test_a_model_folder_that_cannot_be_one_is_an_unknown_model(api: httpx.Client, folder: str) -> None:
    problem_of(api.post(CREATE, json={"model_ref": folder}), 422, "UNKNOWN_MODEL")


def header(entries: str, data: bytes = bytes(16)) -> bytes:
    """Safetensors bytes whose header is just this text."""
    return struct.pack("<Q", len(entries)) + entries.encode() + data


FEATURES = '"features":{"dtype":"F32","shape":[4,1],"data_offsets":[0,16]}'
CROOKED = {
    "infinite shape": header('{"features":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,16]}}'),
    "broken places": header('{"features":{"dtype":"F32","shape":[4,1],"data_offsets":[0.0,16.0]}}'),
    "overlap": header("{" + FEATURES + ',"targets":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
    "a gap": header(
        "{" + FEATURES + ',"targets":{"dtype":"F32","shape":[1],"data_offsets":[20,24]}}', bytes(24)
    ),
    "bytes of nobody": header("{" + FEATURES + "}", bytes(20)),
    "a note that is a number": header('{"__metadata__":{"a":1},' + FEATURES + "}"),
    "a true shape": header('{"features":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}', bytes(4)),
}


@pytest.mark.parametrize("path", [f"{CREATE}/none/forward_backward", "/workbench/v1/datasets?name=x"])
@pytest.mark.parametrize("body", CROOKED.values(), ids=list(CROOKED))
def test_a_header_that_no_loader_would_take_is_refused_at_the_door(
    api: httpx.Client, path: str, body: bytes
) -> None:
    headers = {"Content-Type": "application/vnd.safetensors"}
    problem_of(api.post(path, content=body, headers=headers))


def test_a_dataset_answers_no_name_that_a_caller_made_up(api: httpx.Client) -> None:
    body = tensors(
        features=("F32", [1, 1], bytes(4)), targets=("I64", [1], bytes(8)), SECRET=("F32", [1], bytes(4))
    )
    headers = {"Content-Type": "application/vnd.safetensors"}
    answer = api.post("/workbench/v1/datasets?name=x", content=body, headers=headers)
    problem_of(answer)
    assert "SECRET" not in answer.text


def test_a_name_without_end_is_refused_in_the_query_as_in_a_body(api: httpx.Client) -> None:
    body = tensors(features=("F32", [1, 1], bytes(4)), targets=("I64", [1], bytes(8)))
    headers = {"Content-Type": "application/vnd.safetensors"}
    problem_of(api.post("/workbench/v1/datasets?name=%00x", content=body, headers=headers))


@pytest.mark.parametrize(
    "body",
    [
        b'{"batch":{"features":[' + b"[]," * 3_000_000 + b"[]]}}",
        b'{"batch":{"input_ids":[[' + b"1," * (5 << 20) + b"1]]}}",
    ],
    ids=["lists", "numbers"],
)
def test_too_much_for_json_is_sent_to_tensors_and_holds_up_nobody(
    caller: Caller, shared_client: str, body: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    began = time.monotonic()
    answer = caller.http.post(f"{CREATE}/{shared_client}/forward_backward", content=body, headers=headers)
    problem_of(answer, 413, "PAYLOAD_TOO_LARGE")
    assert "safetensors" in answer.json()["error"]["message"]
    assert time.monotonic() - began < 5.0


def test_many_texts_may_be_longer_than_other_json(api: httpx.Client) -> None:
    texts = ["word " * 2000] * 1000
    answer = api.post("/workbench/v1/datasets", json={"name": "long", "texts": texts, "privacy": "public"})
    assert (answer.status_code, answer.json()["size"]) == (201, 1000)


@pytest.mark.parametrize("noise", [1e-160, 1e-9, 0.0099])
def test_next_to_no_noise_is_refused_before_anything_is_made(api: httpx.Client, noise: float) -> None:
    body = {"model_ref": "mlp", "dp_config": {"noise_multiplier": noise, "accountant_type": "moments"}}
    answer = api.post("/api/v1/training_clients", json=body)
    assert refusal(answer, "tg_tinker").message.startswith("body.dp_config.noise_multiplier")
    assert answer.status_code == 422
