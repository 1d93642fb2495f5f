"""Is a gradient that was computed in bfloat16 still held to its bound, and about the right one?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.claims.brute_force import one_by_one
from tests.claims.devices import DEVICES
from tests.claims.test_clipping import COUNT, LAYERS, Leaking, Outside, adapted, tiny_llama, uneven
from tg_workbench.engine import specs
from tg_workbench.engine.architectures import cnn
from tg_workbench.engine.losses import LOSSES
from tg_workbench.engine.networks import LanguageModel
from tg_workbench.engine.precision import computing_in
from tg_workbench.engine.specs import BF16_MIXED, FLOAT32, PRECISIONS, Architecture, LoraSpec, OptimizerSpec
from tg_workbench.engine.trainer import PrivacySpec, Trainer, TrainerSpec
from tg_workbench.errors import InvalidRequest, UnsupportedLayer
from tg_workbench.privacy import clipping
from tg_workbench.privacy.clipping import ClippedSum, clip
from tg_workbench.training import ClientSpec
from tg_workbench.training.specs import DPSpec

Losses = Callable[[slice], Tensor]


def mixed(model: nn.Module, x: Tensor) -> Tensor:
    """What a network says when it computes in bfloat16."""
    with computing_in(BF16_MIXED, x.device):
        said: Tensor = model(x)
    return said.float()


def check_roughly(model: nn.Module, losses: Losses) -> ClippedSum:
    """Clip at the median norm; compare with one backward per example, whose own rounding is bfloat16's."""
    bound = float(one_by_one(model, losses, COUNT, 1.0)[1].median())
    expected, norms = one_by_one(model, losses, COUNT, bound)
    found = clip(model, lambda: losses(slice(0, COUNT)), bound)
    torch.testing.assert_close(found.norms, norms.cpu(), rtol=2e-2, atol=1e-6)
    scale = max(float(tensor.abs().max()) for tensor in expected.values())
    for name, tensor in expected.items():
        assert found.tensors[name].dtype == torch.float32
        torch.testing.assert_close(found.tensors[name].double(), tensor, rtol=5e-2, atol=2e-2 * scale)
    return found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layer", LAYERS)
def test_layer_clips_like_one_backward_per_example(layer: str, device: torch.device) -> None:
    torch.manual_seed(1)
    make, draw = LAYERS[layer]
    model, x = make().to(device), draw().to(device)
    check_roughly(model, lambda part: uneven(mixed(model, x[part])))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("again", [False, True], ids=["kept", "computed twice"])
@pytest.mark.parametrize("kind", ["full", "tied", "lora"])
def test_llama_clips_like_one_backward_per_example(kind: str, again: bool, device: torch.device) -> None:
    module = tiny_llama(tied=kind == "tied")
    network = LanguageModel(module, None, 50, 32)  # type: ignore[arg-type]  # nothing is read as text here
    if again:
        network.checkpoint_blocks()
    model = (adapted(module) if kind == "lora" else module).to(device)
    x = torch.randint(0, 50, (COUNT, 9))

    def losses(part: slice) -> Tensor:
        inputs = {"input_ids": x[part], "attention_mask": torch.ones_like(x[part])}
        return LOSSES["cross_entropy"](network.answer(inputs, BF16_MIXED), x[part].to(device))

    check_roughly(model, losses)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bound", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("kind", ["cnn", "linear in factors", "llama"])
def test_no_example_moves_the_sum_further_than_the_bound(
    kind: str, bound: float, device: torch.device
) -> None:
    """An example is taken away by a loss of zero, so that every other number is rounded as it was."""
    torch.manual_seed(1)
    model, said, y = STEEP[kind](device)

    def summed(without: int | None) -> Tensor:
        kept = torch.ones(COUNT, device=device)
        if without is not None:
            kept[without] = 0.0
        found = clip(model, lambda: kept * LOSSES["cross_entropy"](said(), y), bound)
        return torch.cat([tensor.flatten().double() for tensor in found.tensors.values()])

    whole = summed(None)
    moved = [float((whole - summed(number)).norm()) for number in range(COUNT)]
    assert max(moved) <= bound * (1 + 1e-6)
    assert max(moved) > 0.9 * bound or bound == 10.0


