"""Users have one name each, and see those they share an organisation with."""

from __future__ import annotations

import pytest
from sqlmodel import Session

from tests.unit.identity.conftest import Town
from tg_workbench.errors import (
    AccountTaken,
    InvitationInvalid,
    InvitationNotFound,
    LastOwner,
    OrganizationNotFound,
    PermissionDenied,
    UserNotFound,
)
from tg_workbench.identity import (
    LOCAL_PRINCIPAL,
    ApiKeys,
    Invitations,
    Memberships,
    NewAccount,
    Organizations,
    Principal,
    Sessions,
    Users,
)


def test_whoever_registers_owns_an_organisation_of_their_own(alice: Principal, bob: Principal) -> None:
    assert alice.tenant_id != bob.tenant_id
    assert alice.may("admin")
    assert not alice.may("monitoring")  # the whole server's, so not hers
    assert not alice.is_operator


@pytest.mark.parametrize(
    ("name", "email"),
    [
        ("alice", "new@example.org"),
        ("ALICE", "new@example.org"),
        ("new", "Alice@Example.org"),
        ("\uff21lice", "x@y"),
    ],
)
def test_a_name_and_an_address_are_taken_however_they_are_written(
    session: Session, alice: Principal, name: str, email: str
) -> None:
    with pytest.raises(AccountTaken):
        Users(session).register(NewAccount(name, email, None))


def test_a_user_is_found_by_name_and_by_address(session: Session, alice: Principal) -> None:
    for login in ("alice", " Alice", "ALICE@example.org"):
        found = Users(session).find_by_login(login)
        assert found is not None
        assert found.id == alice.user_id
    assert Users(session).find_by_login("alic") is None


def test_people_of_different_organisations_do_not_see_each_other(
    session: Session, alice: Principal, bob: Principal
) -> None:
    assert [user.id for user in Users(session).list_page(alice)[0]] == [alice.user_id]
    assert Users(session).get(alice, alice.user_id or "").username == "alice"
    with pytest.raises(UserNotFound):
        Users(session).get(alice, bob.user_id or "")
    with pytest.raises(UserNotFound):
        Memberships(session).of_member(alice, bob.user_id or "")
    assert Users(session).list_page(LOCAL_PRINCIPAL)[1] == 2


def test_an_invitation_leads_into_an_organisation_once(
    session: Session, town: Town, alice: Principal
) -> None:
    _, token = Invitations(session).invite(alice, "member")
    carol = town.register("carol", token)
    assert carol.tenant_id == alice.tenant_id
    assert not carol.may("admin")
    assert Users(session).list_page(carol)[1] == 2
    for used in (token, "tgi_nothing", ""):
        with pytest.raises(InvitationInvalid):
            town.register(f"mallory{len(used)}", used)


def test_an_invitation_ends_by_itself_and_when_it_is_withdrawn(
    session: Session, town: Town, alice: Principal, bob: Principal
) -> None:
    _, late = Invitations(session).invite(alice, "member", expires_in_hours=-1)
    withdrawn, token = Invitations(session).invite(alice, "viewer")
    with pytest.raises(InvitationNotFound):
        Invitations(session).withdraw(bob, withdrawn.id)
    assert Invitations(session).list_page(bob) == ([], 0)
    assert Invitations(session).list_page(alice)[1] == 1
    Invitations(session).withdraw(alice, withdrawn.id)
    for name, each in (("carol", late), ("dave", token)):
        with pytest.raises(InvitationInvalid):
            town.register(name, each)
    assert not repr(withdrawn.model_dump()).count(token)


