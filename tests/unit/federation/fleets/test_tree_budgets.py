"""A tree is charged once, with its first round, and goes on after a crash as if there had been none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sqlmodel import select

from tg_workbench.datasets import LedgerEvent
from tg_workbench.errors import BudgetExhausted, PrivacyRefused
from tg_workbench.federation.fleets import Fleets
from tg_workbench.federation.fleets.budgets import FleetBudget
from tg_workbench.federation.fleets.privacy_settings import PrivacySettings
from tg_workbench.federation.fleets.releases import PaidTree, Release
from tg_workbench.federation.fleets.tables import NoiseTree
from tg_workbench.federation.fleets.tree_budgets import TreeBudget
from tg_workbench.privacy.curves import gaussian_epsilon
from tg_workbench.privacy.tree_noise import grow
from tg_workbench.privacy.trees import Tree
from tg_workbench.privacy.user_level import ClippedDeltas, Vector
from tg_workbench.security import Vault
from tg_workbench.storage import Database

SETTINGS = PrivacySettings(
    differential_privacy=True,
    noise_level=6.0,
    mechanism="dp_ftrl",
    rounds=6,
    tree_rounds=4,
    max_participations=2,
    min_separation=2,
)


def of_round(release: Release, number: int, *devices: str) -> Release:
    came = tuple((device, f"{number:064d}") for device in devices)
    return replace(
        release, round_id=f"round_{number}", number=number, contributions=came, noise_multiplier=6.0
    )


def charge(database: Database, vault: Vault, release: Release) -> PaidTree:
    with database.write(durable=True) as session:
        return TreeBudget(session, vault).charge(release, SETTINGS)


def made(paid: PaidTree) -> tuple[Vector, Tree]:
    return grow(paid.tree, ClippedDeltas(5, 1.0).finish(), paid.context, paid.expected_devices)


def finish(database: Database, vault: Vault, release: Release, grown: Tree) -> None:
    with database.write(durable=True) as session:
        TreeBudget(session, vault).released(release, grown)


def events(database: Database) -> list[LedgerEvent]:
    with database.read() as session:
        return list(session.exec(select(LedgerEvent)))


def test_rounds_grow_trees_that_are_each_charged_once(
    database: Database, vault: Vault, release: Release
) -> None:
    for number in range(1, 7):
        one = of_round(release, number, "dev_a" if number % 2 else "dev_b")
        paid = charge(database, vault, one)
        mean, grown = made(paid)
        again, _ = made(charge(database, vault, one))  # a crash in between
        assert np.array_equal(mean, again)
        finish(database, vault, one, grown)
        assert len(events(database)) == (1 if number <= 4 else 2)
    squared = paid.tree.plan.squared_sensitivity
    assert paid.epsilon == pytest.approx(gaussian_epsilon((2 * squared) ** 0.5 / 6.0, 1e-5))
    with database.read() as session:
        first, second = session.exec(select(NoiseTree).order_by(NoiseTree.number))  # type: ignore[arg-type]
    assert (first.sealed, first.step, second.step, second.done_at) == (None, 4, 2, None)
    assert first.joined == {"dev_a": [1, 3], "dev_b": [2, 4]}


def test_what_others_spend_while_a_tree_grows_is_told_with_its_next_round(
    database: Database, vault: Vault, release: Release
) -> None:
    one = of_round(release, 1, "dev_a")
    first = charge(database, vault, one)
    finish(database, vault, one, made(first)[1])
    with database.write(durable=True) as session:
        theirs = replace(release, round_id="round_of_theirs", campaign_id="camp_2")
        others = FleetBudget(session, vault).charge(theirs)
    second = charge(database, vault, of_round(release, 2, "dev_b"))
    assert second.epsilon == first.epsilon
    assert second.fleet_epsilon == others.fleet_epsilon > first.fleet_epsilon


def test_the_same_round_with_other_updates_has_other_noise(
    database: Database, vault: Vault, release: Release
) -> None:
    mean, _ = made(charge(database, vault, of_round(release, 1, "dev_a", "dev_b")))
    other, _ = made(charge(database, vault, of_round(release, 1, "dev_a")))
    assert not np.isclose(mean, other).any()
    assert len(events(database)) == 1


def test_a_device_that_comes_too_soon_or_too_often_is_refused(
    database: Database, vault: Vault, release: Release
) -> None:
    for number, devices in ((1, ["dev_a"]), (2, ["dev_b"]), (3, ["dev_a"])):
        one = of_round(release, number, *devices)
        finish(database, vault, one, made(charge(database, vault, one))[1])
    with pytest.raises(PrivacyRefused, match="2 rounds apart"):
        charge(database, vault, of_round(release, 4, "dev_a"))
    charge(database, vault, of_round(release, 4, "dev_b", "dev_c"))


def test_a_tree_that_does_not_fit_is_refused_and_not_planted(
    database: Database, vault: Vault, release: Release
) -> None:
    small = replace(of_round(release, 1, "dev_a"), noise_multiplier=0.5)
    with pytest.raises(BudgetExhausted, match="fleet of devices"):
        charge(database, vault, small)
    with database.read() as session:
        assert session.exec(select(NoiseTree)).all() == []
    assert events(database) == []


def test_what_was_not_charged_is_not_released(database: Database, vault: Vault, release: Release) -> None:
    one = of_round(release, 1, "dev_a")
    _, grown = made(charge(database, vault, one))
    finish(database, vault, one, grown)
    with pytest.raises(PrivacyRefused, match="never charged"):
        finish(database, vault, one, grown)
    with pytest.raises(PrivacyRefused, match="stay what they were"):
        charge(database, vault, replace(of_round(release, 2, "dev_b"), clip_norm=3.0))
    with database.write() as session:
        Fleets(session).end_tree("camp_1")
        assert session.exec(select(NoiseTree)).one().sealed is None
