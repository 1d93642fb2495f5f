"""Is every clipped gradient what one backward pass per example would have given?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from opacus import GradSampleModule
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)
from transformers.pytorch_utils import Conv1D

from tests.claims.brute_force import check, one_by_one
from tests.claims.devices import DEVICES
from tg_workbench.engine import lora
from tg_workbench.engine.architectures import build, cnn, logistic, mlp, resnet18, resnet50, tempered_cnn
from tg_workbench.engine.losses import LOSSES
from tg_workbench.engine.networks import RowModel, TextClassifier
from tg_workbench.engine.specs import Architecture, LoraSpec
from tg_workbench.errors import UnsupportedLayer
from tg_workbench.privacy import shares
from tg_workbench.privacy.apart import require_apart
from tg_workbench.privacy.clipping import Clipper, clip

COUNT = 8


class Tied(nn.Module):
    """An embedding that is the output layer too, and a layer used twice."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.twice = nn.Linear(width, width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.twice(torch.tanh(self.twice(self.embed(ids))))))


class Masked(nn.Module):
    """A layer that no rule knows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.gate)


class Twice(nn.Module):
    """A layer whose answer goes through it again."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x)))


def rows(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(COUNT, *shape)


def ids(length: int, vocabulary: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(0, vocabulary, (COUNT, length))


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "linear on rows": (lambda: nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 3)), rows(7)),
    "linear without bias": (lambda: nn.Linear(7, 9, bias=False), rows(7)),
    "linear on sequences": (lambda: nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 3)), rows(5, 7)),
    "linear on 4-D": (lambda: nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 3)), rows(2, 5, 7)),
    "wide linear, in factors": (
        lambda: nn.Sequential(nn.Linear(90, 80), nn.Tanh(), nn.Linear(80, 3)),
        rows(3, 90),
    ),
    "conv2d": (lambda: nn.Conv2d(2, 4, 3, padding=1), rows(2, 8, 8)),
    "conv2d strided and dilated": (
        lambda: nn.Conv2d(2, 4, (3, 2), (2, 1), (1, 0), (1, 2)),
        rows(2, 9, 8),
    ),
    "conv2d on few pixels": (lambda: nn.Conv2d(3, 4, 3, stride=2, bias=False), rows(3, 7, 7)),
    "wide conv2d, in factors": (lambda: nn.Conv2d(32, 64, 3), rows(32, 4, 4)),
    "conv2d in groups": (lambda: nn.Conv2d(4, 4, 3, groups=2), rows(4, 8, 8)),
    "conv2d around the edge": (
        lambda: nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"),
        rows(2, 8, 8),
    ),
    "conv1d of transformers": (lambda: nn.Sequential(Conv1D(9, 7), nn.Tanh(), Conv1D(3, 9)), rows(5, 7)),
    "conv1d of transformers on rows": (lambda: Conv1D(9, 7), rows(7)),
    "wide conv1d of transformers, in factors": (lambda: Conv1D(80, 90), rows(3, 90)),
    "conv2d in groups, strided and dilated": (
        lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), groups=2),
        rows(4, 9, 8),
    ),
    "conv2d of each channel by itself": (lambda: nn.Conv2d(4, 8, 3, groups=4, bias=False), rows(4, 5, 5)),
    "conv2d padded to the same size": (lambda: nn.Conv2d(2, 4, 3, padding="same"), rows(2, 8, 8)),
    "conv1d": (lambda: nn.Conv1d(2, 4, 3), rows(2, 9)),
    "conv1d on many places": (lambda: nn.Conv1d(2, 4, 3, padding=1, bias=False), rows(2, 70)),
    "conv1d strided and dilated": (lambda: nn.Conv1d(2, 4, 3, 2, 2, 3), rows(2, 70)),
    "wide conv1d, in factors": (lambda: nn.Conv1d(32, 64, 3), rows(32, 6)),
    "conv1d in groups, strided": (lambda: nn.Conv1d(4, 4, 3, stride=2, groups=2), rows(4, 9)),
    "conv1d around the edge": (
        lambda: nn.Conv1d(2, 4, 3, padding=1, padding_mode="circular"),
        rows(2, 9),
    ),
    "conv1d used twice": (lambda: Twice(nn.Conv1d(4, 4, 3, padding=1)), rows(4, 9)),
    "conv2d used twice": (lambda: Twice(nn.Conv2d(4, 4, 3, padding=1)), rows(4, 6, 7)),
    "wide conv2d used twice, in factors": (lambda: Twice(nn.Conv2d(64, 64, 3, padding=1)), rows(64, 2, 3)),
    "embedding": (lambda: nn.Embedding(11, 6, padding_idx=0), ids(7, 11)),
    "wide embedding, in factors": (lambda: nn.Embedding(300, 6, padding_idx=3), ids(7, 5)),
    "layer norm": (lambda: nn.Sequential(nn.Linear(7, 6), nn.LayerNorm(6)), rows(5, 7)),
    "layer norm over an image": (lambda: nn.LayerNorm((3, 4)), rows(3, 4)),
    "rms norm": (lambda: nn.Sequential(nn.Linear(7, 6), nn.RMSNorm(6)), rows(5, 7)),
    "group norm": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)), rows(2, 6, 6)),
    "tied and used twice, whole": (lambda: Tied(9, 20), ids(12, 9)),
    "tied and used twice, in factors": (lambda: Tied(60, 50), ids(5, 60)),
    "a layer without a rule": (lambda: nn.Sequential(nn.Linear(7, 6), Masked(6), nn.PReLU()), rows(7)),
    "lora": (lambda: adapted(nn.Sequential(nn.Linear(40, 30), nn.Tanh(), nn.Linear(30, 3))), rows(5, 40)),
    "frozen first layer": (lambda: frozen_first(nn.Sequential(nn.Linear(7, 9), nn.Linear(9, 3))), rows(7)),
}


