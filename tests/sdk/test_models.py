"""Models and inference services from the SDK: found, asked, exported, served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from safetensors.numpy import load_file

from tg_workbench import (
    InvalidRequest,
    LoRA,
    ModelInUse,
    ModelNotFound,
    Refused,
    ServiceNotFound,
    ServiceStopped,
    Workbench,
)
from tg_workbench.sdk import Model, Service

QUICK: dict[str, Any] = {"epochs": 60, "batch_size": 20, "learning_rate": 0.05, "hidden_sizes": [8]}
FRAME = pl.DataFrame(
    {
        "age": [None if number == 7 else 20 + number % 60 for number in range(120)],
        "smokes": ["often" if number % 3 else "never" for number in range(120)],
        "sick": ["yes" if number % 60 > 30 else "no" for number in range(120)],
    }
)


@pytest.fixture(scope="module")
def model(workbench: Workbench) -> Model:
    """A model of a table."""
    table = workbench.datasets.upload(FRAME, "table for models", target="sick", privacy="public")
    job = workbench.jobs.submit("mlp", table, name="sick or not", seed=3, **QUICK).wait(timeout=240)
    assert job.model is not None
    return job.model


@pytest.fixture(scope="module")
def service(model: Model) -> Service:
    """It, served."""
    return model.serve("patients").wait()


def test_a_model_says_what_it_is(model: Model) -> None:
    assert (model.inputs, sorted(model.class_names or [])) == (["age", "smokes"], ["no", "yes"])
    assert model.family == "sick or not", "a model is called as its job was"
    assert model.performance["accuracy"] > 0.8
    assert model.privacy.guarantee == "none"
    assert f"version {model.version} (mlp), accuracy" in str(model)
    assert model.card._repr_markdown_().startswith("---") or "#" in model.card
    assert "mlp" in model.card


@pytest.mark.parametrize("kind", [pl.DataFrame, pd.DataFrame])
def test_a_table_is_predicted_in_its_order(model: Model, kind: type) -> None:
    frame = kind(FRAME.to_dict(as_series=False))
    said = model.predict(frame)
    assert len(said) == len(FRAME)
    right = sum(one.label == sick for one, sick in zip(said, FRAME["sick"], strict=True))
    assert right > 0.8 * len(FRAME)
    assert all(0.5 <= (one.confidence or 0.0) <= 1.0 for one in said)


def test_rows_of_any_shape_mean_the_same(model: Model) -> None:
    by_name = model.predict({"smokes": "often", "age": 70})
    assert by_name == model.predict([70, "often"]) == model.predict([[70, "often"]])
    assert len(by_name) == 1
    missing = [{"age": None, "smokes": "often"}, {"age": float("nan"), "smokes": "never"}]
    assert len(model.predict(missing)) == 2
    with pytest.raises(InvalidRequest, match=r"row 2|inputs\.1"):
        model.predict([[70, "often"], [70]])
    with pytest.raises(InvalidRequest, match="column smokes"):
        model.predict(FRAME.drop("smokes"))


def test_a_model_is_found_by_id_name_version_and_alias(workbench: Workbench, model: Model) -> None:
    models = workbench.models
    assert models[model.id] == model
    assert models[f"{model.family}:{model.version}"].id == model.id
    assert models[model.name].family == model.family
    with pytest.raises(InvalidRequest, match="an alias is 1 to 64 of small letters"):
        model.alias("pro/duction")
    model.alias("production")
    assert model.aliases == ["production"]
    assert models[f"{model.family}@production"].id == model.id
    assert "@production" in str(model)
    assert model.id in [each.id for each in model.versions()]
    assert model.id in [each.id for each in models.search("MLP")]
    assert model.id in [each.id for each in models.list(dataset=model.dataset_id, sort_by="accuracy")]
    assert model.remove_alias("production").aliases == []
    for key in ("mdl-nothing", "nothing", f"{model.family}:999", f"{model.family}@nobody"):
        with pytest.raises(ModelNotFound):
            _ = models[key]


def test_a_model_is_exported_in_forms_that_others_read(model: Model, tmp_path: Path) -> None:
    folder = model.export(tmp_path / "plain")
    assert load_file(folder / "model.safetensors")
    assert json.loads((folder / "privacy.json").read_text())["guarantee"] == "none"
    onnx = model.export(tmp_path / "onnx", format="onnx")
    assert any(path.suffix == ".onnx" for path in onnx.iterdir())
    with pytest.raises(FileExistsError):
        model.export(tmp_path / "plain")
    with pytest.raises(InvalidRequest):
        model.export(tmp_path / "hf", format="hf")


def test_a_service_answers_as_its_model_does(workbench: Workbench, model: Model, service: Service) -> None:
    assert service.ready
    assert workbench.services["patients"].id == service.id
    assert service.id in [each.id for each in workbench.services.list()]
    assert service.predict(FRAME.head(5)) == model.predict(FRAME.head(5))
    assert service.url.endswith(f"/workbench/v1/inference/{service.id}")
    assert str(service).startswith("patients ready, 1 of at most 1 workers")
    assert service.model.id == model.id
    with pytest.raises(Refused, match="already exists"):
        model.serve("patients")
    with pytest.raises(ModelInUse):
        model.delete()
    with pytest.raises(InvalidRequest):
        list(service.generate("Dear"))


def test_a_service_stops_and_is_forgotten(workbench: Workbench, model: Model) -> None:
    service = workbench.services.create(model, "for-a-while")
    assert service.status == "stopped"
    with pytest.raises(ServiceStopped):
        service.predict([[70, "often"]])
    assert service.start().predict([70, "often"])[0].label in ("no", "yes")
    assert service.stop().status in ("stopped", "stopping")
    service.delete()
    with pytest.raises(ServiceNotFound):
        _ = workbench.services["for-a-while"]


def test_pictures_of_bytes_are_predicted_as_they_were_learned(workbench: Workbench) -> None:
    pixels = np.zeros((60, 6, 6), np.uint8)
    pixels[::2, :3] = 255
    targets = np.arange(60) % 2
    rows = workbench.datasets.upload("halves", features=pixels, targets=targets, privacy="public")
    job = workbench.jobs.submit("mlp", rows, epochs=30, batch_size=20, learning_rate=0.05, seed=1)
    model = job.wait(timeout=240).model
    assert model is not None
    assert [one.label for one in model.predict(pixels[:6])] == [0, 1, 0, 1, 0, 1]
    assert [one.label for one in model.predict(pixels[1])] == [1]
    model.delete()
    with pytest.raises(ModelNotFound):
        _ = workbench.models[model.id]


def test_a_served_language_model_writes_piece_by_piece(workbench: Workbench) -> None:
    letters = workbench.datasets.upload(
        "letters to write", texts=["Dear Clara", "Yours, Dan"] * 8, privacy="public"
    )
    job = workbench.jobs.submit("tiny-llama", letters, epochs=1, batch_size=8).wait(timeout=240)
    assert job.model is not None
    service = job.model.serve("writer")
    pieces = list(service.generate("Dear", max_tokens=8))
    assert "".join(pieces)
    assert service.predict("Dear")[0].confidence
    service.delete()


@pytest.mark.parametrize("lora", [None, LoRA(rank=2, alpha=4)], ids=["frozen", "adapted"])
def test_texts_are_told_apart_by_a_language_model(workbench: Workbench, lora: LoRA | None) -> None:
    texts = [f"{word} {number}" for number in range(40) for word in ("aaaa", "zzzz")]
    frame = pl.DataFrame({"text": texts, "label": ["first", "last"] * 40})
    notes = workbench.datasets.upload(
        frame, "first and last words", dataset_type="text_classification", privacy="public"
    )
    asked: dict[str, Any] = {"epochs": 6, "batch_size": 16, "learning_rate": 0.02, "seed": 1, "lora": lora}
    model = workbench.jobs.submit("tiny-llama", notes, **asked).wait(timeout=240).model
    assert model is not None
    said = model.predict(["aaaa 7", "zzzz 7"])
    assert [one.label for one in said] == ["first", "last"]
    assert model.predict([{"text": "zzzz 9"}])[0].label == "last"
    with pytest.raises(InvalidRequest, match="text"):
        model.predict([[1, 2]])
