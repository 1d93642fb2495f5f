"""Operating a workbench with the SDK: people, organisations, keys, alerts, logs, metrics, the audit log."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.contracts.people import PASSWORD
from tests.workbench_server import WorkbenchServer
from tg_workbench import InvalidRequest, NotFound, PermissionDenied, Unauthenticated, Workbench
from tg_workbench.errors import AccountTaken, AlreadyExists, InvitationInvalid, WrongPassword
from tg_workbench.sdk import Dataset, accounts


class Visitors:
    """People with a Workbench each, and no API key."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._opened: list[Workbench] = []

    def stranger(self) -> Workbench:
        """Somebody who has not signed in."""
        self._opened.append(Workbench(socket=self._socket))
        return self._opened[-1]

    def register(self, name: str, invitation_token: str | None = None) -> Workbench:
        """Somebody new who has."""
        name = f"{name}-{uuid.uuid4().hex[:8]}"
        stranger = self.stranger()
        stranger.register(name, f"{name}@example.org", PASSWORD, invitation_token=invitation_token)
        return stranger.login(name, PASSWORD)

    def close(self) -> None:
        for workbench in self._opened:
            workbench.close()


@pytest.fixture
def visitors(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visitors]:
    monkeypatch.delenv("TG_API_KEY", raising=False)
    visitors = Visitors(socket_path)
    yield visitors
    visitors.close()


@pytest.fixture
def alice(visitors: Visitors) -> Workbench:
    """The owner of an organisation of her own."""
    return visitors.register("alice")


# ----------------------------------------------------------------------------- signing in
def test_somebody_registers_signs_in_and_is_known(alice: Workbench) -> None:
    me = alice.me()
    assert me.username is not None
    assert me.username.startswith("alice-")
    assert (me.role, me.email) == ("owner", f"{me.username}@example.org")
    assert "train" in me.scopes
    assert me.username in repr(alice)
    assert PASSWORD not in repr([alice, me])


def test_an_e_mail_address_signs_in_too(visitors: Visitors, alice: Workbench) -> None:
    me = alice.me()
    other = visitors.stranger().login(f"{me.email}".upper(), PASSWORD)
    assert other.me().user_id == me.user_id
    assert other.me().session_id != me.session_id


def test_what_is_wrong_with_an_account_is_said_in_words(visitors: Visitors, alice: Workbench) -> None:
    stranger, taken = visitors.stranger(), str(alice.me().username)
    with pytest.raises(AccountTaken, match="already exists"):
        stranger.register(taken, "other@example.org", PASSWORD)
    with pytest.raises(InvitationInvalid, match="ask for a new one"):
        stranger.register(f"{taken}2", "other2@example.org", PASSWORD, invitation_token="no")
    with pytest.raises(InvalidRequest, match=r"password.*8"):
        stranger.register(f"{taken}3", "other3@example.org", "short")
    with pytest.raises(WrongPassword, match=r"no account has this name and this password$"):
        stranger.login(taken, PASSWORD + "!")
    with pytest.raises(Unauthenticated, match=r"wb\.login"):
        stranger.me()


