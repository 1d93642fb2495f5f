from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tg_workbench.engine.architectures import ROW_MODELS, build, known_models
from tg_workbench.engine.networks import RowModel
from tg_workbench.engine.specs import Architecture
from tg_workbench.errors import InvalidRequest, UnknownModel


@pytest.mark.parametrize("name", ROW_MODELS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 9)])
def test_row_model_answers_in_the_size_asked_for(name: str, shape: tuple[int, ...]) -> None:
    network = build(name, Architecture(shape, 4, (6, 10)), Path())
    assert isinstance(network, RowModel)
    assert network.answer({"features": torch.randn(2, *shape)}).shape == (2, 4)


def test_same_name_starts_from_the_same_numbers() -> None:
    shape = Architecture((5,), 2)
    torch.manual_seed(7)
    one, other = build("mlp", shape, Path()), build("mlp", shape, Path())
    for first, second in zip(one.module.parameters(), other.module.parameters(), strict=True):
        assert torch.equal(first, second)


def test_unknown_model_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UnknownModel, match="smollm2-135m") as caught:
        build("nonexistent/model", None, Path())
    assert caught.value.known == known_models()


def test_row_model_without_a_shape_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="input_shape"):
        build("mlp", None, Path())


def test_image_too_small_to_halve_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="8×8"):
        build("cnn", Architecture((1, 7, 30), 2), Path())


def test_tempered_cnn_is_the_papers_network_at_28_by_28() -> None:
    """8×8 by 2 with padding 2, 2 by 1, 4×4 by 2, 2 by 1, 32: 26,010 parameters."""
    module = build("tempered-cnn", Architecture((1, 28, 28), 10), Path()).module
    assert sum(parameter.numel() for parameter in module.parameters()) == 26_010


@pytest.mark.parametrize("shape", [(1, 8, 100), (1, 15, 15), (1, 16, 16), (3, 32, 32), (3, 224, 224)])
def test_tempered_cnn_stays_small_whatever_the_image(shape: tuple[int, ...]) -> None:
    network = build("tempered-cnn", Architecture(shape, 10), Path())
    assert network.answer({"features": torch.rand(2, *shape)}).shape == (2, 10)
    assert sum(parameter.numel() for parameter in network.module.parameters()) < 120_000


@pytest.mark.parametrize("wrong", [Architecture((1, 7, 28), 10), Architecture((28, 28), 10)])
def test_tempered_cnn_refuses_what_is_no_image(wrong: Architecture) -> None:
    with pytest.raises(InvalidRequest, match="8×8"):
        build("tempered-cnn", wrong, Path())
    with pytest.raises(InvalidRequest, match="hidden_sizes"):
        build("tempered-cnn", Architecture((1, 28, 28), 10, (32,)), Path())


@pytest.mark.parametrize(
    "wrong", [((0,), 2, ()), ((3,), 0, ()), ((3,), 2, (0,)), ((10**9,), 2, ()), ((3,), 2, (10**6, 10**6))]
)
def test_shape_nobody_can_build_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidRequest):
        Architecture(*wrong)


@pytest.mark.parametrize("name", ROW_MODELS)
def test_another_seed_starts_elsewhere_and_the_same_one_never(name: str) -> None:
    shape = Architecture((1, 8, 8), 2)
    states = [[*build(name, shape, Path(), seed=seed).module.parameters()] for seed in (0, 5, 5)]
    assert all(torch.equal(one, other) for one, other in zip(states[1], states[2], strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(states[0], states[1], strict=True))


def test_seed_changes_the_head_of_a_language_model_and_never_its_trunk() -> None:
    first, other = (
        dict(build("tiny-llama", Architecture((), 2), Path(), seed=seed).module.named_parameters())
        for seed in (0, 5)
    )
    assert {name for name in first if not torch.equal(first[name], other[name])} == {"score.weight"}


@pytest.mark.parametrize(
    ("name", "outputs", "loss"),
    [
        ("linear", 1, "mse"),
        ("linear", 3, None),
        ("logistic", 1, "bce"),
        ("logistic", 3, "cross_entropy"),
    ],
)
def test_one_layer_is_learned_by_the_loss_of_its_name(name: str, outputs: int, loss: str | None) -> None:
    assert build(name, Architecture((5,), outputs), Path()).loss == loss