def adapted(model: nn.Module) -> nn.Module:
    """With adapters whose B is no longer zero, as after some steps."""
    lora.attach(model, LoraSpec(rank=4, target_modules=("all-linear",), bias="lora_only", dropout=0.0))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    return model


def frozen_first(model: nn.Sequential) -> nn.Module:
    model[0].requires_grad_(False)
    return model


def uneven(said: Tensor) -> Tensor:
    """A loss that no normalisation can make flat, and whose gradients differ much in length."""
    flat = said.flatten(1)
    weights = torch.linspace(-1.0, 2.0, flat.shape[1], device=said.device)
    return (3.0 * (flat.tanh() * weights).mean(1)).exp()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layer", LAYERS)
def test_clipped_sum_equals_one_backward_per_example(layer: str, device: torch.device) -> None:
    torch.manual_seed(1)
    make, draw = LAYERS[layer]
    model, x = make().to(device), draw().to(device)
    found = check(model, lambda part: uneven(model(x[part])), COUNT)
    assert 0 < found.num_clipped < COUNT


@pytest.mark.parametrize(
    "make", [logistic, mlp, cnn, tempered_cnn], ids=["logistic", "mlp", "cnn", "tempered-cnn"]
)
def test_row_models_clip_like_one_backward_per_example(make: Callable[[Architecture], object]) -> None:
    torch.manual_seed(1)
    model = make(Architecture((1, 12, 12), 5)).module  # type: ignore[attr-defined]
    x, y = torch.randn(COUNT, 1, 12, 12), torch.randint(0, 5, (COUNT,))
    check(model, lambda part: LOSSES["cross_entropy"](model(x[part]), y[part]), COUNT)


@pytest.mark.parametrize("side", [8, 17])
@pytest.mark.parametrize("make", [resnet18, resnet50], ids=["resnet18", "resnet50"])
def test_resnets_clip_like_one_backward_per_example(
    make: Callable[[Architecture], RowModel], side: int
) -> None:
    torch.manual_seed(1)
    model = make(Architecture((3, side, side), 5, (8, 16, 24))).module
    x, y = torch.randn(COUNT, 3, side, side), torch.randint(0, 5, (COUNT,))
    require_apart(model, lambda some: LOSSES["cross_entropy"](model(x[some]), y[some]), COUNT)
    check(model, lambda part: LOSSES["cross_entropy"](model(x[part]), y[part]), COUNT)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("rank", [0, 4], ids=["full", "lora"])
def test_llama_clips_like_one_backward_per_example(rank: int, tied: bool, device: torch.device) -> None:
    model, x = tiny_llama(tied), torch.randint(0, 50, (COUNT, 9)).to(device)
    if rank:
        lora.attach(model, LoraSpec(rank=rank, target_modules=("all-linear",), dropout=0.0))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.1)
    model.to(device)
    labels = x.clone()
    labels[0, 2:] = -100  # one label token only: its norm must not depend on the others
    labels[:, -1] = -100

    def losses(part: slice) -> Tensor:
        return LOSSES["cross_entropy"](model(input_ids=x[part], use_cache=False).logits, labels[part])

    check(model, losses, COUNT)


