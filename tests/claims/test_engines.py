"""Does every engine clip what one backward pass per example would have given, or refuse?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.claims.brute_force import check, one_by_one
from tests.claims.test_clipping import COUNT, LAYERS, REFUSED, adapted, tiny_llama, uneven
from tg_workbench.engine import specs
from tg_workbench.engine.architectures import cnn
from tg_workbench.engine.losses import LOSSES
from tg_workbench.engine.specs import Architecture, OptimizerSpec
from tg_workbench.engine.trainer import PrivacySpec, Trainer, TrainerSpec
from tg_workbench.errors import InvalidRequest, UnsupportedLayer
from tg_workbench.privacy import opacus_engines
from tg_workbench.privacy.engines import ENGINES, clipping_engine

OPACUS = ENGINES[1:]
CANNOT = {
    "opacus-hooks": {
        "conv1d around the edge",
        "conv2d around the edge",
        "embedding",
        "wide embedding, in factors",
    },
    "opacus-ghost": {
        "conv1d around the edge",
        "conv2d around the edge",
        "conv1d used twice",
        "conv2d used twice",
        "wide conv2d used twice, in factors",
        "embedding",
        "wide embedding, in factors",
        "linear on 4-D",
        "tied and used twice, whole",
        "tied and used twice, in factors",
    },
}
"""The layers of test_clipping that an engine of Opacus refuses; every other one it clips."""


@pytest.mark.parametrize("engine", OPACUS)
@pytest.mark.parametrize("layer", LAYERS)
def test_engine_clips_like_one_backward_per_example_or_refuses(layer: str, engine: str) -> None:
    torch.manual_seed(1)
    make, draw = LAYERS[layer]
    model, x = make(), draw()
    if layer in CANNOT[engine]:
        with pytest.raises(UnsupportedLayer, match=f"{engine}; use engine book-keeping"):
            check(model, lambda part: uneven(model(x[part])), COUNT, engine)
    else:
        found = check(model, lambda part: uneven(model(x[part])), COUNT, engine)
        assert 0 < found.num_clipped < COUNT
    _require_clean(model)


def _require_clean(model: nn.Module) -> None:
    """Nothing of Opacus is left: no hook, no gradient, no input of a layer."""
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
        assert not {"activations", "max_batch_len", "autograd_grad_sample_hooks"} & module.__dict__.keys()
    for parameter in model.parameters():
        assert parameter.grad is None
        assert not hasattr(parameter, "grad_sample")
        assert not hasattr(parameter, "_norm_sample")


@pytest.mark.parametrize("engine", OPACUS)
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_engine_clips_a_llama_like_one_backward_per_example(kind: str, engine: str) -> None:
    model = tiny_llama(tied=False) if kind == "full" else adapted(tiny_llama(tied=True))
    x = torch.randint(0, 50, (COUNT, 9))

    def losses(part: slice) -> Tensor:
        return LOSSES["cross_entropy"](model(input_ids=x[part], use_cache=False).logits, x[part])

    check(model, losses, COUNT, engine)
    _require_clean(model)


def test_embedding_without_padding_is_clipped_by_every_engine() -> None:
    for engine in OPACUS:
        torch.manual_seed(1)
        model, x = nn.Embedding(11, 6), torch.randint(0, 11, (COUNT, 7))
        check(model, lambda part, m=model, x=x: uneven(m(x[part])), COUNT, engine)


@pytest.mark.parametrize("engine", OPACUS)
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("layer", ["linear on rows", "conv2d", "lora", "group norm"])
def test_example_that_is_not_finite_contributes_zero(layer: str, value: float, engine: str) -> None:
    torch.manual_seed(1)
    make, draw = LAYERS[layer]
    model, x = make(), draw()
    others = torch.tensor([0, 1, 3, 4, 5, 6, 7])
    clipper = clipping_engine(engine, model)
    without = clipper.clip(lambda: model(x[others]).square().flatten(1).sum(1), 1.0)
    x[2] = value
    found = clipper.clip(lambda: model(x).square().flatten(1).sum(1), 1.0)
    assert found.count == COUNT
    for name, tensor in without.tensors.items():
        torch.testing.assert_close(found.tensors[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", OPACUS)
@pytest.mark.parametrize("bound", [1e-3, 0.1, 10.0])
def test_no_example_moves_the_sum_further_than_the_bound(bound: float, engine: str) -> None:
    torch.manual_seed(1)
    model = cnn(Architecture((1, 12, 12), 5)).module
    x, y = 30 * torch.randn(COUNT, 1, 12, 12), torch.randint(0, 5, (COUNT,))
    clipper = clipping_engine(engine, model)

    def summed(count: int) -> Tensor:
        found = clipper.clip(lambda: LOSSES["cross_entropy"](model(x[:count]), y[:count]), bound)
        return torch.cat([tensor.flatten().double() for tensor in found.tensors.values()])

    moved = [float((summed(count) - summed(count - 1)).norm()) for count in range(2, COUNT + 1)]
    assert max(moved) <= bound * (1 + 1e-6)


def test_ghost_norm_that_cancels_does_not_come_out_too_short() -> None:
    """Two tokens that almost undo each other: in float32 their Gram matrix says next to nothing is left."""
    model = nn.Linear(3, 2, bias=False)
    x = torch.full((1, 2, 3), 3000.0)
    x[0, 1] += 0.7
    weights = torch.tensor([[[1000.0], [-1000.0]]])
    exact = (x.double().mT @ weights.double().expand(1, 2, 2)).norm()
    found = clipping_engine("opacus-ghost", model).clip(lambda: (model(x) * weights).sum((1, 2)), 1e-3)
    assert float(found.norms[0]) == pytest.approx(float(exact), rel=1e-4)


@pytest.mark.parametrize("engine", OPACUS)
@pytest.mark.parametrize("name", REFUSED)
def test_layer_without_per_example_gradients_is_refused(name: str, engine: str) -> None:
    model, x = REFUSED[name](), torch.randn(3, 5, 4)

    def losses() -> Tensor:
        said = model(x)
        return (said[0] if isinstance(said, tuple) else said).reshape(3, -1).sum(1)

    with pytest.raises(UnsupportedLayer):
        clipping_engine(engine, model).clip(losses, 1.0)
    _require_clean(model)


class Rerun(nn.Module):
    """Forgets what is inside and computes it again on the way back."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = checkpoint(lambda y: self.second(torch.tanh(self.first(y))), x, use_reentrant=False)
        return inner


