"""A subscription belongs to an organisation, and its secret is told once."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlmodel import Session

from tg_workbench.crypto import Keyring
from tg_workbench.errors import (
    IdempotencyConflict,
    InvalidRequest,
    SealBroken,
    TooManyWebhooks,
    WebhookNotFound,
)
from tg_workbench.identity import Principal
from tg_workbench.security import DataKeys
from tg_workbench.webhooks import MOST_PER_TENANT, Reach, Subscriptions, SubscriptionSpec

ALICE = Principal("alice", "acme", frozenset({"webhooks"}))
CAROL = Principal("carol", "acme", frozenset({"webhooks"}))
BOB = Principal("bob", "other", frozenset({"webhooks"}))
SPEC = SubscriptionSpec("https://hooks.example/x", ("device.offline", "training.started"))


@pytest.fixture
def webhooks(session: Session, tmp_path: Path) -> Subscriptions:
    return Subscriptions(session, tmp_path, Reach())


def test_the_secret_is_told_once_and_kept_sealed(webhooks: Subscriptions) -> None:
    webhook, secret = webhooks.create(ALICE, SPEC)
    assert secret.startswith("whsec_")
    assert secret.encode() not in webhook.secret
    assert webhooks.good_secrets(webhook) == [secret]


def test_a_sealed_secret_cannot_be_moved_to_another_subscription(webhooks: Subscriptions) -> None:
    one, _ = webhooks.create(ALICE, SPEC)
    two, _ = webhooks.create(ALICE, SPEC)
    two.secret, two.key_id = one.secret, one.key_id
    with pytest.raises(SealBroken):
        webhooks.good_secrets(two)


def test_the_secret_outlives_a_rotation_of_the_workbenchs_own_keys(
    webhooks: Subscriptions, session: Session, tmp_path: Path
) -> None:
    webhook, secret = webhooks.create(ALICE, SPEC)
    DataKeys(session, Keyring.rotate(tmp_path)).rewrap()
    assert webhooks.good_secrets(webhook) == [secret]


def test_a_rotated_secret_stays_good_for_a_while(webhooks: Subscriptions) -> None:
    webhook, old = webhooks.create(ALICE, SPEC)
    _, new = webhooks.rotate_secret(ALICE, webhook.id, grace_hours=1)
    assert webhooks.good_secrets(webhook) == [new, old]
    webhook.previous_until = 0.0
    assert webhooks.good_secrets(webhook) == [new]


def test_a_rotation_without_grace_ends_the_old_secret_at_once(webhooks: Subscriptions) -> None:
    webhook, _ = webhooks.create(ALICE, SPEC)
    _, new = webhooks.rotate_secret(ALICE, webhook.id, grace_hours=0)
    assert webhooks.good_secrets(webhook) == [new]


def test_a_repeated_call_makes_no_second_secret(webhooks: Subscriptions) -> None:
    webhook, secret = webhooks.create(ALICE, SPEC, idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        webhooks.create(ALICE, SPEC, idempotency_key="k")
    webhooks.rotate_secret(ALICE, webhook.id, idempotency_key="r")
    with pytest.raises(IdempotencyConflict):
        webhooks.rotate_secret(ALICE, webhook.id, idempotency_key="r")
    assert secret in webhooks.good_secrets(webhook)
    webhooks.create(BOB, SPEC, idempotency_key="k")  # another organisation's key is another key


def test_the_organisation_sees_it_and_nobody_else(webhooks: Subscriptions) -> None:
    webhook, _ = webhooks.create(ALICE, SPEC)
    assert webhooks.get(CAROL, webhook.id).owner_id == "alice"
    assert webhooks.list_page(BOB) == ([], 0)
    for forbidden in (webhooks.get, webhooks.delete, webhooks.rotate_secret):
        with pytest.raises(WebhookNotFound):
            forbidden(BOB, webhook.id)
    with pytest.raises(WebhookNotFound):
        webhooks.update(BOB, webhook.id, SubscriptionSpec(status="disabled"))


def test_an_organisation_has_at_most_so_many(webhooks: Subscriptions) -> None:
    made = [webhooks.create(ALICE, SPEC)[0] for _ in range(MOST_PER_TENANT)]
    with pytest.raises(TooManyWebhooks, match="20"):
        webhooks.create(CAROL, SPEC)
    webhooks.create(BOB, SPEC)
    webhooks.delete(ALICE, made[0].id)
    webhooks.create(CAROL, SPEC)


@pytest.mark.parametrize(
    "spec",
    [
        SubscriptionSpec("http://hooks.example/", ("device.offline",)),
        SubscriptionSpec("https://127.0.0.1/", ("device.offline",)),
        SubscriptionSpec("https://hooks.example/", ()),
        SubscriptionSpec("https://hooks.example/", ("device.exploded",)),
        SubscriptionSpec(None, ("device.offline",)),
    ],
)
def test_what_cannot_be_sent_to_or_told_is_refused(webhooks: Subscriptions, spec: SubscriptionSpec) -> None:
    with pytest.raises(InvalidRequest):
        webhooks.create(ALICE, spec)


def test_an_update_changes_what_it_names(webhooks: Subscriptions) -> None:
    webhook, _ = webhooks.create(ALICE, SPEC)
    webhook.failures = 3
    webhooks.update(ALICE, webhook.id, SubscriptionSpec(status="disabled", description="for a while"))
    assert (webhook.status, webhook.reason, webhook.url) == ("disabled", "disabled by hand", SPEC.url)
    webhooks.update(ALICE, webhook.id, SubscriptionSpec(status="active", events=("security.alert",)))
    assert (webhook.status, webhook.reason, webhook.failures) == ("active", None, 0)
    assert webhook.events == ["security.alert"]
    with pytest.raises(InvalidRequest):
        webhooks.update(ALICE, webhook.id, SubscriptionSpec("https://10.0.0.1/"))