@pytest.mark.parametrize("rank", [0, 4], ids=["frozen", "lora"])
def test_text_classifier_clips_like_one_backward_per_example(rank: int) -> None:
    network = build("tiny-llama", Architecture((), 3), Path())
    assert isinstance(network, TextClassifier)
    if rank:
        lora.attach(network.module.trunk, LoraSpec(rank=rank, target_modules=("all-linear",), dropout=0.0))
        for name, parameter in network.module.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.1)
    ids, y = torch.randint(0, 256, (COUNT, 9)), torch.randint(0, 3, (COUNT,))
    mask = (torch.arange(9) < torch.randint(2, 10, (COUNT, 1))).long()

    def losses(part: slice | list[int]) -> Tensor:
        said = network.answer({"input_ids": ids[part], "attention_mask": mask[part]})
        return LOSSES["cross_entropy"](said, y[part])

    require_apart(network.module, losses, COUNT)
    found = check(network.module, losses, COUNT)
    assert ("score.weight" in found.tensors, len(found.tensors)) == (True, 29 if rank else 1)


def tiny_llama(tied: bool) -> nn.Module:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        tie_word_embeddings=tied,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)


def test_clipped_sum_equals_that_of_opacus() -> None:
    torch.manual_seed(1)
    model = cnn(Architecture((1, 12, 12), 5)).module
    x, y = torch.randn(COUNT, 1, 12, 12), torch.randint(0, 5, (COUNT,))
    theirs = GradSampleModule(model, loss_reduction="sum")
    F.cross_entropy(theirs(x), y, reduction="sum").backward()
    samples = {name: p.grad_sample for name, p in model.named_parameters()}  # type: ignore[attr-defined]
    norms = torch.stack([s.flatten(1).norm(dim=1) for s in samples.values()]).norm(dim=0)
    bound = float(norms.median())
    weights = (bound / norms).clamp(max=1.0)
    theirs.remove_hooks()
    found = clip(model, lambda: F.cross_entropy(model(x), y, reduction="none"), bound)
    for name, sample in samples.items():
        torch.testing.assert_close(
            found.tensors[name], torch.einsum("b,b...->...", weights, sample), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("layer", ["linear on rows", "conv2d", "wide linear, in factors", "lora"])
def test_example_that_is_not_finite_contributes_zero(layer: str, value: float) -> None:
    torch.manual_seed(1)
    make, draw = LAYERS[layer]
    model, x = make(), draw()
    others = torch.tensor([0, 1, 3, 4, 5, 6, 7])
    without = clip(model, lambda: model(x[others]).square().flatten(1).sum(1), 1.0)
    x[2] = value
    found = clip(model, lambda: model(x).square().flatten(1).sum(1), 1.0)
    for name, tensor in without.tensors.items():
        torch.testing.assert_close(found.tensors[name], tensor, rtol=1e-5, atol=1e-6)


def test_example_whose_gradient_overflows_stays_within_the_bound() -> None:
    model, x = nn.Linear(4, 2), torch.randn(COUNT, 4)
    x[2] = 3e38
    found = clip(model, lambda: model(x).square().sum(1), 1.0)
    total = torch.cat([tensor.flatten() for tensor in found.tensors.values()])
    assert bool(total.isfinite().all())
    assert float(total.norm()) <= COUNT


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bound", [1e-3, 0.1, 10.0])
def test_no_example_moves_the_sum_further_than_the_bound(bound: float, device: torch.device) -> None:
    torch.manual_seed(1)
    model = cnn(Architecture((1, 12, 12), 5)).module.to(device)
    x = (30 * torch.randn(COUNT, 1, 12, 12)).to(device)
    y = torch.randint(0, 5, (COUNT,)).to(device)

    def summed(count: int) -> Tensor:
        found = clip(model, lambda: F.cross_entropy(model(x[:count]), y[:count], reduction="none"), bound)
        return torch.cat([tensor.flatten().double() for tensor in found.tensors.values()])

    moved = [float((summed(count) - summed(count - 1)).norm()) for count in range(2, COUNT + 1)]
    assert max(moved) <= bound * (1 + 1e-6)


def test_forgetting_a_bias_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = shares._linear
    forgetful = lambda module, x, grad: (pair for pair in rule(module, x, grad) if pair[0] == "weight")  # noqa: E731
    monkeypatch.setitem(shares._RULES, nn.Linear, forgetful)
    with pytest.raises(AssertionError):
        test_clipped_sum_equals_one_backward_per_example("linear on rows", torch.device("cpu"))


def test_clipping_the_mean_would_be_noticed() -> None:
    torch.manual_seed(1)
    model, x = nn.Linear(4, 2), torch.randn(COUNT, 4)
    honest, _ = one_by_one(model, lambda part: uneven(model(x[part])), COUNT, 0.1)
    mean = torch.autograd.grad(uneven(model(x)).mean(), list(model.parameters()))
    norm = torch.cat([g.flatten() for g in mean]).norm()
    clipped = mean[0] * min(1.0, 0.1 / float(norm)) * COUNT
    assert not torch.allclose(clipped.double(), honest["weight"], rtol=0.05)


class Outside(nn.Module):
    """Reads a weight behind its layer's back."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.layer(x), self.layer.weight)


class Loose(nn.Module):
    """Has a parameter of its own beside its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.scale


class Leaking(nn.Module):
    """Reads the parameter of a layer without a rule once inside it and once outside."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = Masked(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.layer.gate


class Turned(nn.Module):
    """Puts time before the examples."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.transpose(0, 1)).transpose(0, 1)


REFUSED: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.Sequential(nn.Linear(4, 4), nn.Flatten(0, 1), nn.BatchNorm1d(4)),
    "frozen batch norm": lambda: nn.Sequential(nn.BatchNorm1d(5, affine=False), nn.Linear(4, 4)),
    "lstm": lambda: nn.LSTM(4, 4, batch_first=True),
    "attention of torch": lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
    "a weight used outside its layer": Outside,
    "a weight used outside a layer without a rule": Leaking,
    "a parameter beside layers": Loose,
    "examples on another axis": Turned,
    "dropout inside a layer without a rule": lambda: Dropping(),
}


