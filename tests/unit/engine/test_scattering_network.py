"""The network on top of scattering, through a trainer: prepared once or not, the same is learned."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tests.unit.engine.test_trainer import SPEC
from tg_workbench.engine.trainer import Architecture, OptimizerSpec, PrivacySpec, Trainer, TrainerSpec
from tg_workbench.errors import Interrupted, InvalidBatch, InvalidRequest
from tg_workbench.privacy import PoissonSampler, noise_multiplier

SCATTERING = TrainerSpec(
    model_ref="scattering",
    architecture=Architecture((1, 8, 8), 10),
    lora=None,
    optimizer=OptimizerSpec("sgd", 0.5, weight_decay=0.0, momentum=0.9, tail_averaging=0.5),
    loss=None,
    privacy=PrivacySpec(0.0, 1.0),
    expected_batch_size=300,
    cache_folder=Path(),
)


def digits(chosen: slice = slice(None)) -> dict[str, Any]:
    known = load_digits()
    return {"features": known.images[chosen, None].astype(np.float32) / 16, "targets": known.target[chosen]}


def test_prepared_rows_teach_what_rows_teach() -> None:
    one, other = Trainer(SCATTERING), Trainer(SCATTERING)
    batch = digits(slice(64))
    for trainer, sent in ((one, batch), (other, one.prepare(batch))):
        trainer.forward_backward(sent)
        trainer.optim_step()
    for name, tensor in one.state()[0].items():
        torch.testing.assert_close(other.state()[0][name], tensor, atol=1e-5, rtol=1e-4)
    looked = other.evaluate(one.prepare(batch))
    assert looked.loss == pytest.approx(other.evaluate(batch).loss, rel=1e-3)


def test_preparing_takes_half_the_memory_and_leaves_the_targets() -> None:
    prepared = Trainer(SCATTERING).prepare(digits(slice(5)))
    assert prepared.keys() == {"prepared", "targets"}
    assert prepared["prepared"].shape == (5, 81, 2, 2)
    assert prepared["prepared"].dtype == np.float16


def test_preparing_again_or_without_a_front_changes_nothing() -> None:
    trainer = Trainer(SCATTERING)
    prepared = trainer.prepare(digits(slice(5)))
    assert trainer.prepare(prepared)["prepared"] is prepared["prepared"]
    assert Trainer(SPEC).prepare({"features": [[1.0] * 4]}) == {"features": [[1.0] * 4]}


def test_preparing_can_be_broken_off() -> None:
    with pytest.raises(Interrupted):
        Trainer(SCATTERING).prepare(digits(slice(5)), should_stop=lambda: True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prepared": np.zeros((2, 81, 3, 3)), "targets": [0, 1]},
        {"prepared": np.full((2, 81, 2, 2), np.nan), "targets": [0, 1]},
        {"prepared": np.zeros((2, 81, 2, 2)), "targets": [0]},
        {"features": np.zeros((2, 1, 7, 8)), "targets": [0, 1]},
    ],
)
def test_rows_of_another_shape_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidBatch):
        Trainer(SCATTERING).forward_backward(wrong)


def test_rows_of_a_network_without_a_front_cannot_be_prepared_elsewhere() -> None:
    with pytest.raises(InvalidBatch):
        Trainer(SPEC).forward_backward({"prepared": np.zeros((2, 4)), "targets": [0, 1]})


@pytest.mark.parametrize("shape", [(64,), (8, 8), (1, 7, 8)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match="8×8"):
        Trainer(dataclasses.replace(SCATTERING, architecture=Architecture(shape, 10)))


def test_only_the_last_layers_learn_and_are_saved() -> None:
    tensors, _ = Trainer(SCATTERING).state()
    assert {name: tuple(t.shape) for name, t in tensors.items()} == {
        "model/output.weight": (10, 324),
        "model/output.bias": (10,),
    }


def test_no_example_pulls_further_than_the_bound() -> None:
    trainer = Trainer(dataclasses.replace(SCATTERING, expected_batch_size=1.0))
    before = trainer.state()[0]
    trainer.forward_backward(digits(slice(1)))
    trainer.optim_step(learning_rate=1.0)
    after = trainer.state()[0]
    moved = sum(float((after[name] - before[name]).square().sum()) for name in before)
    assert 0.9 < moved**0.5 <= 1.0 + 1e-6


def test_digits_are_learned_privately() -> None:
    """ε = 3 at δ = 1e-5, Poisson batches, 1,437 rows; the other 360 were never seen."""
    train, test = digits(slice(1437)), digits(slice(1437, None))
    sampler = PoissonSampler(1437, 0.25)
    noise = noise_multiplier(target_epsilon=3.0, delta=1e-5, sample_rate=0.25, steps=80)
    spec = dataclasses.replace(
        SCATTERING,
        privacy=PrivacySpec(noise, 1.0),
        expected_batch_size=sampler.expected_batch_size,
        average_after=SCATTERING.optimizer.average_after(80),
    )
    trainer = Trainer(spec)
    prepared = trainer.prepare(train)
    for _ in range(80):
        drawn = sampler.draw()
        trainer.forward_backward({name: column[drawn] for name, column in prepared.items()}, allow_empty=True)
        trainer.optim_step()
    assert (trainer.evaluate(test).accuracy or 0.0) > 0.8
