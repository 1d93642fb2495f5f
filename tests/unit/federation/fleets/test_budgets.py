"""A round is charged once, before its noise, and its noise is the same until its model is out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event
from sqlmodel import select

from tg_workbench.datasets import LedgerEvent
from tg_workbench.datasets.tables import Dataset
from tg_workbench.errors import BudgetExhausted, InvalidRequest, PrivacyRefused, SealBroken
from tg_workbench.federation.fleets.budgets import FleetBudget
from tg_workbench.federation.fleets.fleets import Fleets
from tg_workbench.federation.fleets.privacy_settings import PrivacySettings
from tg_workbench.federation.fleets.releases import Charged, Release
from tg_workbench.federation.fleets.tables import Fleet, RoundCharge
from tg_workbench.identity import Principal
from tg_workbench.privacy.curves import gaussian_epsilon
from tg_workbench.security import Vault
from tg_workbench.storage import Database

ADMIN = Principal(id="admin", tenant_id="org-1", scopes=frozenset({"admin", "read", "datasets"}))
OTHERS = (("dev_a", "1" * 64),)


def charge(database: Database, vault: Vault, release: Release) -> Charged:
    with database.write(durable=True) as session:
        return FleetBudget(session, vault).charge(release)


def events(database: Database) -> list[LedgerEvent]:
    with database.read() as session:
        return list(session.exec(select(LedgerEvent).order_by(LedgerEvent.id)))  # type: ignore[arg-type]


def drawn(charged: Charged) -> bytes:
    return bytes(charged.generator().bytes(64))


def cap(database: Database, epsilon: float) -> None:
    with database.write() as session:
        fleet = Fleets(session).of("org-1")
        fleet.epsilon_cap = epsilon
        session.add(fleet)


def test_a_charge_is_on_the_disk_before_its_noise_is_handed_out(
    database: Database, vault: Vault, release: Release
) -> None:
    said: list[str] = []

    def listen(connection: Any, *_: Any) -> None:
        connection.set_trace_callback(said.append)

    event.listen(database.engine.pool, "checkout", listen)
    charge(database, vault, release)
    begun = said.index("BEGIN IMMEDIATE")
    assert [line for line in said[:begun] if "synchronous" in line][-1] == "PRAGMA synchronous=FULL"
    written = next(n for n, line in enumerate(said) if "INSERT INTO ledger_events" in line)
    seeded = next(n for n, line in enumerate(said) if "INSERT INTO round_charges" in line)
    assert begun < written < seeded < said.index("COMMIT")


def test_a_charge_that_a_power_cut_would_forget_is_refused(
    database: Database, vault: Vault, release: Release
) -> None:
    with pytest.raises(RuntimeError, match="durable"), database.write() as session:
        FleetBudget(session, vault).charge(release)
    assert events(database) == []


def test_a_round_that_is_done_again_is_charged_once_and_draws_the_same(
    database: Database, vault: Vault, release: Release
) -> None:
    first = charge(database, vault, release)
    turned = replace(release, contributions=release.contributions[::-1])
    again = charge(database, vault, turned)
    assert again == first
    assert drawn(again) == drawn(first)
    assert len(events(database)) == 1
    assert first.epsilon == pytest.approx(gaussian_epsilon(1 / 2.0, 1e-5))


@pytest.mark.parametrize(
    "changes",
    [
        {"contributions": OTHERS},
        {"contributions": (*OTHERS, ("dev_b", "3" * 64))},
        {"base": "9" * 64},
        {"clip_norm": 2.0},
        {"quorum": 3},
    ],
    ids=["one is gone", "another update", "another model", "another norm", "another divisor"],
)
def test_another_sum_is_another_release_with_other_noise(
    database: Database, vault: Vault, release: Release, changes: dict[str, Any]
) -> None:
    first = charge(database, vault, release)
    second = charge(database, vault, replace(release, **changes))
    assert drawn(second) != drawn(first)
    assert second.seed != first.seed
    assert (first.attempt, second.attempt, len(events(database))) == (0, 1, 2)
    assert second.epsilon == pytest.approx(gaussian_epsilon(2**0.5 / 2.0, 1e-5))
    back = charge(database, vault, release)  # the first one's seed is gone, so this is a third
    assert (back.attempt, len(events(database))) == (2, 3)
    assert drawn(back) != drawn(first)


def test_a_round_whose_model_is_out_draws_no_more(database: Database, vault: Vault, release: Release) -> None:
    charge(database, vault, release)
    with database.write(durable=True) as session:
        FleetBudget(session, vault).released("round_1")
    with pytest.raises(PrivacyRefused, match="no second time"):
        charge(database, vault, release)
    with database.read() as session:
        (row,) = session.exec(select(RoundCharge))
        assert row.sealed is None
    assert len(events(database)) == 1


def test_no_model_comes_of_a_round_that_was_not_charged(database: Database, vault: Vault) -> None:
    with pytest.raises(PrivacyRefused, match="never charged"), database.write() as session:
        FleetBudget(session, vault).released("round_1")


def test_a_round_that_was_given_up_stays_charged_and_its_seed_is_gone(
    database: Database, vault: Vault, release: Release
) -> None:
    first = charge(database, vault, release)
    with database.write() as session:
        FleetBudget(session, vault).given_up("round_1")
    assert drawn(charge(database, vault, release)) != drawn(first)
    assert len(events(database)) == 2


def test_a_seed_that_somebody_has_moved_does_not_open(
    database: Database, vault: Vault, release: Release
) -> None:
    charge(database, vault, release)
    charge(database, vault, replace(release, round_id="round_2", contributions=OTHERS))
    with database.write() as session:
        one, other = session.exec(select(RoundCharge).order_by(RoundCharge.round_id))
        one.sealed = other.sealed
        session.add(one)
    with pytest.raises(SealBroken):
        charge(database, vault, release)


def test_rounds_of_every_campaign_add_up_on_the_fleet(
    database: Database, vault: Vault, release: Release
) -> None:
    for number in range(1, 4):
        charge(database, vault, replace(release, round_id=f"round_{number}", number=number))
    charge(database, vault, replace(release, round_id="round_9", campaign_id="camp_2"))
    others = charge(database, vault, replace(release, round_id="round_x", tenant_id="org-2"))
    with database.write() as session:
        spent = FleetBudget(session, vault).spent("org-1")
    assert spent.epsilon == pytest.approx(gaussian_epsilon(4**0.5 / 2.0, 1e-5))
    assert spent.delta == 1e-5
    assert others.fleet_epsilon == pytest.approx(gaussian_epsilon(1 / 2.0, 1e-5))


def test_what_others_have_spent_meanwhile_is_told_when_a_crash_has_a_round_asked_for_again(
    database: Database, vault: Vault, release: Release
) -> None:
    first = charge(database, vault, release)
    others = charge(database, vault, replace(release, round_id="round_2", campaign_id="camp_2"))
    again = charge(database, vault, release)
    assert (again.epsilon, again.seed) == (first.epsilon, first.seed)
    assert again.fleet_epsilon == others.fleet_epsilon > first.fleet_epsilon


def test_the_round_that_would_pass_the_cap_is_refused_and_nothing_is_written(
    database: Database, vault: Vault, release: Release
) -> None:
    cap(database, gaussian_epsilon(2**0.5 / 2.0, 1e-5))
    for number in (1, 2):
        charge(database, vault, replace(release, round_id=f"round_{number}"))
    with pytest.raises(BudgetExhausted, match="fleet of devices is spent"):
        charge(database, vault, replace(release, round_id="round_3"))
    with pytest.raises(BudgetExhausted), database.read() as session:
        FleetBudget(session, vault).require_room(replace(release, round_id="round_3"))
    assert len(events(database)) == 2
    with database.read() as session:
        assert len(session.exec(select(RoundCharge)).all()) == 2


def test_to_ask_stores_nothing(database: Database, vault: Vault, release: Release) -> None:
    with database.write() as session:
        budget = FleetBudget(session, vault)
        budget.require_room(release)
        assert budget.plan("org-1", PrivacySettings(differential_privacy=True)).epsilon < 10
        assert budget.spent("org-1").epsilon == 0
        session.flush()
        assert session.exec(select(Fleet)).all() == []


def test_a_campaign_stops_at_its_target(database: Database, vault: Vault, release: Release) -> None:
    aimed = replace(release, target_epsilon=gaussian_epsilon(1 / 2.0, 1e-5))
    charge(database, vault, aimed)
    with pytest.raises(BudgetExhausted, match="campaign is spent"):
        charge(database, vault, replace(aimed, round_id="round_2"))


def test_rounds_that_cost_too_much_are_refused_before_they_begin(database: Database, vault: Vault) -> None:
    with database.write() as session:
        budget = FleetBudget(session, vault)
        weak = PrivacySettings(differential_privacy=True, noise_level=0.1)
        with pytest.raises(PrivacyRefused, match=r"past its cap of 10\.00"):
            budget.admit("org-1", weak, devices=10)
        assert budget.plan("org-1", weak).epsilon > 90
        aimed = PrivacySettings(differential_privacy=True, target_epsilon=5.0, rounds=10)
        assert budget.admit("org-1", aimed, devices=10).total_epsilon <= 5.0
        with pytest.raises(PrivacyRefused, match="not below one in its 100000 devices"):
            budget.admit("org-1", aimed, devices=100_000)
        unlimited = FleetBudget(session, vault, default_cap=None)
        assert unlimited.admit("org-2", weak, devices=10).total_epsilon > 90


def test_sampling_counts_only_where_the_server_has_drawn(
    database: Database, vault: Vault, release: Release
) -> None:
    plain = charge(database, vault, release)
    assert (plain.sample_rate, plain.expected_devices) == (1.0, 2.0)
    with database.write() as session:
        fleets = Fleets(session)
        devices = [f"dev_{number}" for number in range(1000)]
        draw = fleets.draw(fleets.of("org-1"), "round_2", devices, 0.05)
        assert fleets.draw(fleets.of("org-1"), "round_2", ["dev_x"], 0.9) is draw
        came = tuple((device, "1" * 64) for device in draw.drawn[:3])
    drawn_for = replace(release, round_id="round_2", campaign_id="camp_2", contributions=came)
    sampled = charge(database, vault, drawn_for)
    assert (sampled.sample_rate, sampled.expected_devices) == (0.05, 50.0)
    assert sampled.epsilon < plain.epsilon / 3
    assert [one.sample_rate for one in events(database)] == [1.0, 0.05]
    with pytest.raises(PrivacyRefused, match="not drawn for this round"):
        charge(database, vault, replace(drawn_for, contributions=(("dev_x", "1" * 64),)))


def test_each_device_has_its_own_coin(database: Database) -> None:
    with database.write() as session:
        fleets = Fleets(session)
        draw = fleets.draw(fleets.of("org-1"), "round_1", [f"dev_{n}" for n in range(20_000)], 0.3)
    assert abs(len(draw.drawn) - 6000) < 6 * (20_000 * 0.3 * 0.7) ** 0.5


def test_a_device_counts_once_in_a_round(release: Release) -> None:
    with pytest.raises(InvalidRequest, match="one update"):
        replace(release, contributions=(*OTHERS, ("dev_a", "2" * 64)))


def test_rounds_without_noise_are_counted_and_can_be_forbidden(database: Database, vault: Vault) -> None:
    with database.write() as session:
        budget = FleetBudget(session, vault)
        budget.released_plain("org-1")
        assert budget.spent("org-1").plain_rounds == 1
        Fleets(session).change(ADMIN, require_privacy=True)
        with pytest.raises(PrivacyRefused, match="only learn with"):
            budget.released_plain("org-1")
        with pytest.raises(PrivacyRefused, match="only learn with"):
            budget.admit("org-1", PrivacySettings(), devices=3)


def test_a_fleet_is_no_dataset_and_is_in_the_ledger_all_the_same(
    database: Database, vault: Vault, release: Release
) -> None:
    charge(database, vault, release)
    with database.read() as session:
        fleet = session.exec(select(Fleet)).one()
        assert session.exec(select(Dataset)).all() == []
        assert session.get(Dataset, fleet.id) is None
        (told,) = Fleets(session).history(fleet)
        assert (told.dataset_id, told.client_id, told.operation_id) == (fleet.id, "camp_1", "round_1")
