from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.sdk.resources.scripted_server import ScriptedServer, Step, answer, hang_up, refusal, stream
from tg_workbench import CallFailed, InvalidRequest, ModelFailed, ModelNotFound, Refused, Workbench
from tg_workbench.sdk import Model, Service
from tg_workbench.sdk.models import Card

TOLD = {
    "model_id": "mdl-1",
    "name": "MLP_v2",
    "family": "MLP",
    "version": 2,
    "aliases": ["production"],
    "model_type": "mlp",
    "task": "classification",
    "performance": {"accuracy": 0.9, "f1_score": 0.8},
    "privacy": {"guarantee": "differential_privacy", "spent_epsilon": 1.5},
    "unknown": 1,
}
AWAY = answer({"error": "service_unavailable", "message": "being made ready"}, 503)


@pytest.fixture
def model(workbench: Workbench) -> Model:
    return Model.from_wire(TOLD, workbench._connection)


@pytest.fixture
def service(workbench: Workbench) -> Service:
    told = {"id": "svc-1", "name": "a", "model_id": "mdl-1", "status": "ready", "runtime_used": "torch"}
    return Service.from_wire(told, workbench._connection)


def page(*models: dict[str, Any]) -> Step:
    return answer({"models": list(models)})


def test_a_model_is_one_line(model: Model) -> None:
    assert str(model) == "MLP version 2 @production (mlp), accuracy 0.900, f1_score 0.800, ε = 1.50"
    assert repr(model) == f"<Model {model}, mdl-1>"
    assert Card("# hello")._repr_markdown_() == "# hello"


@pytest.mark.parametrize(
    ("key", "script", "asked"),
    [
        ("mdl-1", [answer(TOLD)], ["/models/mdl-1"]),
        ("MLP", [page(TOLD)], ["/models?family=MLP"]),
        ("MLP@production", [page(TOLD)], ["/models?family=MLP&alias=production"]),
        (
            "MLP:2",
            [page(), page(TOLD), page(TOLD)],
            ["family=MLP%3A2", "family=MLP&", "/models/mdl-1/versions"],
        ),
        (
            "MLP_v2",
            [page(), page(TOLD), page(TOLD)],
            ["family=MLP_v2", "family=MLP&", "/models/mdl-1/versions"],
        ),
    ],
)
def test_a_model_is_found_by_every_name_it_has(
    server: ScriptedServer, workbench: Workbench, key: str, script: list[Step], asked: list[str]
) -> None:
    server.script = script
    assert workbench.models[key].id == "mdl-1"
    assert all(part in seen.path for part, seen in zip(asked, server.seen, strict=True))


@pytest.mark.parametrize("key", ["nothing", "nothing:1", "nothing@production"])
def test_a_name_that_nobody_has_is_said(server: ScriptedServer, workbench: Workbench, key: str) -> None:
    server.script = [page()]
    with pytest.raises(ModelNotFound, match=f"no model {key}"):
        _ = workbench.models[key]


def test_a_prediction_waits_for_its_worker(server: ScriptedServer, model: Model) -> None:
    said = answer({"predictions": [{"class": "7", "confidence": 0.5}]})
    server.script = [AWAY, hang_up, AWAY, said]
    assert [(one.label, one.confidence) for one in model.predict([1.0, 2.0])] == [(7, 0.5)]
    assert server.seen[-1].json == {"inputs": [[1.0, 2.0]]}


def test_a_model_that_tells_texts_apart_is_asked_about_each(server: ScriptedServer, model: Model) -> None:
    model.architecture, model.class_names = {"input_shape": [], "output_classes": 2}, ["bad", "good"]
    server.script = [answer({"predictions": [{"class": "good"}, {"class": "bad"}]})]
    assert [one.label for one in model.predict(["fine", "poor"])] == ["good", "bad"]
    assert server.seen[0].json == {"inputs": ["fine", "poor"]}


def test_many_rows_are_asked_about_in_order(
    server: ScriptedServer, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tg_workbench.sdk.questions.MOST_ROWS", 2)
    server.script = [
        answer({"predictions": [{"value": 1.0}, {"value": 2.0}]}),
        answer({"predictions": [{"value": 3.0}]}),
    ]
    assert [one.value for one in model.predict([[1], [2], [3]])] == [1.0, 2.0, 3.0]


def test_errors_of_other_documents_are_errors_of_ours(
    server: ScriptedServer, model: Model, service: Service
) -> None:
    where = [{"field": "inputs.0.1", "message": "must be a number"}]
    server.script = [answer({"error": "validation_error", "message": "no number", "details": where}, 400)]
    with pytest.raises(InvalidRequest, match="no number") as refused:
        model.predict([1.0, 2.0])
    assert refused.value.problems == where  # type: ignore[attr-defined]  # a fact that the answer brought
    server.script = [answer({"success": False, "error": {"code": "Conflict", "message": "taken"}}, 409)]
    with pytest.raises(Refused, match="taken"):
        service.start()
    server.script = [answer({"error": "it writes nothing"}, 400)]
    with pytest.raises(InvalidRequest, match="it writes nothing"):
        list(service.generate("a"))


def piece(text: str) -> bytes:
    return b"data: " + json.dumps({"text_output": text}).encode() + b"\n\n"


def whole(*parts: bytes) -> Step:
    return answer(b"".join(parts))


def test_a_text_comes_piece_by_piece(server: ScriptedServer, service: Service) -> None:
    server.script = [AWAY, hang_up, whole(piece("Dear"), piece(" Änna"))]
    assert list(service.generate("x", max_tokens=3, stop=["\n"])) == ["Dear", " Änna"]
    asked = server.seen[-1]
    assert asked.path == "/workbench/v1/inference/svc-1/v2/models/mdl-1/generate_stream"
    assert (asked.json["max_tokens"], asked.json["stop"]) == (3, ["\n"])


def test_a_text_that_breaks_off_is_not_taken_for_a_whole_one(
    server: ScriptedServer, service: Service
) -> None:
    server.script = [stream(piece("Dear"))]
    pieces = service.generate("x")
    assert next(pieces) == "Dear"
    with pytest.raises(CallFailed, match="broke off"):
        next(pieces)
    server.script = [whole(piece("Dear"), b'data: {"error": "not finite"}\n\n')]
    with pytest.raises(ModelFailed, match="not finite"):
        list(service.generate("x"))


def test_waiting_for_a_service_that_cannot_be_ready_ends(server: ScriptedServer, service: Service) -> None:
    server.script = [answer({"id": "svc-1", "name": "a", "status": "failed", "reason": "it does not load"})]
    with pytest.raises(ModelFailed, match="it does not load"):
        service.wait()
    server.script = [answer({"id": "svc-1", "name": "a", "status": "stopped"})]
    with pytest.raises(ModelFailed, match=r"start\(\) it"):
        service.wait()


def test_what_comes_from_no_workbench_says_so() -> None:
    with pytest.raises(CallFailed, match="comes from no workbench"):
        Model("mdl-1").delete()
    with pytest.raises(CallFailed, match="comes from no workbench"):
        Service("svc-1").stop()


def test_a_model_is_gone_for_good(server: ScriptedServer, model: Model) -> None:
    server.script = [refusal("MODEL_NOT_FOUND", 404)]
    with pytest.raises(ModelNotFound):
        model.refresh()
