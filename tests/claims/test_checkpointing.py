"""Is a model that computes its insides twice clipped like one that keeps them?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.claims.brute_force import check
from tests.claims.test_clipping import COUNT, Masked, adapted, tiny_llama, uneven
from tg_workbench.engine.losses import LOSSES
from tg_workbench.engine.networks import LanguageModel
from tg_workbench.engine.specs import Architecture, LoraSpec, OptimizerSpec
from tg_workbench.engine.trainer import PrivacySpec, Trainer, TrainerSpec
from tg_workbench.errors import InvalidRequest, UnsupportedLayer
from tg_workbench.privacy.clipping import clip


class Rerun(nn.Module):
    """Forgets what is inside: layers with a rule, one without, one used twice, and dropout."""

    def __init__(self, *, dropout: float = 0.0, reentrant: bool = False) -> None:
        super().__init__()
        self.first, self.gate, self.twice = nn.Linear(4, 6), Masked(6), nn.Linear(6, 6)
        self.last = nn.Linear(6, 3)
        self.dropout, self.reentrant = dropout, reentrant
        self.ran = 0

    def inside(self, x: Tensor) -> Tensor:
        self.ran += 1
        hidden = self.gate(F.dropout(torch.tanh(self.first(x)), self.dropout, self.training))
        twice: Tensor = self.twice(torch.tanh(self.twice(hidden)))
        return twice

    def forward(self, x: Tensor) -> Tensor:
        again: Tensor = checkpoint(self.inside, x, use_reentrant=self.reentrant)
        return self.last(torch.tanh(again))


class InPlace(Rerun):
    """Changes what a layer read, after it did."""

    def inside(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        said: Tensor = self.twice(hidden)
        hidden.add_(1.0)
        return said


def test_checkpointed_layers_clip_like_one_backward_per_example() -> None:
    torch.manual_seed(1)
    model, x = Rerun(), torch.randn(COUNT, 4)
    found = check(model, lambda part: uneven(model(x[part])), COUNT)
    assert 0 < found.num_clipped < COUNT
    model.ran = 0
    clip(model, lambda: uneven(model(x)), 1.0)
    assert model.ran == 2, "or nothing was forgotten"


def test_second_run_draws_the_dropout_of_the_first() -> None:
    model, x = Rerun(dropout=0.5), torch.randn(COUNT, 4)
    sums = []
    for reran in (True, False):
        torch.manual_seed(2)
        run = model if reran else (lambda x: model.last(torch.tanh(model.inside(x))))
        sums.append(clip(model, lambda run=run: uneven(run(x)), 0.5))
    for name, tensor in sums[0].tensors.items():
        torch.testing.assert_close(tensor, sums[1].tensors[name])


@pytest.mark.parametrize("kind", ["full", "tied", "lora"])
def test_checkpointed_llama_clips_like_one_backward_per_example(kind: str) -> None:
    module = tiny_llama(tied=kind == "tied")
    network = LanguageModel(module, None, 50, 32)  # type: ignore[arg-type]  # nothing is read as text here
    network.checkpoint_blocks()
    model = adapted(module) if kind == "lora" else module
    x = torch.randint(0, 50, (COUNT, 9))
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    def losses(part: slice) -> Tensor:
        return LOSSES["cross_entropy"](model(input_ids=x[part], use_cache=False).logits, x[part])

    check(model, losses, COUNT)
    module.get_submodule("model.layers.0.mlp").register_forward_pre_hook(count)
    clip(model, lambda: losses(slice(None)), 1.0)
    assert runs == 2, "or nothing was forgotten"


def test_example_that_is_not_finite_contributes_zero_when_run_again() -> None:
    model, x = Rerun(), torch.randn(COUNT, 4)
    others = [0, 1, 3, 4, 5, 6, 7]
    without = clip(model, lambda: model(x[others]).square().sum(1), 1.0)
    x[2] = float("nan")
    found = clip(model, lambda: model(x).square().sum(1), 1.0)
    for name, tensor in without.tensors.items():
        torch.testing.assert_close(found.tensors[name], tensor, rtol=1e-5, atol=1e-6)


def test_checkpointing_of_the_old_kind_is_refused() -> None:
    model, x = Rerun(reentrant=True), torch.randn(COUNT, 4, requires_grad=True)
    with pytest.raises(InvalidRequest, match="use_reentrant=False"):
        clip(model, lambda: uneven(model(x)), 1.0)


def test_input_that_is_changed_in_place_is_refused() -> None:
    model, x = InPlace(), torch.randn(COUNT, 4)
    with pytest.raises(UnsupportedLayer, match="in place"):
        clip(model, lambda: uneven(model.inside(x)), 1.0)


def spec_of(engine: str, *, again: bool, model_ref: str = "tiny-llama") -> TrainerSpec:
    return TrainerSpec(
        model_ref=model_ref,
        architecture=Architecture((3,), 2) if model_ref == "mlp" else None,
        lora=None if model_ref == "mlp" else LoraSpec(rank=2, dropout=0.0),
        optimizer=OptimizerSpec("sgd", learning_rate=0.5, weight_decay=0.0),
        loss=None,
        privacy=PrivacySpec(0.0, 0.2, engine=engine),
        expected_batch_size=2.0,
        cache_folder=Path("unused"),
        gradient_checkpointing=again,
    )


def test_trainer_learns_the_same_with_and_without() -> None:
    batch = {"input_ids": [[1, 2, 3, 4], [4, 3, 2, 1]]}
    states = []
    for again in (False, True):
        trainer = Trainer(spec_of("book-keeping", again=again))
        for _ in range(3):
            trainer.forward_backward(batch)
            trainer.optim_step()
        states.append(trainer.state()[0])
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name])


@pytest.mark.parametrize(
    ("engine", "model_ref", "why"),
    [("opacus-ghost", "tiny-llama", "use engine book-keeping"), ("book-keeping", "mlp", "language models")],
)
def test_what_cannot_be_checkpointed_is_refused(engine: str, model_ref: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        Trainer(spec_of(engine, again=True, model_ref=model_ref))
