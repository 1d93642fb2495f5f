"""Organisations are seen by their members, and by nobody else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlmodel import Session

from tests.unit.identity.conftest import Town
from tg_workbench.errors import InvalidRequest, OrganizationNotFound, PermissionDenied
from tg_workbench.identity import LOCAL_PRINCIPAL, Invitations, Memberships, Organizations, Principal


def test_members_see_their_own_and_no_other(session: Session, alice: Principal, bob: Principal) -> None:
    organizations = Organizations(session)
    assert [each.id for each in organizations.list_page(alice)[0]] == [alice.tenant_id]
    with pytest.raises(OrganizationNotFound):
        organizations.get(alice, bob.tenant_id)
    with pytest.raises(OrganizationNotFound):
        organizations.change(alice, bob.tenant_id, name="mine now", description=None)
    assert organizations.list_page(LOCAL_PRINCIPAL)[1] == 3


def test_a_member_of_two_changes_the_one_they_act_for(session: Session, town: Town, alice: Principal) -> None:
    organizations = Organizations(session)
    second = organizations.create(alice, "Second", "of two")
    with pytest.raises(PermissionDenied):
        organizations.change(alice, second.id, name="Third", description=None)
    acting = town.principal(alice.user_id, second.id)
    assert organizations.change(acting, second.id, name="Third", description=None).description == "of two"


def test_a_credential_of_no_person_sees_the_organisation_it_acts_for(session: Session) -> None:
    found = Organizations(session).found("Lab")
    key = Principal("device", found.id, frozenset({"read"}))
    assert [each.id for each in Organizations(session).list_page(key)[0]] == [found.id]


def test_keys_and_applications_see_the_organisation_they_act_for(session: Session, alice: Principal) -> None:
    Organizations(session).create(alice, "Second")
    assert Organizations(session).list_page(alice)[1] == 2
    for lent in (replace(alice, session_id=None, key_id="key-1"), replace(alice, client_id="app_1")):
        assert [each.id for each in Organizations(session).list_page(lent)[0]] == [alice.tenant_id]


def test_an_owner_is_not_stripped_of_what_makes_one(session: Session, town: Town, alice: Principal) -> None:
    _, token = Invitations(session).invite(alice, "admin")
    carol = town.register("carol", token)
    hers = Memberships(session).of_member(carol, alice.user_id or "")
    with pytest.raises(InvalidRequest):
        Memberships(session).permit(carol, hers, None, frozenset({"read"}))


def test_who_is_invited_by_the_operator_is_in_the_local_organisation(session: Session, town: Town) -> None:
    by_role = {
        role: town.register(role, Invitations(session).invite(LOCAL_PRINCIPAL, role)[1])
        for role in ("member", "admin")
    }
    assert {each.tenant_id for each in by_role.values()} == {"local"}
    assert by_role["admin"].is_operator
    assert not by_role["member"].is_operator
    assert by_role["member"].id != LOCAL_PRINCIPAL.id


def test_the_operator_looks_after_every_organisation(session: Session, alice: Principal) -> None:
    changed = Organizations(session).change(
        LOCAL_PRINCIPAL, alice.tenant_id, name=" Renamed ", description="x"
    )
    assert (changed.name, changed.description) == ("Renamed", "x")
