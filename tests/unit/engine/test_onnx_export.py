from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from tests.unit.engine.test_trainer import SPEC, make, rows
from tg_workbench.engine.architectures import ROW_MODELS, build
from tg_workbench.engine.networks import RowModel
from tg_workbench.engine.onnx_export import INPUT, OPSET, OUTPUT, to_onnx, why_not
from tg_workbench.engine.specs import Architecture, OptimizerSpec
from tg_workbench.engine.trainer import Trainer

SHAPES = {"table": (30,), "8×8": (1, 8, 8), "colours": (3, 17, 9)}
WITH_ONNX = [name for name in ROW_MODELS if name != "scattering"]


def scores(content: bytes, features: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run([OUTPUT], {INPUT: features})[0]
    return found


@pytest.mark.parametrize("name", WITH_ONNX)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_onnx_scores_as_torch_does_at_every_batch_size(name: str, shape: tuple[int, ...]) -> None:
    network = build(name, Architecture(shape, 4, (8, 16)), Path(), seed=3)
    assert isinstance(network, RowModel)
    content = to_onnx(network)
    assert content is not None
    assert onnx.load_from_string(content).opset_import[0].version == OPSET
    for count in (1, 7):
        features = torch.randn(count, *shape)
        with torch.no_grad():
            expected = network.answer({"features": features})
        np.testing.assert_allclose(scores(content, features.numpy()), expected, rtol=1e-5, atol=1e-5)


def test_what_a_trainer_writes_is_the_model_that_others_see() -> None:
    trainer = Trainer(
        dataclasses.replace(SPEC, optimizer=OptimizerSpec("sgd", learning_rate=0.5), average_after=0)
    )
    for _ in range(3):
        trainer.forward_backward(rows())
        trainer.optim_step()
    content = to_onnx(trainer)
    assert content is not None
    found = scores(content, rows()["features"].astype(np.float32)).argmax(1)
    assert found.tolist() == [each["class"] for each in trainer.predict(rows())]
    assert trainer.network.module.training is False
    assert why_not(trainer) is None


def test_network_that_only_torch_computes_has_no_onnx_and_says_why() -> None:
    scattering = build("scattering", Architecture((1, 8, 8), 2), Path())
    assert to_onnx(scattering) is None
    assert "complex" in str(why_not(scattering))
    llama = build("tiny-llama", None, Path())
    assert to_onnx(llama) is None
    assert "language model" in str(why_not(llama))


def test_writing_leaves_the_module_as_it_was() -> None:
    trainer = make()
    trainer.network.module.train()
    assert to_onnx(trainer.network) is not None
    assert trainer.network.module.training