@pytest.mark.parametrize("engine", OPACUS)
def test_gradient_checkpointing_is_refused_by_name(engine: str) -> None:
    model, x = Rerun(), torch.randn(COUNT, 4)
    with pytest.raises(UnsupportedLayer, match=f"gradient checkpointing.*{engine}"):
        clipping_engine(engine, model).clip(lambda: uneven(model(x)), 1.0)
    _require_clean(model)


@pytest.mark.parametrize("engine", OPACUS)
def test_layer_in_evaluation_mode_is_refused_by_name(engine: str) -> None:
    model = nn.Linear(4, 2).eval()
    with pytest.raises(UnsupportedLayer, match="evaluation mode"):
        clipping_engine(engine, model).clip(lambda: model(torch.randn(3, 4)).sum(1), 1.0)


def test_engine_that_nobody_knows_is_refused_with_the_list() -> None:
    assert specs.ENGINES == ENGINES
    with pytest.raises(InvalidRequest, match="book-keeping, opacus-hooks, opacus-ghost"):
        clipping_engine("ghost", nn.Linear(2, 2))
    with pytest.raises(InvalidRequest, match="book-keeping, opacus-hooks, opacus-ghost"):
        PrivacySpec(1.0, 1.0, engine="ghost")


def trainer_of(engine: str) -> Trainer:
    return Trainer(
        TrainerSpec(
            model_ref="mlp",
            architecture=Architecture((3,), 2),
            lora=None,
            optimizer=OptimizerSpec("sgd", learning_rate=0.5, weight_decay=0.0),
            loss=None,
            privacy=PrivacySpec(0.0, 0.2, engine=engine),
            expected_batch_size=8.0,
            cache_folder=Path("unused"),
        )
    )


@pytest.mark.parametrize("engine", OPACUS)
def test_trainer_steps_alike_whichever_engine_clips(engine: str) -> None:
    """Three passes before each step, with stray looks between: what Opacus's own engine gets wrong."""
    torch.manual_seed(1)
    ours, theirs = trainer_of(ENGINES[0]), trainer_of(engine)
    rows = torch.randn(3, 4, 3).tolist()
    for trainer in (ours, theirs):
        for _ in range(2):
            for part in rows:
                trainer.forward_backward({"features": part, "targets": [0, 1, 1, 0]})
                trainer.evaluate({"features": part, "targets": [0, 1, 1, 0]})
                trainer._module(torch.randn(2, 3, device=trainer.device))
            trainer.optim_step()
        trainer.forward_backward({"features": [], "targets": []}, allow_empty=True)
        trainer.optim_step()
    state, other = ours.state()[0], theirs.state()[0]
    for name, tensor in state.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-6)
    theirs.load_state(*ours.state())  # a state fits whichever engine made it


@pytest.mark.parametrize("engine", OPACUS)
def test_bound_one_percent_too_wide_would_be_noticed(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    model, x = nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 3)), torch.randn(COUNT, 7)
    honest, _ = one_by_one(model, lambda part: uneven(model(x[part])), COUNT, 0.01)
    monkeypatch.setattr(opacus_engines, "_SLACK", 1.01)
    if engine == "opacus-hooks":
        monkeypatch.setattr("tg_workbench.privacy.clipping._SLACK", 1.01)
    found = clipping_engine(engine, model).clip(lambda: uneven(model(x)), 0.01)
    assert not torch.allclose(found.tensors["0.weight"].double(), honest["0.weight"], rtol=1e-3)


def test_opacus_is_imported_only_when_it_is_asked_for() -> None:
    code = """if True:
    import sys
    from torch import nn
    from tg_workbench.privacy.engines import clipping_engine
    import tg_workbench.engine.trainer
    clipping_engine("book-keeping", nn.Linear(2, 2))
    assert "opacus" not in sys.modules
    clipping_engine("opacus-ghost", nn.Linear(2, 2))
    assert "opacus" in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True)
