"""Models over HTTP: listed, described, named by aliases, found, taken elsewhere and deleted."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import safetensors.numpy
import torch

from tests.contracts.envelopes import refusal
from tests.contracts.learned import CONFIG, ENCODING, FIGURES, PRIVATE, Registry, tensors_of
from tests.contracts.people import People, Person
from tests.contracts.test_audit import entry_of
from tests.workbench_server import WorkbenchServer
from tg_workbench.engine.architectures import build

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
OURS = "/workbench/v1/models"
LORA = {"rank": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"], "bias": "none"}


@pytest.fixture(scope="module")
def dora(people: People) -> Person:
    """She has the four models of `shop`, and no others."""
    return people.register("dora")


@pytest.fixture(scope="module")
def shop(registry: Registry, dora: Person) -> dict[str, str]:
    """Models by name."""
    prices = {"accuracy": None, "mae": 1.5, "rmse": 2.5, "r2": 0.5, "metrics_note": "held-out rows"}
    cnn: dict[str, Any] = {
        "model_ref": "cnn",
        "performance": {**FIGURES, "accuracy": 0.5},
        "dataset_id": "ds-letters",
    }
    return {
        "MLP_v1": registry.register(dora),
        "MLP_v2": registry.register(dora, privacy=PRIVATE, performance={**FIGURES, "accuracy": 0.8}),
        "letters": registry.register(dora, name="letters", **cnn),
        "prices": registry.register(dora, name="prices", task="regression", performance=prices),
    }


def names(answer: httpx.Response, members: str = "models") -> list[str]:
    assert answer.status_code == 200, answer.text
    return [model["name"] for model in answer.json()[members]]


def files_of(server: WorkbenchServer, model_id: str) -> list[Path]:
    """Where a model's bytes lie."""
    with closing(sqlite3.connect(server.home / "tgsp.db", timeout=30)) as database:
        asked = "SELECT weights_blob, onnx_blob, hub_blob FROM models WHERE id = ?"
        names = database.execute(asked, (model_id,)).fetchone()
    return [server.home / "blobs" / name[:2] / name for name in names if name is not None]


def archive_of(answer: httpx.Response) -> dict[str, bytes]:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip"), answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def exported(http: httpx.Client, model_id: str, form: str) -> dict[str, bytes]:
    return archive_of(http.get(f"{OURS}/{model_id}/export", params={"format": form}))


# ----------------------------------------------------------------------------- Deep Learning Platform
@pytest.mark.operation("S3-13")
def test_models_are_listed_as_the_document_has_it(dora: Person, shop: dict[str, str]) -> None:
    told = dora.http.get("/models").json()
    assert (told["total"], told["page"], told["limit"]) == (4, 1, 10)
    assert [model["name"] for model in told["models"]] == ["prices", "letters", "MLP_v2", "MLP_v1"]
    oldest = told["models"][-1]
    assert set(told) == {"total", "page", "limit", "models"}
    assert re.fullmatch(TIME, oldest.pop("created_at"))
    assert 0 < oldest.pop("size_mb") < 0.01
    assert oldest == {"id": shop["MLP_v1"], "name": "MLP_v1", "model_type": "mlp", "accuracy": 0.912}
    assert told["models"][0]["accuracy"] is None


@pytest.mark.operation("S3-13")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"sort_by": "accuracy"}, ["MLP_v1", "MLP_v2", "letters", "prices"]),
        ({"sort_by": "name"}, ["letters", "MLP_v1", "MLP_v2", "prices"]),
        ({"model_type": "cnn"}, ["letters"]),
        ({"page": 2, "limit": 3}, ["MLP_v1"]),
        ({"page": 3, "limit": 3}, []),
    ],
    ids=str,
)
@pytest.mark.usefixtures("shop")
def test_models_are_sorted_filtered_and_paged(dora: Person, query: dict[str, Any], found: list[str]) -> None:
    assert names(dora.http.get("/models", params=query)) == found


@pytest.mark.operation("S3-13")
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"sort_by": "size"}, "sort_by"),
        ({"page": 0}, "page"),
        ({"page": "two"}, "page"),
        ({"limit": 0}, "limit"),
        ({"limit": 10**9}, "limit"),
        ({"page": 2**70}, "page"),
    ],
    ids=str,
)
def test_a_list_that_cannot_be_is_refused_by_field(dora: Person, query: dict[str, Any], field: str) -> None:
    answer = dora.http.get("/models", params=query)
    refusal(answer, "deep_learning")
    assert (answer.status_code, answer.json()["error"]) == (400, "validation_error")
    assert [problem["field"] for problem in answer.json()["details"]] == [field]
    assert "size" not in answer.text or field != "sort_by"