class Dropping(Masked):
    """Random inside: two passes of it differ."""

    def __init__(self) -> None:
        super().__init__(4)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x), 0.5, training=True)


@pytest.mark.parametrize("name", REFUSED)
def test_layer_without_per_example_gradients_is_refused(name: str) -> None:
    model, x = REFUSED[name](), torch.randn(3, 5, 4)

    def losses() -> Tensor:
        said = model(x)
        return (said[0] if isinstance(said, tuple) else said).reshape(3, -1).sum(1)

    with pytest.raises(UnsupportedLayer):
        clip(model, losses, 1.0)


def test_mixture_of_experts_is_refused_before_anything_is_read() -> None:
    config = MixtralConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=2,
    )
    with pytest.raises(UnsupportedLayer, match="Mixtral"):
        Clipper(MixtralForCausalLM(config))


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_gpt2_clips_like_one_backward_per_example_once_its_positions_are_frozen(tied: bool) -> None:
    torch.manual_seed(1)
    config = GPT2Config(
        n_layer=2, n_head=2, n_embd=8, vocab_size=20, n_positions=16, tie_word_embeddings=tied
    )
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    model = GPT2LMHeadModel(config)
    model.get_submodule("transformer.wpe").requires_grad_(False)
    x = torch.randint(0, 20, (COUNT, 9))
    check(model, lambda part: LOSSES["cross_entropy"](model(input_ids=x[part]).logits, x[part]), COUNT)


def test_conv1d_of_transformers_has_a_rule() -> None:
    assert shares.has_rule(Conv1D(3, 4))


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d])
def test_convolutions_have_a_rule_unless_they_read_past_the_edge(kind: type[nn.Conv1d]) -> None:
    assert shares.has_rule(kind(4, 4, 3, padding=1, groups=2))
    assert not shares.has_rule(kind(4, 4, 3, padding=1, padding_mode="reflect"))
    assert not shares.has_rule(kind(4, 4, 3, padding="same"))


@pytest.mark.parametrize("layer", [nn.Conv1d(3, 3, 3), nn.Conv2d(3, 3, 3)], ids=["conv1d", "conv2d"])
def test_convolution_of_a_single_example_without_its_axis_is_refused(layer: nn.Conv1d) -> None:
    x = torch.randn(3, *(7 for _ in layer.kernel_size))
    with pytest.raises(UnsupportedLayer, match="first axis"):
        clip(layer, lambda: layer(x).flatten(1).sum(1), 1.0)  # three outputs look like three examples


def test_position_embedding_shared_by_the_batch_is_refused() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=20, n_positions=16))
    x = torch.randint(0, 20, (3, 5))
    with pytest.raises(UnsupportedLayer, match="wpe"):
        clip(model, lambda: model(input_ids=x).logits.sum((1, 2)), 1.0)
