from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import tg_workbench
from tests.unit.sdk.resources.scripted_server import ScriptedServer, answer
from tg_workbench import (
    CallFailed,
    DatasetNotFound,
    InvalidBatch,
    InvalidRequest,
    JobNotFound,
    LoRA,
    ModelNotFound,
    Workbench,
)
from tg_workbench.errors import ServiceNotFound
from tg_workbench.sdk import OptimStep

VIEW = {"training_client_id": "tc-1", "model_ref": "mlp", "status": "initializing"}
DATASET = {"dataset_id": "ds-1", "name": "toy", "size": 2, "spent_epsilon": 0.5, "epsilon_cap": 10.0}


def test_the_front_door_is_light() -> None:
    program = "import sys; from tg_workbench import Workbench; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "numpy", "pandas", "fastapi", "sqlmodel", "IPython"} & set(out.split())


def test_the_front_door_offers_what_it_lists() -> None:
    assert all(hasattr(tg_workbench, name) for name in tg_workbench.__all__)
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = tg_workbench.nothing_of_ours


def test_a_notebook_finds_its_workbench(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TG_SOCKET", str(server.path))
    monkeypatch.setenv("TG_API_KEY", "tgw-kernel")
    server.script = [answer({"status": "healthy"})]
    with Workbench() as workbench:
        assert workbench.health() == {"status": "healthy"}
    assert server.seen[0].headers["authorization"] == "Bearer tgw-kernel"


def test_a_workbench_that_is_not_there_is_said_at_once() -> None:
    with Workbench(socket="/nowhere.sock") as workbench, pytest.raises(CallFailed, match="does not answer"):
        workbench.health()


def test_a_client_is_created_from_plain_words(server: ScriptedServer, workbench: Workbench) -> None:
    server.script = [answer(VIEW, 201)]
    client = workbench.create_training_client(
        "mlp", dataset="ds-1", target_epsilon=3, max_steps=100, learning_rate=0.01, batch_size=64
    )
    asked = server.seen[0].json
    assert client.id == "tc-1"
    assert (asked["dataset_id"], asked["max_steps"], asked["batch_size"]) == ("ds-1", 100, 64)
    assert asked["dp_config"]["target_epsilon"] == 3
    assert asked["optimizer"]["learning_rate"] == 0.01


def test_adapters_are_asked_for_by_value(server: ScriptedServer, workbench: Workbench) -> None:
    server.script = [answer(VIEW, 201)]
    workbench.create_training_client("tiny-llama", lora=LoRA(rank=2, alpha=4.0, dropout=0.0))
    assert server.seen[0].json["lora_config"]["alpha"] == 4.0


def test_tables_are_uploaded_as_tensors(server: ScriptedServer, workbench: Workbench) -> None:
    server.script = [answer(DATASET, 201)]
    dataset = workbench.datasets.upload("my rows", features=np.zeros((2, 3)), targets=[0, 1], epsilon_cap=5)
    assert dataset.id == "ds-1"
    assert server.seen[0].path == "/workbench/v1/datasets?name=my+rows&privacy=protected&epsilon_cap=5"
    assert server.seen[0].headers["content-type"] == "application/vnd.safetensors"
    assert str(dataset) == "toy: 2 rows, protected, ε = 0.50 of 10 spent"


def test_texts_are_uploaded_as_json(server: ScriptedServer, workbench: Workbench) -> None:
    server.script = [answer(DATASET, 201)]
    workbench.datasets.upload("letters", texts=["Dear", "Yours"], privacy="public")
    assert server.seen[0].json == {"name": "letters", "privacy": "public", "texts": ["Dear", "Yours"]}


def test_an_upload_is_of_one_kind(workbench: Workbench) -> None:
    with pytest.raises(InvalidBatch, match="one of these kinds"):
        workbench.datasets.upload("nothing")
    with pytest.raises(InvalidBatch, match="one of these kinds"):
        workbench.datasets.upload("both", texts=["a"], features=[[1.0]])


def test_a_ledger_is_of_one_thing(server: ScriptedServer, workbench: Workbench) -> None:
    server.script = [answer({"events": [{"id": 1}], "spent_epsilon": 0.5})]
    ledger = workbench.ledger(dataset="ds-1")
    assert (ledger.spent_epsilon, ledger.events) == (0.5, [{"id": 1}])
    assert server.seen[0].path == "/workbench/v1/ledger?dataset_id=ds-1&after=0&limit=100"
    with pytest.raises(InvalidRequest, match="one of them"):
        workbench.ledger()


def test_a_future_is_found_again_by_its_id(server: ScriptedServer, workbench: Workbench) -> None:
    record = {"future_id": "fut-1", "operation": "optim_step", "status": "completed", "result": {"step": 4}}
    server.script = [answer(record), answer({**record, "operation": "sample", "result": {"samples": []}})]
    assert workbench.future("fut-1").result() == OptimStep(step=4)
    assert workbench.future("fut-1").result() == {"samples": []}


def test_a_key_is_told_once_and_never_shown(server: ScriptedServer, workbench: Workbench) -> None:
    server.script = [answer({"key_id": "key-1", "name": "me", "key": "tgw-abc", "scopes": ["read"]}, 201)]
    key = workbench.api_keys.create("me", scopes=["read"])
    assert key.key == "tgw-abc"
    assert "tgw-abc" not in repr(key)


@pytest.mark.parametrize("key", ["", "a/b", "..", "../jobs", "ü", "x" * 200, None, 7])
def test_what_can_be_no_id_is_the_id_of_nothing(
    server: ScriptedServer, workbench: Workbench, key: Any
) -> None:
    rooms = {
        "jobs": JobNotFound, "datasets": DatasetNotFound, "models": ModelNotFound, "services": ServiceNotFound
    }  # fmt: skip
    server.script = [answer({"models": [], "datasets": []})] * 4
    for room, missing in rooms.items():
        with pytest.raises(missing):
            getattr(workbench, room)[key]
    with pytest.raises(DatasetNotFound):
        workbench.datasets.delete(key)
    listed = ("/workbench/v1/models?", "/workbench/v1/datasets?")  # it may be a name
    assert all(asked.path.startswith(listed) for asked in server.seen)


def test_a_text_is_no_list_of_its_letters(server: ScriptedServer, workbench: Workbench) -> None:
    with pytest.raises(InvalidBatch, match=r"not one: \[text\]"):
        workbench.datasets.upload("letters", texts="Dear Anna")
    with pytest.raises(InvalidBatch, match="targets holds texts, not numbers"):
        workbench.datasets.upload("rows", features=[[1.0]], targets=["yes"])
    wrong: list[dict[str, Any]] = [
        {"classes": "yes"},
        {"categories": {"smokes": "no"}},
        {"ranges": {"age": 110}},
        {"ranges": {"age": "0-9"}},
    ]
    for said in wrong:
        with pytest.raises(InvalidRequest, match="list"):
            workbench.datasets.upload("rows.csv", **said)
    assert not server.seen
