"""Is what couples the examples of a batch refused before anything was learned from it?"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from tests.claims.test_clipping import LAYERS, uneven
from tg_workbench.engine.losses import LOSSES
from tg_workbench.engine.networks import RowModel
from tg_workbench.engine.trainer import Architecture, OptimizerSpec, PrivacySpec, Trainer, TrainerSpec
from tg_workbench.errors import InvalidRequest, UnsupportedLayer
from tg_workbench.privacy.apart import require_apart

SPEC = TrainerSpec(
    model_ref="mlp",
    architecture=Architecture((4,), 3, (16,)),
    lora=None,
    optimizer=OptimizerSpec("sgd", learning_rate=0.1),
    loss="cross_entropy",
    privacy=PrivacySpec(noise_multiplier=1.0, max_grad_norm=1.0),
    expected_batch_size=8.0,
    cache_folder=Path(),
)
ROWS = {"features": np.random.default_rng(0).normal(size=(8, 4)), "targets": np.arange(8) % 3}


class Centred(nn.Module):
    """A batch norm written by hand: no name gives it away."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True)


def contrastive(said: Tensor) -> Tensor:
    """Each example against all others (van den Oord et al. 2018)."""
    likeness = F.normalize(said) @ F.normalize(said).T
    return F.cross_entropy(likeness, torch.arange(len(said)), reduction="none")


def token_mean(said: Tensor) -> Tensor:
    """What Hugging Face's own loss does: one mean over all tokens, handed back for each example."""
    return said.flatten(1).sum(1) / said.detach().numel() + 0 * said.sum() + said.mean().expand(len(said))


@pytest.mark.parametrize("couple", [contrastive, token_mean])
def test_a_loss_that_couples_examples_is_refused(couple: object) -> None:
    model, x = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), torch.randn(2, 4)
    with pytest.raises(InvalidRequest, match="depends on another one"):
        require_apart(model, lambda some: couple(model(x[some])), 2)  # type: ignore[operator]


@pytest.mark.parametrize("engine", ["book-keeping", "opacus-hooks", "opacus-ghost"])
def test_a_layer_that_couples_examples_is_refused_whichever_engine_clips(engine: str) -> None:
    network = RowModel(nn.Sequential(nn.Linear(4, 8), Centred(), nn.Linear(8, 3)), (4,), 3)
    privacy = PrivacySpec(noise_multiplier=1.0, max_grad_norm=1.0, engine=engine)
    trainer = Trainer(dataclasses.replace(SPEC, privacy=privacy), network=network)
    with pytest.raises(InvalidRequest, match="depends on another one"):
        trainer.forward_backward(ROWS)
    assert not trainer.pending


def test_a_loss_that_couples_examples_is_refused_by_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "cross_entropy", lambda said, target: contrastive(said) + 0 * target)
    trainer = Trainer(SPEC)
    with pytest.raises(InvalidRequest, match="depends on another one"):
        trainer.forward_backward(ROWS)
    assert not trainer.pending


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_that_take_examples_one_by_one_pass(layer: str) -> None:
    make, draw = LAYERS[layer]
    model, x = make(), draw()
    require_apart(model, lambda some: uneven(model(x[some])), len(x))


def test_a_llama_passes_and_its_dropout_is_as_it_would_have_been() -> None:
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            pad_token_id=None,
        )
    )
    ids = torch.randint(0, 64, (2, 7))
    before = torch.random.get_rng_state()

    def losses(some: list[int]) -> Tensor:
        return model(input_ids=ids[some], use_cache=False).logits.pow(2).flatten(1).mean(1)

    require_apart(model, losses, 2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_numbers_that_are_not_finite_are_no_sign_of_coupling() -> None:
    model = nn.Linear(4, 3)
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [float("inf"), 0.0, 1.0, 2.0]])
    require_apart(model, lambda some: model(x[some]).tanh().sum(1), 2)


class Scaled(nn.Module):
    """By what the whole batch is like, and no gradient tells of it."""

    def forward(self, x: Tensor) -> Tensor:
        return x / (1.0 + x.detach().abs().mean())


class Positions(nn.Module):
    """A table that learns and is the same for everybody: five long, as a batch may be."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(2, 4)
        self.output = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(x.unsqueeze(1) + self.table(torch.arange(2))).mean(1)


def frozen(layer: nn.Module) -> nn.Module:
    return layer.requires_grad_(False)


@pytest.mark.parametrize(
    "layers",
    [
        (Centred(), nn.Linear(4, 3)),
        (nn.Linear(4, 8), Scaled(), nn.Linear(8, 3)),
        (frozen(nn.Linear(4, 8)), Centred(), nn.Linear(8, 3)),
    ],
    ids=["before the first layer", "without a gradient", "behind a frozen layer"],
)
def test_coupling_that_no_gradient_passes_is_found_by_its_value(layers: tuple[nn.Module, ...]) -> None:
    trainer = Trainer(SPEC, network=RowModel(nn.Sequential(*layers), (4,), 3))
    with pytest.raises(InvalidRequest, match="its value changes with who is beside it"):
        trainer.forward_backward(ROWS)


def test_a_loss_divided_by_the_batchs_own_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = LOSSES["cross_entropy"]
    relative = lambda said, target: plain(said, target) / plain(said, target).detach().mean()  # noqa: E731
    monkeypatch.setitem(LOSSES, "cross_entropy", relative)
    with pytest.raises(InvalidRequest, match="its value changes"):
        Trainer(SPEC).forward_backward(ROWS)


def test_a_table_as_long_as_the_batch_is_not_taken_for_examples() -> None:
    trainer = Trainer(SPEC, network=RowModel(Positions(), (4,), 3))
    two = {name: column[:2] for name, column in ROWS.items()}
    with pytest.raises(UnsupportedLayer, match="its first axis is not the example"):
        trainer.forward_backward(two)


def test_the_model_learns_on_as_it_did_and_no_hook_stays() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    x = torch.randn(3, 4)
    require_apart(model, lambda some: model(x[some]).tanh().sum(1), 3)
    assert model.training
    assert all(not module._forward_hooks for module in model.modules())