def test_sum_whose_weights_are_bfloat16_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = clipping._weighted_sum
    rounded = lambda parameter, shares, weights, bad: honest(  # noqa: E731
        parameter, shares, weights.bfloat16().float(), bad
    )
    monkeypatch.setattr(clipping, "_weighted_sum", rounded)
    with pytest.raises(AssertionError):
        test_no_example_moves_the_sum_further_than_the_bound("linear in factors", 0.1, torch.device("cpu"))


Steep = tuple[nn.Module, Callable[[], Tensor], Tensor]


def steep_cnn(device: torch.device) -> Steep:
    model = cnn(Architecture((1, 12, 12), 5)).module.to(device)
    x = (30 * torch.randn(COUNT, 1, 12, 12)).to(device)
    return model, lambda: mixed(model, x), torch.randint(0, 5, (COUNT,)).to(device)


def steep_linear(device: torch.device) -> Steep:
    model = nn.Sequential(nn.Linear(90, 80), nn.Tanh(), nn.Linear(80, 5)).to(device)
    x = (3 * torch.randn(COUNT, 3, 90)).to(device)
    return model, lambda: mixed(model, x), torch.randint(0, 5, (COUNT, 3)).to(device)


def steep_llama(device: torch.device) -> Steep:
    model, x = tiny_llama(tied=True).to(device), torch.randint(0, 50, (COUNT, 9)).to(device)

    def said() -> Tensor:
        with computing_in(BF16_MIXED, device):
            logits: Tensor = model(input_ids=x, use_cache=False).logits
        return logits.float()

    return model, said, x


STEEP = {"cnn": steep_cnn, "linear in factors": steep_linear, "llama": steep_llama}


@pytest.mark.parametrize("model", [Outside(), Leaking()], ids=["a rule", "no rule"])
def test_weight_used_outside_its_layer_is_refused_though_it_was_cast(model: nn.Module) -> None:
    x = torch.randn(3, 5, 4)
    with pytest.raises(UnsupportedLayer, match="outside the layer"):
        clip(model, lambda: mixed(model, x).flatten(1).sum(1), 1.0)


def test_cache_of_autocast_would_hide_such_a_use() -> None:
    """Why `computing_in` has none: this is what would slip through."""
    model, x = Outside(), torch.randn(3, 5, 4)

    def losses() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=True):
            said: Tensor = model(x)
        return said.float().flatten(1).sum(1)

    assert clip(model, losses, 1.0).count == 3


def test_example_that_is_not_finite_contributes_zero() -> None:
    torch.manual_seed(1)
    model, x = nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 3)), torch.randn(COUNT, 7)
    others = torch.tensor([0, 1, 3, 4, 5, 6, 7])
    without = clip(model, lambda: mixed(model, x[others]).square().sum(1), 1.0)
    x[2] = 3e38  # finite, but not as a sum of bfloat16
    found = clip(model, lambda: (mixed(model, x) * x[:, :1]).square().sum(1), 1.0)
    assert all(bool(tensor.isfinite().all()) for tensor in found.tensors.values())
    assert without.tensors.keys() == found.tensors.keys()


# --------------------------------------------------------------------------------------- trainers
SPEC = TrainerSpec(
    model_ref="mlp",
    architecture=Architecture((16,), 3, (32,)),
    lora=None,
    optimizer=OptimizerSpec("adam", learning_rate=0.01),
    loss=None,
    privacy=PrivacySpec(0.0, 0.5),
    expected_batch_size=8,
    cache_folder=Path(),
    precision=BF16_MIXED,
)
TEXTS = dataclasses.replace(
    SPEC,
    model_ref="tiny-llama",
    architecture=None,
    lora=LoraSpec(rank=4, target_modules=("all-linear",), dropout=0.0),
)
SPECS = {
    "mlp": SPEC,
    "cnn": dataclasses.replace(SPEC, model_ref="cnn", architecture=Architecture((1, 8, 8), 3, (8,))),
    "adapters": TEXTS,
    "adapters, computed twice": dataclasses.replace(TEXTS, gradient_checkpointing=True),
    "full": dataclasses.replace(TEXTS, lora=None),
}


