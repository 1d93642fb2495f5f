"""Numbers are learned on a scale, and everything that is told of them is in their own unit."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from tg_workbench.engine.architectures import build
from tg_workbench.engine.blueprints import Blueprint, weights_of
from tg_workbench.engine.canaries import Seed, canary_rows
from tg_workbench.engine.onnx_export import to_onnx
from tg_workbench.engine.specs import Architecture, OptimizerSpec, PrivacySpec, TargetScale, TrainerSpec
from tg_workbench.engine.states import identity
from tg_workbench.engine.trainer import Trainer
from tg_workbench.errors import CheckpointMismatch, InvalidBatch, InvalidRequest

CENTER, SCALE = 200_000.0, 80_000.0
NUMBER = Architecture((4,), 1, (8,))
PRICES = dataclasses.replace(NUMBER, target_scale=TargetScale(CENTER, SCALE))
SPEC = TrainerSpec(
    model_ref="mlp",
    architecture=PRICES,
    lora=None,
    optimizer=OptimizerSpec("adam", learning_rate=0.05),
    loss=None,
    privacy=None,
    expected_batch_size=64,
    cache_folder=Path(),
)
ENGINES = ("book-keeping", "opacus-hooks", "opacus-ghost")


def prices(count: int = 64) -> dict[str, Any]:
    features = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    return {"features": features, "targets": (CENTER + SCALE * np.tanh(features[:, 0])).astype(np.float32)}


def on_their_scale(rows: dict[str, Any]) -> dict[str, Any]:
    return {**rows, "targets": (rows["targets"] - CENTER) / SCALE}


def make(shape: Architecture, **more: Any) -> Trainer:
    return Trainer(dataclasses.replace(SPEC, architecture=shape, **more))


def learned(shape: Architecture, rows: dict[str, Any], steps: int = 60) -> Trainer:
    trainer = make(shape)
    for _ in range(steps):
        trainer.forward_backward(rows)
        trainer.optim_step()
    return trainer


def test_numbers_far_from_zero_are_learned_and_told_in_their_own_unit() -> None:
    trainer = learned(PRICES, prices())
    found = trainer.measure(prices())
    assert found.metrics["r2"] > 0.95
    assert 0.0 < found.metrics["rmse"] < 0.25 * SCALE
    assert found.loss == pytest.approx((found.metrics["rmse"] / SCALE) ** 2, rel=1e-3)
    values = np.asarray([each["value"] for each in trainer.predict(prices())])
    assert np.abs(values - prices()["targets"]).mean() < 0.25 * SCALE
    assert learned(NUMBER, prices()).measure(prices()).metrics["r2"] < 0.0, "without a scale it is not"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_clipped_gradient_is_that_of_the_scaled_numbers(engine: str) -> None:
    """Else a unit of dollars instead of cents would change what a bound cuts off."""
    privacy = PrivacySpec(noise_multiplier=0.0, max_grad_norm=0.5, engine=engine)
    scaled, plain = make(PRICES, privacy=privacy), make(NUMBER, privacy=privacy)
    told, expected = scaled.forward_backward(prices()), plain.forward_backward(on_their_scale(prices()))
    assert told.loss == pytest.approx(expected.loss, rel=1e-4)
    for trainer in (scaled, plain):
        trainer.optim_step()
    ours, theirs = (dict(each.network.module.named_parameters()) for each in (scaled, plain))
    for name, parameter in ours.items():
        torch.testing.assert_close(parameter, theirs[name], rtol=1e-3, atol=1e-4)


def test_a_model_on_a_scale_answers_alike_in_torch_onnx_and_built_again() -> None:
    trainer, rows = learned(PRICES, prices(), steps=5), prices()
    expected = np.asarray([[each["value"]] for each in trainer.predict(rows)])
    content = to_onnx(trainer)
    assert content is not None
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(
        session.run(["scores"], {"features": rows["features"]})[0], expected, rtol=1e-5
    )
    drawing = json.loads(json.dumps(Blueprint.of(trainer).as_json()))
    assert drawing["target_scale"] == {"center": CENTER, "scale": SCALE}
    network = Blueprint.from_json(drawing).opened(weights_of(trainer), Path())
    answers = network.answer({"features": torch.from_numpy(rows["features"])})
    np.testing.assert_allclose(answers.numpy(), expected, rtol=1e-5)


def test_weights_on_another_scale_are_not_taken_over() -> None:
    state = learned(PRICES, prices(), steps=2).state()
    others = (NUMBER, dataclasses.replace(PRICES, target_scale=TargetScale(CENTER, 2 * SCALE)))
    for shape in others:
        with pytest.raises(CheckpointMismatch, match="another architecture"):
            make(shape).load_state(*state)
    make(PRICES).load_state(*state)


def test_a_state_from_before_there_were_scales_still_fits() -> None:
    assert identity("mlp", NUMBER, None, "adam")["architecture"] == {
        "input_shape": [4],
        "output_size": 1,
        "hidden_sizes": [8],
    }
    assert Architecture.from_json({"input_shape": [4], "output_size": 1, "hidden_sizes": [8]}) == NUMBER
    assert Architecture.from_json(json.loads(json.dumps(PRICES.as_json()))) == PRICES


def test_canaries_lie_among_the_numbers_they_are_mixed_with() -> None:
    header = {"features": {"dtype": "F32", "shape": [9, 4]}, "targets": {"dtype": "F32", "shape": [9]}}
    drawn = canary_rows(build("mlp", PRICES, Path()), 500, Seed("ab" * 32), header=header, loss=None)
    assert drawn["targets"].mean() == pytest.approx(CENTER, abs=0.2 * SCALE)
    assert drawn["targets"].std() == pytest.approx(SCALE, rel=0.2)


@pytest.mark.parametrize(
    ("center", "scale"), [(math.nan, 1.0), (0.0, 0.0), (0.0, -1.0), (0.0, math.inf), (math.inf, 1.0)]
)
def test_a_scale_that_cannot_be_undone_is_refused(center: float, scale: float) -> None:
    with pytest.raises(InvalidRequest, match="center"):
        TargetScale(center, scale)


def test_only_numbers_are_learned_on_a_scale() -> None:
    with pytest.raises(InvalidRequest, match="mse"):
        make(PRICES, loss="bce")
    classes = {**prices(), "targets": np.zeros(64, dtype=np.int64)}
    with pytest.raises(InvalidBatch):
        make(PRICES).forward_backward(classes)
    with pytest.raises(InvalidRequest, match="output_size alone"):
        build("tiny-llama", Architecture((), 2, (), TargetScale(0.0, 2.0)), Path())
