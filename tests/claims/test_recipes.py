"""Do the recipes teach what they promise through the public door, and within the ε that they name?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.workbench_server import WorkbenchServer
from tg_workbench import PrivacyRefused, Workbench, recipes
from tg_workbench.sdk import Dataset

TRAIN, TEST = slice(1437), slice(1437, None)


@pytest.fixture(scope="module")
def workbench(workbench_server: WorkbenchServer) -> Workbench:
    return Workbench(socket=str(workbench_server.socket), api_key=workbench_server.api_key)


@pytest.fixture(scope="module")
def pixels() -> dict[str, Any]:
    known = load_digits()
    return {"features": (known.images * 255 / 16).astype(np.uint8), "targets": known.target}


@pytest.fixture(scope="module")
def digits(workbench: Workbench, pixels: dict[str, Any]) -> Dataset:
    train = {name: column[TRAIN] for name, column in pixels.items()}
    return workbench.datasets.upload("digits in bytes", **train, delta=1e-5, epsilon_cap=20.0)


@pytest.mark.parametrize(("follow", "bar"), [(recipes.image_features, 0.84), (recipes.image_network, 0.65)])
def test_digits_are_learned_by_recipe_alone(
    workbench: Workbench, digits: Dataset, pixels: dict[str, Any], follow: Any, bar: float
) -> None:
    recipe = follow(digits, classes=10, target_epsilon=3.0)
    client = workbench.create_training_client(dataset=digits, **recipe)
    try:
        result = client.train(steps=recipe.max_steps, progress=False).result(timeout=240)
        assert result.steps_done == recipe.max_steps  # the last step fits: the noise was made for them all
        spent = client.privacy
        assert 2.9 < (spent.spent_epsilon or 0.0) <= 3.0
        assert (spent.mode, spent.delta) == ("sampled", 1e-5)
        found = client.evaluate(**{name: column[TEST] for name, column in pixels.items()})
        assert (found.accuracy or 0.0) >= bar
        with pytest.raises(PrivacyRefused):
            client.evaluate(dataset=digits)
    finally:
        client.terminate()
