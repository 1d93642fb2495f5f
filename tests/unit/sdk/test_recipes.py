from __future__ import annotations

import inspect
import itertools
from typing import Any

import pytest

from tg_workbench.engine import scattering
from tg_workbench.engine.specs import Architecture, OptimizerSpec, PrivacySpec
from tg_workbench.errors import InvalidRequest
from tg_workbench.sdk import Dataset, Workbench, recipes
from tg_workbench.sdk.plans import ClientPlan

RECIPES = [recipes.image_features, recipes.image_network]
SIZES = [1, 50, 1797, 60_000, 10_000_000]
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 15, 200), (4, 224, 224)]
EPSILONS = [0.01, 0.5, 1.0, 3.0, 8.0, 100.0]


def digits(**other: Any) -> Dataset:
    tensors = {"features": {"shape": [1437, 8, 8], "dtype": "U8"}, "targets": {"shape": [1437]}}
    return Dataset(**{"dataset_id": "ds-1", "size": 1437, "tensors": tensors, **other})


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_size_shape_and_epsilon_gives_numbers_a_workbench_takes(recipe: Any) -> None:
    for size, shape, epsilon in itertools.product(SIZES, SHAPES, EPSILONS):
        found = recipe(size=size, image_shape=shape, classes=10, target_epsilon=epsilon)
        wire = ClientPlan(**found).as_wire()
        OptimizerSpec(**{**wire["optimizer"], "betas": (0.9, 0.999)})
        Architecture(tuple(wire["architecture"]["input_shape"]), wire["architecture"]["output_size"])
        PrivacySpec(1.0, wire["dp_config"]["max_grad_norm"])
        assert 0 < found.optimizer.learning_rate <= 1  # what the documents allow
        assert 1 <= found.batch_size <= min(size, 1_000_000)
        assert 1 <= found.max_steps <= 1000
        assert found.privacy.target_epsilon == epsilon


@pytest.mark.parametrize("recipe", RECIPES)
def test_more_images_and_a_larger_epsilon_let_each_image_pull_further(recipe: Any) -> None:
    def stride(size: int, epsilon: float) -> float:
        made = recipe(size=size, image_shape=(28, 28), classes=10, target_epsilon=epsilon)
        norm: float = made.privacy.max_grad_norm
        return norm

    of_sizes = [stride(size, 1.0) for size in SIZES]
    of_epsilons = [stride(1000, epsilon) for epsilon in EPSILONS]
    assert of_sizes == sorted(of_sizes)
    assert of_epsilons == sorted(of_epsilons)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_made_of_public_numbers_alone(recipe: Any) -> None:
    """No row can reach it: it is given a description, and two datasets of one size get one recipe."""
    assert set(inspect.signature(recipe).parameters) == {
        "dataset",
        "classes",
        "target_epsilon",
        "size",
        "image_shape",
    }
    one = recipe(digits(), classes=10)
    other = recipe(digits(dataset_id="ds-2", name="others", spent_epsilon=2.0), classes=10)
    assert one == other == recipe(size=1437, image_shape=(1, 8, 8), classes=10)


def test_a_recipe_is_handed_over_whole() -> None:
    names = set(inspect.signature(Workbench.create_training_client).parameters)
    recipe = recipes.image_features(digits(), classes=10, target_epsilon=2.0)
    given = dict(recipe)
    assert given.keys() <= names
    assert given["max_steps"] == recipe.max_steps
    assert "ε = 2" in str(recipe)
    with pytest.raises(KeyError):
        recipe["keys"]


def test_flat_rows_are_images_of_the_shape_that_is_told() -> None:
    flat = digits(tensors={"features": {"shape": [1437, 64], "dtype": "F32"}})
    told = recipes.image_features(flat, classes=10, image_shape=(8, 8))
    assert told == recipes.image_features(digits(), classes=10)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 100},
        {"image_shape": (8, 8)},
        {"size": 0, "image_shape": (8, 8)},
        {"size": 100, "image_shape": (64,)},
        {"size": 100, "image_shape": (7, 8)},
        {"size": 100, "image_shape": (32, 32, 3)},
        {"size": 100, "image_shape": (8, 8), "classes": 1},
        {"size": 100, "image_shape": (8, 8), "target_epsilon": 0.0},
        {"size": 100, "image_shape": (8, 8), "target_epsilon": float("nan")},
        {"dataset": digits(tensors=None)},
        {"dataset": digits(tensors={"input_ids": {"shape": [1437, 16]}})},
    ],
)
def test_what_is_no_set_of_images_is_refused(recipe: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        recipe(**{"classes": 10, **wrong})


def test_features_are_counted_as_the_engine_makes_them() -> None:
    assert recipes.PATHS == scattering.PATHS
    assert recipes.SMALLEST_SIDE == scattering.SMALLEST_SIDE
    for channels, height, width in SHAPES[:4]:
        made = scattering.Scattering(channels, height, width).output_shape
        assert made[1:] == (-(-height // 4), -(-width // 4))
