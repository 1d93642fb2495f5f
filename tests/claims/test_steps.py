"""Is a step the same however its batch came: whole, in parts, after other passes through the model?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.claims.devices import DEVICES
from tg_workbench.engine.trainer import (
    Architecture,
    LoraSpec,
    OptimizerSpec,
    PrivacySpec,
    Trainer,
    TrainerSpec,
)

Batch = dict[str, Any]
CPU = torch.device("cpu")


def rows(count: int) -> Batch:
    draw = np.random.default_rng(0)
    return {"features": draw.normal(size=(count, 1, 8, 8)), "targets": draw.integers(0, 3, count)}


def texts(count: int) -> Batch:
    draw = np.random.default_rng(0)
    return {"input_ids": draw.integers(0, 256, (count, 7))}


def make(
    model_ref: str,
    *,
    noise: float = 0.0,
    private: bool = True,
    lora: bool = False,
    device: torch.device = CPU,
) -> Trainer:
    return Trainer(
        TrainerSpec(
            model_ref=model_ref,
            architecture=None if model_ref == "tiny-llama" else Architecture((1, 8, 8), 3, (8,)),
            lora=LoraSpec(rank=4, target_modules=("q_proj", "v_proj"), dropout=0.0) if lora else None,
            optimizer=OptimizerSpec("sgd", learning_rate=0.5, weight_decay=0.0),
            loss=None,
            privacy=PrivacySpec(noise, 0.05) if private else None,
            expected_batch_size=8,
            cache_folder=Path(),
        ),
        device=device,
    )


MODELS = {
    "mlp": (lambda **more: make("mlp", **more), rows),
    "cnn": (lambda **more: make("cnn", **more), rows),
    "tiny-llama": (lambda **more: make("tiny-llama", **more), texts),
    "tiny-llama with lora": (lambda **more: make("tiny-llama", lora=True, **more), texts),
}


def part(batch: Batch, start: int, end: int) -> Batch:
    return {name: values[start:end] for name, values in batch.items()}


def same(one: Trainer, other: Trainer) -> None:
    for name, tensor in one.state()[0].items():
        torch.testing.assert_close(tensor, other.state()[0][name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("private", [True, False], ids=["private", "plain"])
@pytest.mark.parametrize("model", MODELS)
def test_gradient_accumulated_in_parts_equals_the_whole(
    model: str, private: bool, device: torch.device
) -> None:
    make_one, draw = MODELS[model]
    whole, parts, small = (make_one(private=private, device=device) for _ in range(3))
    batch = draw(8)
    whole.forward_backward(batch)
    for start, end in ((0, 3), (3, 4), (4, 8)):
        parts.forward_backward(part(batch, start, end))
    small.forward_backward(batch, micro_batch_size=3)
    for trainer in (whole, parts, small):
        trainer.optim_step()
    same(whole, parts)
    same(whole, small)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("model", MODELS)
def test_other_passes_change_nothing(model: str, device: torch.device) -> None:
    make_one, draw = MODELS[model]
    quiet, busy = make_one(device=device), make_one(device=device)
    batch = draw(8)
    quiet.forward_backward(batch)
    busy.evaluate(batch)
    busy.forward_backward(part(batch, 0, 5))
    busy.evaluate(batch)
    busy.predict(batch)
    if busy.is_language_model:
        busy.sample(["a"], max_tokens=3)
    busy.forward_backward(part(batch, 5, 8))
    quiet.optim_step()
    busy.optim_step()
    same(quiet, busy)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("model", MODELS)
def test_state_goes_from_one_device_to_another(model: str, device: torch.device) -> None:
    make_one, draw = MODELS[model]
    there, here = make_one(device=device), make_one()
    assert there.device.type == device.type
    there.forward_backward(draw(8))
    there.optim_step()
    tensors, metadata = there.state()
    assert {tensor.device.type for tensor in tensors.values()} == {"cpu"}
    here.load_state(tensors, metadata)
    for trainer in (there, here):
        trainer.forward_backward(part(draw(8), 0, 3))
        trainer.optim_step()
    same(there, here)


def test_discarded_gradient_leaves_nothing() -> None:
    trainer, fresh = make("mlp"), make("mlp")
    trainer.forward_backward(rows(8))
    trainer.discard()
    assert not trainer.pending
    for one in (trainer, fresh):
        one.forward_backward(part(rows(8), 0, 2))
        one.optim_step()
    same(trainer, fresh)


def test_plain_step_is_that_of_torch() -> None:
    trainer, batch = make("mlp", private=False), rows(8)
    weight = trainer.state()[0]["model/output.weight"]
    trainer.forward_backward(batch)
    trainer.optim_step()
    twin = make("mlp", private=False)._module
    said = twin(torch.tensor(batch["features"], dtype=torch.float32))
    torch.nn.functional.cross_entropy(said, torch.tensor(batch["targets"])).backward()
    expected = weight - 0.5 * twin.output.weight.grad  # type: ignore[union-attr, operator]
    torch.testing.assert_close(trainer.state()[0]["model/output.weight"], expected)
