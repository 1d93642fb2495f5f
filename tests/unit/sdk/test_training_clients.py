from __future__ import annotations

import asyncio

import pytest

from tests.unit.sdk.resources.scripted_server import ScriptedServer, answer, hang_up, refusal
from tg_workbench import (
    ClientFailed,
    DeadlineExceeded,
    InvalidBatch,
    InvalidRequest,
    NoGradient,
    TrainingClient,
    TrainingClientNotFound,
    Workbench,
)
from tg_workbench.sdk import Checkpoint, Completion

VIEW = {
    "training_client_id": "tc-1",
    "tenant_id": "local",
    "model_ref": "mlp",
    "status": "ready",
    "step": 3,
    "config": {"batch_size": 8},
    "dp_metrics": None,
    "reason": None,
    "paused": False,
    "privacy": {"guarantee": "differential_privacy", "spent_epsilon": 1.25, "target_epsilon": 3.0},
    "last_checkpoint": {"artifact_id": "art-1", "step": 2, "automatic": True, "created_at": "…"},
    "a_member_of_tomorrow": 1,
}
FUTURE = {"future_id": "fut-1", "operation": "sample", "status": "running"}


def at(**changes: object) -> dict[str, object]:
    return {**VIEW, **changes}


@pytest.fixture
def client(server: ScriptedServer, workbench: Workbench) -> TrainingClient:
    server.script = [answer(VIEW)]
    attached = workbench.attach("tc-1")
    server.seen.clear()
    return attached


def test_a_client_is_found_again_by_its_id(client: TrainingClient) -> None:
    assert (client.id, client.view.step, client.config) == ("tc-1", 3, {"batch_size": 8})
    assert client.view.last_checkpoint == Checkpoint("art-1", 2, True, "…")
    assert "ε = 1.25 of 3.00" in repr(client)


def test_a_client_that_is_not_there_is_named(server: ScriptedServer, workbench: Workbench) -> None:
    server.script = [refusal("TRAINING_CLIENT_NOT_FOUND", 404, "there is no training client tc-2")]
    with pytest.raises(TrainingClientNotFound, match="tc-2"):
        workbench.attach("tc-2")


def test_what_it_is_now_is_asked_now(server: ScriptedServer, client: TrainingClient) -> None:
    server.script = [answer(at(step=4)), answer(at(status="busy", paused=True)), answer(at(reason="why"))]
    assert client.step == 4
    assert client.status == "paused"
    assert client.reason == "why"
    assert client.view.reason == "why"
    assert len(server.seen) == 3


def test_rows_become_a_future(server: ScriptedServer, client: TrainingClient) -> None:
    server.script = [answer({**FUTURE, "operation": "forward_backward", "status": "pending"}, 202)]
    future = client.forward_backward(features=[[1.0]], targets=[0])
    assert server.seen[0].path == "/api/v1/training_clients/tc-1/forward_backward"
    assert server.seen[0].json == {"batch": {"features": [[1.0]], "targets": [0]}}
    assert repr(future) == "<Future forward_backward pending fut-1>"


def test_a_dataset_is_named_instead_of_rows(server: ScriptedServer, client: TrainingClient) -> None:
    server.script = [answer(FUTURE, 202)]
    client.forward_backward(dataset="ds-1")
    assert server.seen[0].json == {"dataset_id": "ds-1"}
    with pytest.raises(InvalidBatch):
        client.forward_backward()


def test_a_step_says_only_what_it_was_told(server: ScriptedServer, client: TrainingClient) -> None:
    server.script = [answer(FUTURE, 202)]
    client.optim_step()
    client.optim_step(learning_rate=0.5)
    assert [seen.json for seen in server.seen] == [
        {"apply_dp_noise": True},
        {"apply_dp_noise": True, "learning_rate": 0.5},
    ]


def test_samples_read_as_text(server: ScriptedServer, client: TrainingClient) -> None:
    sample = {"prompt": "Once", "completion": " upon", "tokens_generated": 1, "finish_reason": "length"}
    server.script = [answer({"samples": [sample]})]
    (completion,) = client.sample("Once", max_tokens=1)
    assert completion == Completion("Once", " upon", 1, "length")
    assert str(completion) == " upon"
    assert server.seen[0].json["prompts"] == ["Once"]


def test_an_answer_that_takes_long_is_asked_for_again(server: ScriptedServer, client: TrainingClient) -> None:
    server.script = [
        refusal("FUTURE_TIMEOUT", 408, future_id="fut-1"),
        hang_up,
        answer({**FUTURE, "status": "completed", "result": {"samples": []}}),
    ]
    assert client.sample("Once") == []
    assert server.seen[1].path == "/api/v1/futures/fut-1?wait=40.000"