@pytest.mark.parametrize("loss", ["removed", "demoted", "narrowed", "closed", "removed and back"])
def test_an_invitation_is_good_while_its_maker_could_make_it_again(
    session: Session, town: Town, alice: Principal, loss: str
) -> None:
    carol = town.register("carol", Invitations(session).invite(alice, "admin")[1])
    _, token = Invitations(session).invite(carol, "admin")
    memberships = Memberships(session)
    place = memberships.of_member(alice, carol.user_id or "")
    if loss == "demoted":
        memberships.permit(alice, place, "viewer", None)
    elif loss == "narrowed":
        memberships.permit(alice, place, None, frozenset({"read", "admin"}))
    elif loss == "closed":
        Users(session).deactivate(Users(session).get(alice, carol.user_id or ""))
    else:
        memberships.end(alice, place)
    if loss == "removed and back":
        memberships.add(carol.user_id or "", alice.tenant_id, "admin")
    with pytest.raises(InvitationInvalid):
        town.register("mallory", token)


def test_the_operators_invitations_stay_good(session: Session, town: Town, alice: Principal) -> None:
    invitations = Invitations(session)
    _, first = invitations.invite(LOCAL_PRINCIPAL, "owner", organization_id=alice.tenant_id)
    assistant = town.register("assistant", invitations.invite(LOCAL_PRINCIPAL, "admin")[1])
    _, second = invitations.invite(assistant, "owner", organization_id=alice.tenant_id)
    _, third = invitations.invite(assistant, "viewer", organization_id=alice.tenant_id)
    assert {town.register(name, token).tenant_id for name, token in (("c", first), ("d", second))} == {
        alice.tenant_id
    }
    Memberships(session).permit(
        LOCAL_PRINCIPAL,
        Memberships(session).of_member(LOCAL_PRINCIPAL, assistant.user_id or ""),
        "member",
        None,
    )
    with pytest.raises(InvitationInvalid):
        town.register("e", third)


def test_a_stranger_without_an_invitation_is_not_told_whose_names_are_taken(
    session: Session, town: Town, alice: Principal
) -> None:
    with pytest.raises(InvitationInvalid):
        town.register("alice", "tgi_junk")


def test_nobody_invites_to_more_than_they_hold(session: Session, town: Town, alice: Principal) -> None:
    _, token = Invitations(session).invite(alice, "member")
    carol = town.register("carol", token)
    for asking, role in ((carol, "admin"), (alice, "owner")):
        with pytest.raises(PermissionDenied):
            Invitations(session).invite(asking, role)


def test_an_administrator_makes_users_in_their_own_organisation_only(
    session: Session, alice: Principal, bob: Principal
) -> None:
    made, _ = Users(session).create(alice, NewAccount("dave", "dave@x", None), "viewer", alice.tenant_id)
    assert Memberships(session).find(made.id, alice.tenant_id) is not None
    second = Organizations(session).create(alice, "Her second, for which she does not act here")
    for elsewhere in (bob.tenant_id, second.id, "org_none"):
        with pytest.raises(OrganizationNotFound):
            Users(session).create(alice, NewAccount("eve", "eve@x", None), "viewer", elsewhere)
        with pytest.raises(OrganizationNotFound):
            Invitations(session).invite(alice, "viewer", organization_id=elsewhere)
        with pytest.raises(OrganizationNotFound):
            Memberships(session).of_member(alice, alice.user_id or "", elsewhere)
    assert Users(session).find_by_login("eve") is None
    by_operator, _ = Users(session).create(
        LOCAL_PRINCIPAL, NewAccount("erin", "erin@x", None), "owner", bob.tenant_id
    )
    assert Memberships(session).find(by_operator.id, bob.tenant_id) is not None


def test_another_role_is_felt_at_once(session: Session, town: Town, alice: Principal) -> None:
    _, token = Invitations(session).invite(alice, "member")
    carol = town.register("carol", token)
    place = Memberships(session).of_member(alice, carol.user_id or "")
    _, key = ApiKeys(session).issue(carol, "laptop", ["read", "train"])
    Memberships(session).permit(alice, place, "viewer", None)
    assert Sessions(session).principal(carol.session_id or "").scopes == {"read"}  # type: ignore[union-attr]
    assert ApiKeys(session).principal_for(key).scopes == {"read"}  # type: ignore[union-attr]
    Memberships(session).permit(alice, place, None, frozenset({"datasets"}))
    assert Sessions(session).principal(carol.session_id or "").scopes == {"datasets"}  # type: ignore[union-attr]