def test_a_session_goes_on_when_its_token_ends(alice: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    session = alice._accounts.session
    assert session is not None
    first, refresh_token = session.token(), session._tokens.refresh_token
    later = time.monotonic() + 1800
    monkeypatch.setattr("tg_workbench.sdk.accounts.time.monotonic", lambda: later)
    assert alice.me().role == "owner"
    assert session._tokens.refresh_token != refresh_token
    monkeypatch.undo()
    session._tokens = accounts.Tokens("alice", first + "x", session._tokens.refresh_token, 1800.0)
    assert alice.me().role == "owner"


def test_whoever_signs_out_is_out(visitors: Visitors, alice: Workbench) -> None:
    name = str(alice.me().username)
    phone = visitors.stranger().login(name, PASSWORD)
    phone.logout()
    with pytest.raises(Unauthenticated):
        phone.me()
    phone.logout()
    phone.login(name, PASSWORD)
    assert alice.logout_everywhere() == 2
    with pytest.raises(Unauthenticated, match="session has ended"):
        phone.me()
    assert phone.login(name, PASSWORD).me().username == name


def test_a_key_is_back_when_its_owner_signs_out(
    visitors: Visitors, alice: Workbench, socket_path: str
) -> None:
    name = str(alice.me().username)
    with Workbench(
        socket=socket_path, api_key=alice.api_keys.create("script", scopes=["read"]).key
    ) as script:
        assert script.me().scopes == ["read"]
        assert script.me().key_id is not None
        assert "train" in script.login(name, PASSWORD).me().scopes
        script.logout()
        assert script.me().scopes == ["read"]


# ----------------------------------------------------------------------------- people and organisations
def test_an_invitation_leads_into_an_organisation_with_a_role(visitors: Visitors, alice: Workbench) -> None:
    invitation = alice.organizations.invite("viewer", expires_in_hours=1)
    assert invitation.invitation_token is not None
    assert invitation.invitation_token not in repr(invitation)
    (listed,) = alice.organizations.invitations()
    assert (listed.invitation_id, listed.invitation_token) == (invitation.invitation_id, None)
    victor = visitors.register("victor", invitation.invitation_token)
    assert victor.me().organization_id == alice.me().organization_id
    assert (victor.me().role, victor.me().scopes) == ("viewer", ["read"])
    assert len(victor.organizations.list()) == 1
    with pytest.raises(PermissionDenied, match="'datasets'"):
        victor.datasets.upload("rows", features=[[1.0]], targets=[0])
    with pytest.raises(PermissionDenied, match="'admin'"):
        victor.organizations.invite()


def test_an_invitation_that_was_withdrawn_leads_nowhere(visitors: Visitors, alice: Workbench) -> None:
    invitation = alice.organizations.invite()
    alice.organizations.withdraw(invitation)
    assert alice.organizations.invitations() == []
    with pytest.raises(InvitationInvalid):
        visitors.register("late", invitation.invitation_token)


def test_a_role_takes_at_once_and_gives_at_the_next_sign_in(visitors: Visitors, alice: Workbench) -> None:
    name = f"greta-{uuid.uuid4().hex[:8]}"
    made = alice.users.create(name, f"{name}@example.org", PASSWORD, role="viewer", full_name="Greta B.")
    assert (made.role, made.status, made.permissions) == ("viewer", "active", ["read"])
    greta = visitors.stranger().login(name, PASSWORD)
    assert alice.users.set_permissions(made, role="member").role == "member"
    assert greta.me().scopes == ["read"]
    assert "train" in greta.login(name, PASSWORD).me().scopes
    narrowed = alice.users.set_permissions(made, permissions=["read", "keys"])
    assert sorted(narrowed.permissions) == ["keys", "read"]
    assert greta.me().scopes == ["keys", "read"]
    assert {user.username for user in alice.organizations.members()} == {name, alice.me().username}
    assert alice.users.get(made.id).full_name == "Greta B."
    with pytest.raises(AlreadyExists):
        alice.users.create(name, "new@example.org", PASSWORD)
    with pytest.raises(PermissionDenied, match="monitoring"):
        alice.users.set_permissions(made, permissions=["monitoring"])


def test_a_member_who_is_removed_is_out_at_once(
    visitors: Visitors, alice: Workbench, socket_path: str
) -> None:
    mona = visitors.register("mona", alice.organizations.invite().invitation_token)
    key = mona.api_keys.create("script", scopes=["read"], expires_in_days=1).key
    alice.organizations.remove(str(mona.me().user_id))
    with pytest.raises(Unauthenticated):
        mona.me()
    with Workbench(socket=socket_path, api_key=key) as script, pytest.raises(Unauthenticated):
        script.me()


def test_an_organisation_is_made_changed_and_acted_for(visitors: Visitors, alice: Workbench) -> None:
    lab = alice.organizations.create("Lab", description="where it is tried")
    assert (lab.name, lab.member_count) == ("Lab", 1)
    there = visitors.stranger().login(str(alice.me().username), PASSWORD, organization_id=lab.id)
    assert there.me().organization_id == lab.id
    assert there.organizations.update(lab, name="The lab").description == "where it is tried"
    assert alice.organizations.get(lab.id).name == "The lab"
    with pytest.raises(NotFound):
        visitors.register("eve").organizations.get(lab)


# ----------------------------------------------------------------------------- keys
def test_a_key_does_what_its_scopes_say_until_it_is_revoked(workbench: Workbench, socket_path: str) -> None:
    made = workbench.api_keys.create("scraper", scopes=["monitoring"], expires_in_days=30)
    assert (made.scopes, str(made.key)[-4:]) == (["monitoring"], made.last_four)
    assert made.expires_at is not None
    assert str(made.key) not in repr(made)
    assert made.key_id in [key.key_id for key in workbench.api_keys.list()]
    with Workbench(socket=socket_path, api_key=made.key) as scraper:
        assert "tg_training_clients" in scraper.metrics()
        with pytest.raises(PermissionDenied, match="'read'"):
            scraper.datasets.list()
        workbench.api_keys.delete(made)
        with pytest.raises(Unauthenticated, match="revoked"):
            scraper.metrics()


# ----------------------------------------------------------------------------- looking after it
def test_its_operator_sees_how_it_does(workbench: Workbench, dataset: Dataset) -> None:
    assert workbench.me().scopes
    assert workbench.status()["performance"]["memory_usage"] > 0
    assert f'tg_dataset_epsilon_cap{{dataset="{dataset.id}"}}' in workbench.metrics()


def test_alerts_are_listed_acknowledged_and_tuned(workbench: Workbench) -> None:
    rules = {rule.rule: rule for rule in workbench.alerts.rules()}
    assert rules
    rule = rules["budget_near_cap"]
    changed = workbench.alerts.change_rule(rule, enabled=False)
    assert (changed.enabled, changed.threshold) == (False, rule.threshold)
    assert workbench.alerts.change_rule(rule.rule, enabled=rule.enabled).enabled == rule.enabled
    assert all(alert.state == "firing" for alert in workbench.alerts.list(state="firing"))
    with pytest.raises(NotFound):
        workbench.alerts.acknowledge("alr-00000000-0000-0000-0000-000000000000")


def test_logs_answer_the_operator_only(workbench: Workbench, alice: Workbench) -> None:
    with pytest.raises(NotFound):
        workbench.datasets.get("ds-none")  # what fails is written down
    lines = workbench.logs(
        level="info",
        component="requests",
        since=datetime.now(UTC) - timedelta(minutes=5),
        limit=50,
    )
    assert any(line.details.get("status") == 404 for line in lines)
    assert "requests: request" in str(lines[0])
    assert workbench.logs(until="1971-01-01T00:00:00Z") == []
    with pytest.raises(PermissionDenied, match="monitoring"):
        alice.logs()


def test_the_audit_log_tells_who_did_what(visitors: Visitors, alice: Workbench) -> None:
    victor = visitors.register("victor", alice.organizations.invite("viewer").invitation_token)
    with pytest.raises(PermissionDenied):
        victor.organizations.create("mine")
    entries = alice.audit_log.list(actor=victor.me().user_id)
    refused = next(entry for entry in entries if entry.outcome == "refused")
    assert "create_organization" in refused.action
    assert "refused" in str(refused)
    invited = alice.audit_log.list(action="workbench.invite", since=datetime.now(UTC) - timedelta(hours=1))
    assert [entry.actor for entry in invited] == [alice.me().user_id]
    webhook = alice.webhooks.create("https://example.org/hook", ["training.completed"])
    (made,) = alice.audit_log.list(action="workbench.create_webhook")
    assert made.object_id == webhook.webhook_id  # and not the data key that was made in passing
    newest, before = alice.audit_log.list(limit=2)
    assert (newest.previous, newest.number) == (before.hash, before.number + 1)
    with pytest.raises(PermissionDenied, match="'audit'"):
        victor.audit_log.list()


def test_a_session_outlives_the_api(workbench_server: WorkbenchServer, alice: Workbench) -> None:
    workbench_server.restart()
    assert alice.me().role == "owner"
