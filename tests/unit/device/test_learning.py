from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.federation.conftest import CLASSES, SIDE, rows_of
from tg_workbench.device.learning import LocalTrainer, Task
from tg_workbench.engine.specs import Architecture
from tg_workbench.errors import InvalidBatch
from tg_workbench.federation.updates import Layout

LAYOUT = Layout.of({"output.weight": (CLASSES, SIDE), "output.bias": (CLASSES,)})
START = np.linspace(-0.5, 0.5, LAYOUT.size, dtype=np.float32)


def task(**more: object) -> Task:
    asked = {"learning_rate": 0.1, "batch_size": 8, "epochs": 1, **more}
    return Task(architecture="logistic", shape=Architecture((SIDE,), CLASSES), layout=LAYOUT, **asked)  # type: ignore[arg-type]


def by_hand(rows: dict[str, np.ndarray], given: Task, extra: np.ndarray | None = None) -> np.ndarray:
    """The same by plain torch: SGD on cross entropy, with what a strategy adds to the gradient."""
    arrays = LAYOUT.arrays(START.copy())
    layer = nn.Linear(SIDE, CLASSES)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(arrays["output.weight"]))
        layer.bias.copy_(torch.from_numpy(arrays["output.bias"]))
    start = [p.detach().clone() for p in (layer.bias, layer.weight)]
    order = np.random.default_rng(given.seed)
    optimizer = torch.optim.SGD(layer.parameters(), lr=given.learning_rate)
    for _ in range(given.epochs):
        places = order.permutation(len(rows["targets"]))
        for first in range(0, len(places), given.batch_size):
            batch = places[first : first + given.batch_size]
            said = layer(torch.from_numpy(rows["features"][batch]))
            optimizer.zero_grad()
            nn.functional.cross_entropy(said, torch.from_numpy(rows["targets"][batch])).backward()
            for parameter, origin in zip((layer.bias, layer.weight), start, strict=True):
                assert parameter.grad is not None
                parameter.grad += given.proximal * (parameter.detach() - origin)
            if extra is not None:
                added = LAYOUT.arrays(extra)
                assert layer.weight.grad is not None
                assert layer.bias.grad is not None
                layer.weight.grad += torch.from_numpy(added["output.weight"])
                layer.bias.grad += torch.from_numpy(added["output.bias"])
            optimizer.step()
    named = {"output.weight": layer.weight, "output.bias": layer.bias}
    return LAYOUT.vector({name: p.detach().numpy() for name, p in named.items()}) - START


@pytest.mark.parametrize("proximal", [0.0, 0.7])
def test_it_learns_as_plain_sgd_does_with_and_without_a_pull(proximal: float) -> None:
    rows, given = rows_of(3), task(proximal=proximal, epochs=2)
    learned = LocalTrainer(given).learn(rows, START)
    np.testing.assert_allclose(learned.delta, by_hand(rows, given), atol=1e-6)
    assert (learned.samples, learned.steps) == (40, 10)
    assert learned.metrics["loss"] < learned.metrics["base_loss"]


def test_control_variates_correct_each_gradient_and_change_by_option_two() -> None:
    rows, given = rows_of(4), task(control=True)
    generator = np.random.default_rng(1)
    server = generator.normal(size=LAYOUT.size).astype(np.float32) * 0.1
    own = generator.normal(size=LAYOUT.size).astype(np.float32) * 0.1
    learned = LocalTrainer(given).learn(rows, START, server, own)
    np.testing.assert_allclose(learned.delta, by_hand(rows, given, server - own), atol=1e-6)
    assert learned.control_delta is not None
    expected = -server - learned.delta / (learned.steps * given.learning_rate)
    np.testing.assert_allclose(learned.control_delta, expected, atol=1e-5)


def test_the_same_task_gives_the_same_update() -> None:
    rows = rows_of(5)
    first, second = (LocalTrainer(task()).learn(rows, START) for _ in range(2))
    assert first.delta.tobytes() == second.delta.tobytes()


@pytest.mark.parametrize(
    "rows",
    [
        {"features": np.zeros((3, SIDE), np.float32)},
        {"features": np.zeros((3, SIDE), np.float32), "targets": np.zeros(2, np.int64)},
        {"features": np.zeros((0, SIDE), np.float32), "targets": np.zeros(0, np.int64)},
    ],
)
def test_rows_that_are_none_are_refused(rows: dict[str, np.ndarray]) -> None:
    with pytest.raises(InvalidBatch):
        LocalTrainer(task()).learn(rows, START)