@pytest.mark.operation("S3-14")
def test_a_model_is_described_as_the_document_has_it(dora: Person, shop: dict[str, str]) -> None:
    told = dora.http.get(f"/models/{shop['MLP_v1']}").json()
    assert re.fullmatch(TIME, told.pop("created_at"))
    assert told == {
        "id": shop["MLP_v1"],
        "name": "MLP_v1",
        "model_type": "mlp",
        "architecture": {"input_shape": [4], "output_classes": 2, "parameters": 58},
        "performance": FIGURES,
        "training_config": {
            name: CONFIG[name] for name in ("dataset_id", "epochs", "batch_size", "optimizer")
        },
    }


@pytest.mark.operation("S3-14")
def test_a_regression_has_its_own_figures(dora: Person, shop: dict[str, str]) -> None:
    told = dora.http.get(f"/models/{shop['prices']}").json()
    assert told["performance"] == {"mae": 1.5, "rmse": 2.5, "r2": 0.5}


@pytest.mark.operation("S3-14", "S3-16")
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_another_users_model_is_not_there(
    alice: Person, shop: dict[str, str], stranger: httpx.Client, method: str
) -> None:
    for model_id in (shop["MLP_v1"], f"mdl-{uuid.uuid4()}"):
        answer = alice.http.request(method, f"/models/{model_id}")
        assert refusal(answer, "deep_learning").status == 404
        assert answer.json() == {"error": "not_found", "message": "there is no model with this id"}
    assert stranger.request(method, f"/models/{shop['MLP_v1']}").status_code == 401


@pytest.mark.operation("S3-16")
def test_a_deleted_model_is_gone_with_its_bytes(
    registry: Registry, dora: Person, workbench_server: WorkbenchServer
) -> None:
    model_id = registry.register(dora, name="short-lived", onnx=b"graph")
    made = files_of(workbench_server, model_id)
    assert len([path for path in made if path.is_file()]) == 2
    answer = dora.http.delete(f"/models/{model_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert not [path for path in made if path.is_file()]
    for method in ("GET", "DELETE"):
        assert dora.http.request(method, f"/models/{model_id}").status_code == 404
    assert "short-lived" not in names(dora.http.get("/models", params={"limit": 1000}))


# ----------------------------------------------------------------------------- API Coordination
@pytest.mark.operation("S4-11")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"query": "LETTER"}, ["letters"]),
        ({"query": "regress"}, ["prices"]),
        ({"q": "regress"}, ["prices"]),
        ({"q": "nothing of the kind"}, []),
        ({"query": "ds-letters"}, ["letters"]),
        ({"query": "nothing of the kind"}, []),
        ({"task": "classification", "model_type": "mlp"}, ["MLP_v2", "MLP_v1"]),
        ({"dataset_id": "ds-letters"}, ["letters"]),
        ({"limit": 2, "offset": 1}, ["letters", "MLP_v2"]),
    ],
    ids=str,
)
@pytest.mark.usefixtures("shop")
def test_a_search_stays_in_the_own_catalogue(dora: Person, query: dict[str, Any], found: list[str]) -> None:
    answer = dora.http.get("/api/models/search", params=query)
    assert names(answer, "data") == found
    assert set(answer.json()) == {"data", "total", "limit", "offset"}


@pytest.mark.operation("S4-11")
def test_a_search_tells_which_models_have_a_guarantee(dora: Person, shop: dict[str, str]) -> None:
    found = dora.http.get("/api/models/search", params={"query": "mlp"}).json()
    told = {model["id"]: model["guarantee"] for model in found["data"]}
    assert told[shop["MLP_v1"]] == "none"
    assert told[shop["MLP_v2"]] == "differential_privacy"


@pytest.mark.operation("S4-11")
def test_a_search_that_cannot_be_is_refused(dora: Person, stranger: httpx.Client) -> None:
    twice = {"q": "mlp", "query": "mlp"}
    for query in ({"query": ""}, {"q": ""}, twice, {"limit": 0}, {"offset": -1}, {"dataset_id": "a b"}):
        answer = dora.http.get("/api/models/search", params=query)
        assert refusal(answer, "coordination").status == 400
    assert stranger.get("/api/models/search").status_code == 401


# ----------------------------------------------------------------------------- ours
def test_our_view_tells_all_that_is_known(dora: Person, shop: dict[str, str]) -> None:
    told = dora.http.get(f"{OURS}/{shop['MLP_v2']}").json()
    assert (told["family"], told["version"], told["aliases"]) == ("MLP", 2, [])
    assert (told["inputs"], told["class_names"]) == (["age", "<b>|town"], ["cat", "dog"])
    assert [(column["name"], column["type"]) for column in told["columns"]] == [
        ("age", "number"),
        ("<b>|town", "category"),
    ]
    assert not {"center", "scale"}.intersection(*told["columns"]), "what a set's rows average to"
    assert told["privacy"]["spent_epsilon"] == 2.5
    assert "12.2 times as likely" in told["meaning"]
    assert "not covered by epsilon" in told["performance_note"]
    open_one = dora.http.get(f"{OURS}/{shop['MLP_v1']}").json()
    assert open_one["performance_note"] is None
    assert open_one["meaning"].startswith("No guarantee")


