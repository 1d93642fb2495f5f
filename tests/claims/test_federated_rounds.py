"""Does federated learning learn? McMahan's table, made small, and what each rule is for and costs."""

from __future__ import annotations

from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import pytest

from tests.federated_digits import (
    DEVICES,
    LAYOUT,
    MEASURED,
    Device,
    Plan,
    accuracy,
    beginning,
    best,
    digits,
    gradients,
    learning,
    rounds_to,
    spread,
)
from tg_workbench.federation.strategies import Update, named, names
from tg_workbench.federation.updates import Compression

OPTIONS: dict[str, dict[str, Any]] = {
    "scaffold": {"population": DEVICES},
    "fedyogi": {"server_learning_rate": 0.1},
    "norm-bound": {"bound": 2.0},
}
AGAINST_TWO: dict[str, dict[str, Any]] = {"multi-krum": {"malicious": 2}, "norm-bound": {"bound": 1.0}}
ROBUST = ("median", "multi-krum", "trimmed-mean")


@cache
def after(name: str, rounds: int, plan: Plan, per_round: int = 10) -> float:
    """The accuracy of a strategy: the mean of its last three rounds."""
    reached = list(islice(learning(named(name, **OPTIONS.get(name, {})), plan, per_round), rounds))
    return float(np.mean(reached[-3:]))


@pytest.mark.parametrize(("epochs", "batch"), MEASURED)
@pytest.mark.parametrize("iid", [True, False], ids=["IID", "two shards"])
def test_digits_take_as_many_rounds_as_they_did(epochs: int, batch: int | None, iid: bool) -> None:
    once = MEASURED[epochs, batch][0 if iid else 1]
    found = best(epochs, batch, iid=iid)
    assert found is not None
    assert once / 2 <= found <= once * 2


def test_work_on_the_devices_saves_rounds_and_data_that_differ_cost_some() -> None:
    sgd, sgd_apart = (best(1, None, iid=iid) for iid in (True, False))
    averaged, averaged_apart = (best(5, 10, iid=iid) for iid in (True, False))
    assert None not in (sgd, sgd_apart, averaged, averaged_apart)
    assert (sgd or 0) >= 5 * (averaged or 1)
    assert (sgd_apart or 0) >= 2 * (averaged_apart or 1)
    assert (averaged_apart or 0) >= 2 * (averaged or 1)


@pytest.mark.parametrize("name", names())
def test_every_strategy_learns_where_data_are_alike(name: str) -> None:
    assert after(name, 20, Plan(5, 10, 0.1, iid=True)) > 0.93


@pytest.mark.parametrize("name", ROBUST)
def test_a_robust_rule_costs_accuracy_where_data_differ(name: str) -> None:
    apart = Plan(5, 10, 0.1, iid=False)
    assert after(name, 30, apart) < after("fedavg", 30, apart) - 0.05


def test_scaffold_takes_fewer_rounds_where_data_differ() -> None:
    apart = Plan(5, 10, 0.3, iid=False)
    corrected = rounds_to(0.95, named("scaffold", population=DEVICES), apart, 60)
    plain = rounds_to(0.95, named("fedavg"), apart, 60) or 61
    assert corrected is not None
    assert corrected < 0.8 * plain


@pytest.mark.parametrize("name", ["fedadagrad", "fedadam", "fedyogi"])
def test_an_adaptive_server_does_better_where_data_differ(name: str) -> None:
    apart = Plan(5, 10, 0.1, iid=False)
    assert after(name, 20, apart) > after("fedavg", 20, apart)


def test_fedprox_holds_devices_near_the_shared_model() -> None:
    def strayed(proximal: float) -> float:
        """How far devices go from the model they were given, on average."""
        strategy, plan = named("fedprox", proximal=proximal), Plan(20, 10, 0.1, iid=False)
        rng, given = np.random.default_rng(0), beginning(0)
        updates = [Device(rows).update(given, {}, strategy.local, plan, rng) for rows in spread(False, 0)]
        return float(np.mean([np.linalg.norm(update.delta) for update in updates]))

    assert strayed(1.0) < 0.7 * strayed(0.0)


@pytest.mark.parametrize("name", ["fedavg", *ROBUST, "norm-bound"])
def test_two_liars_in_ten_spoil_a_mean_and_nothing_else(name: str) -> None:
    strategy, plan = named(name, **AGAINST_TWO.get(name, {})), Plan(5, 10, 0.1, iid=True)
    devices, parameters = [Device(rows) for rows in spread(True, 0)[:10]], beginning(0)
    rng = np.random.default_rng(0)
    for _ in range(15):
        aggregation = strategy.begin(parameters, {})
        for n, device in enumerate(devices):
            update = device.update(parameters, {}, strategy.local, plan, rng)
            lie = Update((-20 * update.delta).astype(np.float32), update.weight)
            aggregation.add(lie if n in (3, 7) else update)
        parameters = aggregation.finish().parameters
    assert (accuracy(parameters) > 0.85) == (name != "fedavg")


@pytest.mark.parametrize(
    "compression", [Compression("int8"), Compression("top-k", 0.1)], ids=["int8", "top-k"]
)
def test_compressed_updates_with_error_feedback_learn_as_well(compression: Compression) -> None:
    plain, small = (Plan(5, 10, 0.1, iid=True, compression=how) for how in (Compression(), compression))
    assert after("fedavg", 20, small) > after("fedavg", 20, plain) - 0.02


def test_the_gradients_here_are_torchs() -> None:
    import torch
    from torch.nn import functional

    (pixels, labels), _ = digits()
    leaves = {n: torch.tensor(a, requires_grad=True) for n, a in LAYOUT.arrays(beginning(1)).items()}
    x = torch.from_numpy(pixels[:50])
    hidden = functional.relu(x @ leaves["0.weight"] + leaves["0.bias"])
    scores = hidden @ leaves["1.weight"] + leaves["1.bias"]
    functional.cross_entropy(scores, torch.from_numpy(labels[:50])).backward()
    found = gradients(LAYOUT.arrays(beginning(1)), pixels[:50], labels[:50])
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        np.testing.assert_allclose(found[name], leaf.grad.numpy(), atol=1e-6)
