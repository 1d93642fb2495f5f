"""What a tree costs is what the paper and the library say, and never less than any way to take part."""

from __future__ import annotations

import itertools

import dp_accounting
import pytest
from dp_accounting.rdp import RdpAccountant

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy import curves, planner
from tg_workbench.privacy.accounting import Odometer
from tg_workbench.privacy.tree_plans import TreePlan

ZERO_OUT = dp_accounting.NeighboringRelation.REPLACE_SPECIAL


def moved(steps: int, joined: tuple[int, ...]) -> int:
    """Σ (how often a device is in a node)², over the nodes that prefixes are made of."""
    nodes = ((step - (step & -step), step) for step in range(1, steps + 1))
    return sum(sum(begins < one <= ends for one in joined) ** 2 for begins, ends in nodes)


def ways(steps: int, participations: int, separation: int) -> list[tuple[int, ...]]:
    """Every way to take part."""
    return [
        joined
        for count in range(1, participations + 1)
        for joined in itertools.combinations(range(1, steps + 1), count)
        if all(b - a >= separation for a, b in itertools.pairwise(joined))
    ]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 8, 9, 12])
@pytest.mark.parametrize(("participations", "separation"), [(1, 1), (2, 1), (2, 4), (3, 2), (3, 3), (4, 1)])
def test_nobody_moves_the_nodes_further_than_the_plan_says(
    steps: int, participations: int, separation: int
) -> None:
    plan = TreePlan(steps, min(participations, steps), min(separation, steps))
    worst = max(moved(steps, joined) for joined in ways(steps, plan.participations, plan.separation))
    assert worst <= plan.squared_sensitivity
    if participations == 1:
        assert worst == plan.squared_sensitivity


@pytest.mark.parametrize("steps", [1, 5, 8, 31, 32, 1000])
def test_one_epoch_costs_what_dp_accounting_says(steps: int) -> None:
    accountant = RdpAccountant(curves.ORDERS, ZERO_OUT)
    accountant.compose(dp_accounting.SingleEpochTreeAggregationDpEvent(3.0, steps))
    ours = curves.rdp_of_one_step(TreePlan(steps).as_one_step(3.0), "add_or_remove_one")
    assert ours == pytest.approx(accountant.rdp, rel=1e-9)


def test_trees_that_are_restarted_add_up_as_dp_accounting_says() -> None:
    delta, step = 1e-6, TreePlan(64).as_one_step(9.0)
    accountant = RdpAccountant(curves.ORDERS, ZERO_OUT)
    tree = dp_accounting.SingleEpochTreeAggregationDpEvent(9.0, 64)
    accountant.compose(dp_accounting.SelfComposedDpEvent(tree, 5))
    by_renyi = Odometer(delta, "rdp").epsilon({step: 5})
    assert by_renyi == pytest.approx(accountant.get_epsilon(delta), rel=2e-3)
    exactly = Odometer(delta).epsilon({step: 5})
    assert exactly == pytest.approx(curves.gaussian_epsilon((5 * 7) ** 0.5 / 9.0, delta))
    assert exactly < by_renyi


@pytest.mark.parametrize("plan", [(0, 1, 1), (4, 0, 1), (4, 5, 1), (4, 1, 0), (1 << 17, 1, 1)], ids=str)
def test_a_tree_that_cannot_be_is_refused(plan: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidRequest):
        TreePlan(*plan)


def test_the_planner_finds_the_noise_of_a_node() -> None:
    tree = TreePlan(32, 2, 8)
    asked = planner.Question(sample_rate=1.0, steps=3, delta=1e-5, target_epsilon=4.0, tree=tree)
    found = planner.answer(asked)
    assert found.epsilon <= 4.0
    given = planner.Question(1.0, 3, 1e-5, noise_multiplier=found.noise_multiplier, tree=tree)
    assert planner.answer(given).epsilon == pytest.approx(found.epsilon)
    sensitivity = 3 * tree.squared_sensitivity / found.noise_multiplier**2
    assert found.epsilon == pytest.approx(curves.gaussian_epsilon(sensitivity**0.5, 1e-5))
    with pytest.raises(InvalidRequest, match="nobody drew"):
        planner.answer(planner.Question(0.5, 3, 1e-5, noise_multiplier=1.0, tree=tree))