def test_an_alias_moves_from_version_to_version_and_is_audited(
    dora: Person, shop: dict[str, str], people: People
) -> None:
    first, second = shop["MLP_v1"], shop["MLP_v2"]
    for model_id in (first, second):
        request_id = f"req_{uuid.uuid4()}"
        path = f"{OURS}/{model_id}/aliases/production"
        answer = dora.http.put(path, headers={"X-Request-ID": request_id})
        assert (answer.status_code, answer.json()["aliases"]) == (200, ["production"])
        entry = entry_of(dora.http, request_id)
        assert (entry["action"], entry["object_id"]) == ("workbench.point_alias", model_id)
    told = dora.http.get(f"{OURS}/{first}/versions").json()
    assert [(one["version"], one["aliases"]) for one in told["models"]] == [(2, ["production"]), (1, [])]
    found = dora.http.get(OURS, params={"family": "MLP", "alias": "production"})
    assert names(found) == ["MLP_v2"]
    assert dora.http.delete(f"{OURS}/{second}/aliases/production").json()["aliases"] == []
    assert names(dora.http.get(OURS, params={"alias": "production"})) == []


@pytest.mark.parametrize("alias", ["Production", "1st", "a b", "a" * 65, "%00"])
def test_a_name_that_no_alias_has_is_refused(dora: Person, shop: dict[str, str], alias: str) -> None:
    answer = dora.http.put(f"{OURS}/{shop['MLP_v1']}/aliases/{alias}")
    assert refusal(answer, "workbench").status == 422


def test_ours_deletes_too(registry: Registry, dora: Person) -> None:
    model_id = registry.register(dora, name="gone")
    assert dora.http.delete(f"{OURS}/{model_id}").json() == {"deleted": True}
    assert dora.http.get(f"{OURS}/{model_id}").json()["error"]["code"] == "MODEL_NOT_FOUND"


def test_no_route_takes_a_model(api: httpx.Client) -> None:
    for path in ("/models", OURS):
        assert api.post(path, content=b"weights").status_code == 405


# ----------------------------------------------------------------------------- cards
def test_a_card_says_what_the_model_is_and_what_epsilon_does_not_cover(
    dora: Person, shop: dict[str, str]
) -> None:
    answer = dora.http.get(f"{OURS}/{shop['MLP_v2']}/card")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    card = answer.text
    assert card.startswith("# MLP\\_v2\n")
    for title in (
        "Data",
        "Training",
        "Performance",
        "Privacy",
        "Inputs and classes",
        "How to call it",
        "Limits",
    ):
        assert f"\n## {title}\n" in card
    assert "**Not covered by epsilon.**" in card
    assert "any one patient been left out" in card
    assert f"POST /models/{shop['MLP_v2']}/predict" in card


def test_a_card_without_a_guarantee_says_so(dora: Person, shop: dict[str, str]) -> None:
    card = dora.http.get(f"{OURS}/{shop['MLP_v1']}/card").text
    assert "No guarantee: this model was trained without differential privacy" in card
    assert "Not covered by epsilon" not in card


def test_names_in_a_card_are_no_markup(registry: Registry, dora: Person) -> None:
    name = "<script>alert(1)</script>\n# [x](javascript:1)"
    card = dora.http.get(f"{OURS}/{registry.register(dora, name=name)}/card").text
    assert "<script>" not in card
    assert "<b>" not in card
    assert "\n# " not in card
    assert "[x](" not in card


# ----------------------------------------------------------------------------- exports
def test_weights_leave_as_safetensors_with_all_that_is_said_of_them(
    dora: Person, shop: dict[str, str]
) -> None:
    files = exported(dora.http, shop["MLP_v2"], "safetensors")
    assert set(files) == {"README.md", "privacy.json", "encoding.json", "config.json", "model.safetensors"}
    found = safetensors.numpy.load(files["model.safetensors"])
    for name, tensor in tensors_of().items():
        np.testing.assert_array_equal(found[name], tensor.numpy())
    assert json.loads(files["encoding.json"]) == ENCODING
    assert json.loads(files["config.json"])["class_names"] == ["cat", "dog"]
    privacy = json.loads(files["privacy.json"])
    assert (privacy["spent_epsilon"], privacy["delta"], privacy["unit"]) == (2.5, 1e-5, "patient")
    assert files["README.md"].decode() == dora.http.get(f"{OURS}/{shop['MLP_v2']}/card").text


