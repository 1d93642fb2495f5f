"""What a strategy gets is made of what was charged, and of nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tg_workbench.errors import InvalidRequest, PrivacyRefused
from tg_workbench.federation.fleets.budgets import FleetBudget
from tg_workbench.federation.fleets.noisy_means import (
    adaptive_mean_of_round,
    mean_of_round,
    mean_of_tree_round,
)
from tg_workbench.federation.fleets.privacy_settings import PrivacySettings
from tg_workbench.federation.fleets.releases import Charged, Release
from tg_workbench.federation.fleets.tree_budgets import TreeBudget
from tg_workbench.privacy.adaptive_clipping import AdaptiveClip
from tg_workbench.privacy.user_level import Vector
from tg_workbench.security import Vault
from tg_workbench.storage import Database

SIZE = 20_000
RARE = 1e-6


def deltas(*devices: str) -> list[tuple[str, Vector]]:
    """Every device pushes every parameter equally hard, and far beyond the norm."""
    return [(device, np.full(SIZE, 7.0, np.float32)) for device in devices]


@pytest.fixture
def charged(database: Database, vault: Vault, release: Release) -> Charged:
    with database.write(durable=True) as session:
        return FleetBudget(session, vault).charge(replace(release, quorum=4, clip_norm=3.0))


def test_a_round_is_clipped_noised_and_divided_as_it_was_charged(charged: Charged) -> None:
    mean = mean_of_round(charged, deltas("dev_a", "dev_b"), SIZE)
    noise = mean - 2 * 3.0 / SIZE**0.5 / 4
    assert stats.kstest(noise / (2.0 * 3.0 / 4), "norm").pvalue > RARE
    assert np.array_equal(mean, mean_of_round(charged, deltas("dev_a", "dev_b"), SIZE))


@pytest.mark.parametrize("came", ["a", "ba", "abc", "ac", "aab"])
def test_other_updates_than_were_charged_are_refused(charged: Charged, came: str) -> None:
    with pytest.raises(PrivacyRefused, match="not those that were charged"):
        mean_of_round(charged, deltas(*(f"dev_{letter}" for letter in came)), SIZE)


def test_a_norm_that_follows_is_the_one_that_was_charged(charged: Charged) -> None:
    clip = AdaptiveClip(3.0, count_noise=2.0)
    mean, after = adaptive_mean_of_round(charged, clip, deltas("dev_a", "dev_b"), SIZE)
    again, same = adaptive_mean_of_round(charged, clip, deltas("dev_a", "dev_b"), SIZE)
    assert np.array_equal(mean, again)
    assert after == same != clip
    with pytest.raises(InvalidRequest, match="another norm"):
        adaptive_mean_of_round(charged, after, deltas("dev_a", "dev_b"), SIZE)


def test_a_round_of_a_tree_grows_it(database: Database, vault: Vault, release: Release) -> None:
    settings = PrivacySettings(differential_privacy=True, mechanism="dp_ftrl", rounds=4)
    with database.write(durable=True) as session:
        budget = TreeBudget(session, vault)
        paid = budget.charge(release, settings)
        mean, grown = mean_of_tree_round(paid, deltas("dev_a", "dev_b"), SIZE)
        budget.released(release, grown)
    assert stats.kstest((mean - 1.0 / SIZE**0.5) / (2.0 * 1.0 / 2), "norm").pvalue > RARE
    assert grown.step == 1