def batch_for(spec: TrainerSpec) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    if spec.architecture is None:
        return {"input_ids": draw.integers(0, 256, (8, 7))}
    features = draw.normal(size=(8, *spec.architecture.input_shape))
    return {"features": features, "targets": draw.integers(0, 3, 8)}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("private", [True, False], ids=["private", "plain"])
@pytest.mark.parametrize("kind", SPECS)
def test_trainer_learns_about_the_same_in_both(kind: str, private: bool, device: torch.device) -> None:
    spec = SPECS[kind] if private else dataclasses.replace(SPECS[kind], privacy=None)
    exact = Trainer(dataclasses.replace(spec, precision=FLOAT32), device=device)
    rough, batch = Trainer(spec, device=device), batch_for(spec)
    for trainer in (exact, rough):
        for _ in range(5):
            trainer.forward_backward(batch)
            trainer.optim_step()
    tensors, metadata = rough.state()
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert rough.evaluate(batch).loss == pytest.approx(exact.evaluate(batch).loss, rel=0.03)
    assert any(not torch.equal(tensors[name], tensor) for name, tensor in exact.state()[0].items())
    exact.load_state(tensors, metadata)  # a state fits whichever it was made in


def test_layers_compute_in_bfloat16_and_looks_do_too() -> None:
    trainer, batch, seen = Trainer(SPEC), batch_for(SPEC), []
    output = trainer._module.get_submodule("output")
    output.register_forward_hook(lambda *called: seen.append(called[2].dtype))
    trainer.forward_backward(batch)
    trainer.evaluate(batch)
    trainer.predict(batch)
    assert len(seen) >= 3  # and more: the first rows are tried out, to see that they stand apart
    assert set(seen) == {torch.bfloat16}


def test_noise_is_as_fine_as_ever() -> None:
    trainer = Trainer(dataclasses.replace(SPEC, privacy=PrivacySpec(1.0, 1.0)))
    before = trainer.state()[0]["model/hidden_1.weight"]
    trainer.forward_backward(batch_for(SPEC))
    trainer.optim_step()
    moved = trainer.state()[0]["optimizer/exp_avg/hidden_1.weight"]
    assert moved.shape == before.shape
    assert not torch.equal(moved, moved.bfloat16().float())


def test_precision_nobody_knows_is_refused_with_the_list() -> None:
    assert PRECISIONS == ("float32", "bf16-mixed")
    for make in (lambda: dataclasses.replace(SPEC, precision="fp8"), lambda: ClientSpec("mlp", precision="")):
        with pytest.raises(InvalidRequest, match="float32, bf16-mixed"):
            make()


@pytest.mark.parametrize("engine", specs.ENGINES[1:])
def test_engine_that_cannot_is_refused_by_name(engine: str) -> None:
    why = f"engine {engine} cannot clip under precision bf16-mixed; use engine book-keeping"
    with pytest.raises(InvalidRequest, match=why):
        dataclasses.replace(SPEC, privacy=PrivacySpec(1.0, 1.0, engine=engine))
    with pytest.raises(InvalidRequest, match=why):
        ClientSpec("mlp", precision=BF16_MIXED, dp=DPSpec(engine=engine))
    assert ClientSpec("mlp", precision=BF16_MIXED, dp=DPSpec(enabled=False, engine=engine)).dp is not None


def test_stored_spec_of_a_client_brings_its_precision_back() -> None:
    spec = ClientSpec("mlp", precision=BF16_MIXED)
    assert ClientSpec.from_json(spec.as_json()) == spec
    older = {name: value for name, value in spec.as_json().items() if name != "precision"}
    assert ClientSpec.from_json(older).precision == FLOAT32