def test_onnx_leaves_as_it_came(registry: Registry, dora: Person, shop: dict[str, str]) -> None:
    graph = bytes(range(256)) * 4000
    files = exported(dora.http, registry.register(dora, name="graph", onnx=graph), "onnx")
    assert files["model.onnx"] == graph
    assert "model.safetensors" not in files
    answer = dora.http.get(f"{OURS}/{shop['MLP_v1']}/export", params={"format": "onnx"})
    assert (refusal(answer, "workbench").status, "no ONNX" in answer.text) == (422, True)


def test_adapters_leave_as_peft_loads_them(registry: Registry, dora: Person, tmp_path: Path) -> None:
    import peft

    shapes = build("tiny-llama", None, Path()).module
    adapted = peft.get_peft_model(
        shapes, peft.LoraConfig(r=2, lora_alpha=4, lora_dropout=0.0, target_modules=["q_proj", "v_proj"])
    )
    state = peft.get_peft_model_state_dict(adapted)
    ours = {name.removeprefix("base_model.model."): torch.randn_like(one) for name, one in state.items()}
    model_id = registry.register(
        dora,
        ours,
        model_ref="tiny-llama",
        task="language_modeling",
        architecture={"lora": LORA},
        encoding=None,
        class_names=None,
    )
    for name, content in exported(dora.http, model_id, "hf").items():
        (tmp_path / name).write_bytes(content)
    loaded = peft.PeftModel.from_pretrained(build("tiny-llama", None, Path()).module, str(tmp_path))
    theirs = peft.get_peft_model_state_dict(loaded)
    assert theirs.keys() == state.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[f"base_model.model.{name}"], tensor)


def test_a_language_model_leaves_as_transformers_loads_it(
    registry: Registry, dora: Person, tmp_path: Path
) -> None:
    import transformers

    module = build("tiny-llama", None, Path()).module
    weights = {name: torch.randn_like(one) for name, one in module.named_parameters()}
    config: Any = module.config
    model_id = registry.register(
        dora,
        weights,
        model_ref="tiny-llama",
        task="language_modeling",
        hub={"config.json": config.to_json_string().encode()},
    )
    for name, content in exported(dora.http, model_id, "hf").items():
        (tmp_path / name).write_bytes(content)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(str(tmp_path), local_files_only=True)
    found = dict(loaded.named_parameters())
    assert found.keys() == weights.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(found[name], tensor)


def test_a_network_of_rows_has_no_hugging_face_folder(dora: Person, shop: dict[str, str]) -> None:
    answer = dora.http.get(f"{OURS}/{shop['MLP_v1']}/export", params={"format": "hf"})
    assert (refusal(answer, "workbench").status, "take safetensors" in answer.text) == (422, True)
    answer = dora.http.get(f"{OURS}/{shop['MLP_v1']}/export", params={"format": "pickle"})
    assert refusal(answer, "workbench").status == 422


def test_every_export_is_in_the_audit_log(dora: Person, shop: dict[str, str]) -> None:
    request_id = f"req_{uuid.uuid4()}"
    path = f"{OURS}/{shop['MLP_v1']}/export"
    assert dora.http.get(path, headers={"X-Request-ID": request_id}).status_code == 200
    entry = entry_of(dora.http, request_id)
    assert (entry["action"], entry["outcome"]) == ("workbench.export_model", "done")
    assert (entry["object_kind"], entry["object_id"]) == ("model", shop["MLP_v1"])


@pytest.fixture(scope="module")
def large(registry: Registry, dora: Person) -> Iterator[str]:
    """A model of 256 MB."""
    model_id = registry.register(dora, {"weight": torch.zeros(64, 1 << 20)}, name="large")
    yield model_id
    dora.http.delete(f"/models/{model_id}")


def test_a_large_export_takes_little_memory(
    dora: Person, large: str, workbench_server: WorkbenchServer
) -> None:
    process = Path(f"/proc/{workbench_server.pid}")
    (process / "clear_refs").write_text("5")  # what others have needed at most before does not count
    before = re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())
    exported(dora.http, large, "safetensors")
    peak = re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())
    assert before is not None
    assert peak is not None
    assert int(peak[1]) - int(before[1]) < 64_000


def test_weights_that_were_changed_on_disk_do_not_leave(
    registry: Registry, dora: Person, workbench_server: WorkbenchServer
) -> None:
    model_id = registry.register(dora, name="broken")
    (blob,) = files_of(workbench_server, model_id)
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    answer = dora.http.get(f"{OURS}/{model_id}/export")
    assert refusal(answer, "workbench").code == "CHECKPOINT_INVALID"