def test_predictions_are_classes_or_values(server: ScriptedServer, client: TrainingClient) -> None:
    said = [{"class": 1, "confidence": 0.9}, {"value": 2.5}]
    server.script = [answer({"predictions": said})]
    first, second = client.predict([[1.0], [2.0]])
    assert (first.label, first.confidence, second.value) == (1, 0.9, 2.5)
    assert server.seen[0].json == {"features": [[1.0], [2.0]]}


@pytest.mark.parametrize("prompts", ["Once", ["Once"]])
def test_texts_are_predicted_as_prompts(
    server: ScriptedServer, client: TrainingClient, prompts: object
) -> None:
    server.script = [answer({"predictions": []})]
    client.predict(prompts)
    assert server.seen[0].json == {"prompts": ["Once"]}


def test_a_checkpoint_is_loaded_whole_or_by_its_id(server: ScriptedServer, client: TrainingClient) -> None:
    server.script = [answer({"step": 2}), answer(VIEW), answer({"step": 2}), answer(VIEW)]
    client.load_state(Checkpoint("art-1"))
    client.load_state("art-1")
    assert [seen.json for seen in server.seen if seen.method == "POST"] == [{"artifact_id": "art-1"}] * 2


@pytest.mark.parametrize(("steps", "epochs"), [(None, None), (1, 1.0)])
def test_a_run_has_one_length(client: TrainingClient, steps: int | None, epochs: float | None) -> None:
    with pytest.raises(InvalidRequest, match="steps"):
        client.train(steps=steps, epochs=epochs)


def test_waiting_ends_when_nothing_is_at_work(server: ScriptedServer, client: TrainingClient) -> None:
    views = [at(status="initializing"), at(status="busy"), at(status="busy", paused=True), at(step=9)]
    server.script = [answer(view) for view in views]
    assert client.wait_blocking().step == 9
    server.seen.clear()
    assert asyncio.run(client.wait()).step == 9


def test_waiting_tells_why_a_client_failed(server: ScriptedServer, client: TrainingClient) -> None:
    server.script = [answer(at(status="error", reason="layer 'lstm' has no per-example gradient"))]
    with pytest.raises(ClientFailed, match="lstm"):
        client.wait_blocking()


def test_waiting_has_an_end_if_one_is_given(server: ScriptedServer, client: TrainingClient) -> None:
    server.script = [answer(at(status="busy"))]
    with pytest.raises(DeadlineExceeded, match=r"client tc-1 is still at work after .* s"):
        client.wait_blocking(timeout=0.1)


@pytest.mark.parametrize("verb", ["pause", "resume", "stop"])
def test_steering_answers_with_the_new_view(
    server: ScriptedServer, client: TrainingClient, verb: str
) -> None:
    server.script = [answer(at(step=5))]
    assert getattr(client, verb)().step == 5
    assert server.seen[0].path == f"/workbench/v1/training_clients/tc-1/{verb}"


def test_termination_may_be_said_twice(server: ScriptedServer, client: TrainingClient) -> None:
    server.script = [hang_up, answer(at(status="terminated"))]
    assert client.terminate().status == "terminated"
    assert [seen.method for seen in server.seen] == ["DELETE", "DELETE", "GET"]


def test_whoever_blocks_for_each_step_gets_its_end_with_the_answer(
    server: ScriptedServer, client: TrainingClient
) -> None:
    pending = {"future_id": "fut-1", "operation": "optim_step", "status": "pending"}
    done = {**pending, "status": "completed", "result": {"step": 1, "learning_rate": 0.1, "dp_metrics": None}}
    server.script = [answer(pending, 202), answer(done), answer(done)]
    client.optim_step().result()
    client.optim_step().result()
    path = "/api/v1/training_clients/tc-1/optim_step"
    assert [seen.path for seen in server.seen] == [
        path,
        "/api/v1/futures/fut-1?wait=40.000",
        f"{path}?wait=0.050",
    ]


def test_whoever_hands_in_many_steps_is_never_held_up(server: ScriptedServer, client: TrainingClient) -> None:
    pending = {"future_id": "fut-1", "operation": "optim_step", "status": "pending"}
    server.script = [answer(pending, 202)] * 3
    for _ in range(3):
        client.optim_step()
    assert {seen.path for seen in server.seen} == {"/api/v1/training_clients/tc-1/optim_step"}


def test_a_step_that_fails_at_once_fails_where_it_is_asked_for(
    server: ScriptedServer, client: TrainingClient
) -> None:
    error = {"code": "NO_GRADIENT", "message": "no", "details": {}}
    failed = {"future_id": "fut-1", "operation": "optim_step", "status": "failed", "error": error}
    server.script = [answer({**failed, "status": "pending"}, 202), answer(failed), answer(failed)]
    with pytest.raises(NoGradient):
        client.optim_step().result()
    second = client.optim_step()
    with pytest.raises(NoGradient):
        second.result()
