"""A checkpoint leaves as the files other programs read, with its privacy beside it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import safetensors.numpy
import torch

from tests.contracts.conftest import ROWS, Caller
from tests.workbench_server import WorkbenchServer
from tg_workbench import CallFailed, Workbench
from tg_workbench.engine.architectures import build
from tg_workbench.sdk.downloads import unpacked

TEXT = {"input_ids": [list(b"abababab"), list(b"cdcdcdcd")]}
LORA = {"rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}


def files_of(answer: httpx.Response) -> dict[str, bytes]:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip"), answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def exported(caller: Caller, client_id: str) -> dict[str, bytes]:
    artifact_id = caller.post(client_id, "save_state").json()["artifact_id"]
    return files_of(caller.http.get(f"/workbench/v1/artifacts/{artifact_id}/export"))


@pytest.fixture(scope="module")
def adapted(caller: Caller) -> str:
    """A language model whose adapters have learned under privacy."""
    dp = {"noise_multiplier": 1.0, "target_epsilon": None}
    client_id = caller.create(
        model_ref="tiny-llama", architecture=None, lora_config=LORA, dp_config=dp, batch_size=2
    )
    for _ in range(2):
        assert caller.post(client_id, "forward_backward", {"batch": TEXT}).status_code == 200
        assert caller.post(client_id, "optim_step").status_code == 200
    return client_id


def test_peft_loads_adapters_unchanged_key_by_key(caller: Caller, adapted: str, tmp_path: Path) -> None:
    import peft

    for name, content in exported(caller, adapted).items():
        (tmp_path / name).write_bytes(content)
    ours = safetensors.numpy.load_file(tmp_path / "adapter_model.safetensors")
    model = peft.PeftModel.from_pretrained(build("tiny-llama", None, Path()).module, str(tmp_path))
    theirs = peft.get_peft_model_state_dict(model)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor.numpy())
    assert any(np.abs(tensor).max() > 0 for name, tensor in ours.items() if "lora_B" in name)

    evaluated = caller.own(adapted, "evaluate", {"batch": TEXT}).json()["loss"]
    ids = torch.tensor(TEXT["input_ids"])
    with torch.no_grad():
        loss = model.eval()(input_ids=ids, labels=ids).loss
    assert float(loss) == pytest.approx(evaluated, rel=1e-5)


def test_an_export_says_what_its_weights_cost_and_not_what_came_later(caller: Caller, adapted: str) -> None:
    told = json.loads(exported(caller, adapted)["privacy.json"])
    step, spent = told["step"], told["spent_epsilon"]
    assert (told["guarantee"], told["mode"]) == ("differential_privacy", "client_batches")
    assert spent == caller.get(adapted)["privacy"]["spent_epsilon"] > 0
    artifact_id = caller.post(adapted, "save_state").json()["artifact_id"]
    caller.post(adapted, "forward_backward", {"batch": TEXT})
    caller.post(adapted, "optim_step")
    assert caller.get(adapted)["privacy"]["spent_epsilon"] > spent
    files = files_of(caller.http.get(f"/workbench/v1/artifacts/{artifact_id}/export"))
    again = json.loads(files["privacy.json"])
    assert (again["step"], again["spent_epsilon"]) == (step, spent)


def test_a_network_of_rows_leaves_with_its_shape(caller: Caller, client_id: str) -> None:
    caller.step(client_id)
    files = exported(caller, client_id)
    weights = safetensors.numpy.load(files["model.safetensors"])
    assert {name: tensor.shape for name, tensor in weights.items()} == {
        "hidden_1.weight": (8, 4),
        "hidden_1.bias": (8,),
        "output.weight": (2, 8),
        "output.bias": (2,),
    }
    assert json.loads(files["config.json"])["hidden_sizes"] == [8]
    assert json.loads(files["privacy.json"])["guarantee"] == "none"
    hidden = np.tanh(np.array(ROWS["features"]) @ weights["hidden_1.weight"].T + weights["hidden_1.bias"])
    said = hidden @ weights["output.weight"].T + weights["output.bias"]
    predictions = caller.own(client_id, "predict", {"features": ROWS["features"]}).json()["predictions"]
    assert [row["class"] for row in predictions] == said.argmax(1).tolist()


def test_an_artifact_of_nobody_is_not_exported(api: httpx.Client) -> None:
    answer = api.get("/workbench/v1/artifacts/art-nobody/export")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "ARTIFACT_NOT_FOUND")


def test_a_whole_language_model_is_refused_with_what_to_do(caller: Caller) -> None:
    client_id = caller.create(model_ref="tiny-llama", architecture=None)
    artifact_id = caller.post(client_id, "save_state").json()["artifact_id"]
    answer = caller.http.get(f"/workbench/v1/artifacts/{artifact_id}/export")
    assert answer.status_code == 422
    assert "train with lora" in answer.json()["error"]["message"]
    caller.http.delete(f"/api/v1/training_clients/{client_id}")


def test_the_sdk_writes_the_files_and_over_none(
    workbench_server: WorkbenchServer, adapted: str, tmp_path: Path
) -> None:
    with Workbench(socket=str(workbench_server.socket), api_key=workbench_server.api_key) as workbench:
        client = workbench.attach(adapted)
        folder = client.export(tmp_path / "adapter")
        names = {path.name for path in folder.iterdir()}
        assert names == {"adapter_model.safetensors", "adapter_config.json", "privacy.json"}
        with pytest.raises(FileExistsError):
            client.export(folder)


def test_an_archive_writes_nowhere_else(tmp_path: Path) -> None:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w") as archive:
        archive.writestr("../../outside.txt", "x")
    folder = unpacked(kept.getvalue(), tmp_path / "in" / "side")
    assert [path.name for path in folder.iterdir()] == ["outside.txt"]
    assert not (tmp_path / "outside.txt").exists()
    with pytest.raises(CallFailed):
        unpacked(b"no archive", tmp_path / "other")


def test_long_lists_travel_as_arrays() -> None:
    from tg_workbench.sdk.batches import SAFETENSORS, batch_body

    rows: dict[str, Any] = {"features": [[0.123456789] * 10] * 50_000, "targets": [1] * 50_000}
    assert batch_body(rows).content_type == SAFETENSORS
    assert batch_body({name: value[:10] for name, value in rows.items()}).content_type == "application/json"