def test_only_owners_make_and_unmake_owners_and_one_is_left(
    session: Session, town: Town, alice: Principal
) -> None:
    _, token = Invitations(session).invite(alice, "admin")
    carol = town.register("carol", token)
    memberships = Memberships(session)
    hers = memberships.of_member(carol, alice.user_id or "")
    carols = memberships.of_member(carol, carol.user_id or "")
    for asking, place, role in ((carol, hers, "viewer"), (carol, carols, "owner")):
        with pytest.raises(PermissionDenied):
            memberships.permit(asking, place, role, None)
    with pytest.raises(PermissionDenied):
        memberships.end(carol, hers)
    with pytest.raises(LastOwner):
        memberships.permit(alice, hers, "admin", None)
    memberships.permit(alice, carols, "owner", None)
    memberships.permit(alice, hers, "member", None)


def test_who_leaves_loses_sessions_and_keys_also_after_coming_back(
    session: Session, town: Town, alice: Principal
) -> None:
    _, token = Invitations(session).invite(alice, "member")
    carol = town.register("carol", token)
    _, key = ApiKeys(session).issue(carol, "laptop", ["read"])
    place = Memberships(session).of_member(alice, carol.user_id or "")
    Memberships(session).end(alice, place)
    back = Memberships(session).add(carol.user_id or "", alice.tenant_id, "member")
    assert back.id == place.id  # what she made is hers again
    assert Sessions(session).principal(carol.session_id or "") is None
    assert ApiKeys(session).principal_for(key) is None


def test_a_closed_account_opens_nothing(session: Session, alice: Principal) -> None:
    _, key = ApiKeys(session).issue(alice, "laptop", ["read"])
    user = Users(session).get(alice, alice.user_id or "")
    Users(session).deactivate(user)
    assert ApiKeys(session).principal_for(key) is None
    assert Sessions(session).principal(alice.session_id or "") is None
    assert Users(session).find_by_login("alice") is None
    assert user.password_hash is None


def test_an_account_that_others_depend_on_is_not_closed(
    session: Session, town: Town, alice: Principal
) -> None:
    _, token = Invitations(session).invite(alice, "member")
    town.register("carol", token)
    with pytest.raises(LastOwner):
        Users(session).deactivate(Users(session).get(alice, alice.user_id or ""))


def test_the_last_of_an_organisation_leaves_no_invitation_behind(
    session: Session, town: Town, alice: Principal
) -> None:
    tokens = [
        Invitations(session).invite(LOCAL_PRINCIPAL, "admin", organization_id=alice.tenant_id)[1],
        Invitations(session).invite(alice, "admin")[1],
    ]
    _, local = Invitations(session).invite(LOCAL_PRINCIPAL, "viewer")
    Users(session).deactivate(Users(session).get(alice, alice.user_id or ""))
    for token in tokens:
        with pytest.raises(InvitationInvalid):
            town.register("mallory", token)
    assert town.register("bob", local).tenant_id == "local"


def test_the_operator_says_in_which_organisation_a_place_is_taken(session: Session, bob: Principal) -> None:
    second = Organizations(session).create(bob, "Bob's second")
    memberships = Memberships(session)
    place = memberships.of_member(LOCAL_PRINCIPAL, bob.user_id or "", second.id)
    assert place.organization_id == second.id
    assert memberships.of_member(LOCAL_PRINCIPAL, bob.user_id or "").organization_id == bob.tenant_id
    assert memberships.of_member(bob, bob.user_id or "", bob.tenant_id).id == bob.id


def test_who_is_in_two_organisations_is_two_principals(session: Session, town: Town, bob: Principal) -> None:
    ours = Organizations(session).create(bob, "Bob's second")
    other = town.principal(bob.user_id, ours.id)
    assert (other.user_id, other.tenant_id) == (bob.user_id, ours.id)
    assert other.id != bob.id
    assert Organizations(session).list_page(bob)[1] == 2
