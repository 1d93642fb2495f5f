"""A fleet's policy is its administrators', and what it may spend only ever grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlmodel import Session

from tg_workbench.errors import InvalidField, PermissionDenied, PrivacyRefused
from tg_workbench.federation.fleets.budgets import FleetBudget
from tg_workbench.federation.fleets.fleets import Fleets
from tg_workbench.federation.fleets.releases import Release
from tg_workbench.identity import Principal
from tg_workbench.security import Vault
from tg_workbench.storage import Database

ADMIN = Principal(id="admin", tenant_id="org-1", scopes=frozenset({"admin"}))
MEMBER = replace(ADMIN, scopes=frozenset({"read", "train"}))


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.write(durable=True) as session:
        yield session


def test_an_organisation_has_one_fleet(session: Session) -> None:
    fleets = Fleets(session)
    assert fleets.find("org-1") is None
    assert fleets.of("org-1") is fleets.of("org-1")
    assert fleets.of("org-1").id != fleets.of("org-2").id
    assert (fleets.of("org-1").epsilon_cap, fleets.of("org-1").delta) == (10.0, 1e-5)


def test_only_an_administrator_changes_it(session: Session) -> None:
    with pytest.raises(PermissionDenied, match="administrator"):
        Fleets(session).change(MEMBER, epsilon_cap=20)
    assert Fleets(session).change(ADMIN, epsilon_cap=20).epsilon_cap == 20


@pytest.mark.parametrize("cap", [9.9, 0, -1, 1001, float("nan")], ids=str)
def test_a_cap_only_goes_up(session: Session, cap: float) -> None:
    with pytest.raises(InvalidField, match="epsilon_cap"):
        Fleets(session).change(ADMIN, epsilon_cap=cap)
    assert Fleets(session).of("org-1").epsilon_cap == 10.0


def test_who_has_set_no_cap_may_set_any_once(session: Session) -> None:
    fleets = Fleets(session, default_cap=None)
    assert fleets.of("org-1").epsilon_cap is None
    assert fleets.change(ADMIN, epsilon_cap=2).epsilon_cap == 2


def test_delta_is_fixed_once_something_was_spent(session: Session, vault: Vault, release: Release) -> None:
    assert Fleets(session).change(ADMIN, delta=1e-7).delta == 1e-7
    assert FleetBudget(session, vault).charge(release).delta == 1e-7
    with pytest.raises(PrivacyRefused, match="delta is fixed"):
        Fleets(session).change(ADMIN, delta=1e-5)
    with pytest.raises(InvalidField, match="delta"):
        Fleets(session).change(ADMIN, delta=0.5)
