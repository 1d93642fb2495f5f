from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.engine.test_trainer import make
from tg_workbench.engine.architectures import build
from tg_workbench.engine.specs import Architecture, OptimizerSpec, PrivacySpec
from tg_workbench.engine.trainer import Trainer
from tg_workbench.errors import InvalidRequest

RESNETS = ("resnet18", "resnet50")


@pytest.mark.parametrize(("name", "parameters"), [("resnet18", 11_689_512), ("resnet50", 25_557_032)])
def test_resnet_has_as_many_parameters_as_the_papers(name: str, parameters: int) -> None:
    module = build(name, Architecture((3, 224, 224), 1000), Path()).module
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters


@pytest.mark.parametrize("name", RESNETS)
def test_resnet_normalises_no_batch_and_keeps_nothing_but_parameters(name: str) -> None:
    module = build(name, Architecture((3, 8, 8), 2, (8, 16)), Path()).module
    assert not any("BatchNorm" in type(layer).__name__ for layer in module.modules())
    assert not list(module.buffers())
    assert module.state_dict().keys() == dict(module.named_parameters()).keys()


@pytest.mark.parametrize(("side", "left"), [(8, 8), (15, 15), (16, 8), (28, 14), (32, 8), (64, 16)])
def test_stem_halves_an_image_while_enough_of_it_is_left(side: int, left: int) -> None:
    module = build("resnet18", Architecture((1, side, side), 2, (8,)), Path()).module
    assert isinstance(module, nn.Sequential)
    before = module[: [name for name, _ in module.named_children()].index("stages")]
    assert before(torch.zeros(1, 1, side, side)).shape[2:] == (left, left)


@pytest.mark.parametrize("name", RESNETS)
@pytest.mark.parametrize("privacy", [PrivacySpec(0.01, 1.0), None], ids=["private", "plain"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 8), (30,)], ids=["grey", "colour", "table"])
def test_resnet_learns(name: str, privacy: PrivacySpec | None, shape: tuple[int, ...]) -> None:
    trainer = make(
        model_ref=name,
        architecture=Architecture(shape, 2, (8, 16)),
        privacy=privacy,
        optimizer=OptimizerSpec("adam", learning_rate=0.01),
        expected_batch_size=16,
    )
    draw = np.random.default_rng(0)
    classes = np.arange(16) % 2
    pattern = draw.normal(size=math.prod(shape))  # not one number: the norms take that away
    features = draw.normal(size=(16, math.prod(shape))) + 2.0 * classes[:, None] * pattern
    batch = {"features": features.reshape(16, *shape), "targets": classes}
    before = trainer.evaluate(batch).loss
    for _ in range(25):
        trainer.forward_backward(batch)
        trainer.optim_step()
    assert trainer.evaluate(batch).loss < 0.7 * before
    again = Trainer(dataclasses.replace(trainer.spec, seed=4))
    again.load_state(*trainer.state())
    assert again.evaluate(batch).loss == pytest.approx(trainer.evaluate(batch).loss)


@pytest.mark.parametrize("name", RESNETS)
def test_resnet_takes_widths_for_its_stages_only(name: str) -> None:
    with pytest.raises(InvalidRequest, match="4 stages"):
        build(name, Architecture((1, 8, 8), 2, (8,) * 5), Path())
