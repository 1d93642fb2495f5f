"""Subscriptions: who hears of what. They belong to the organisation, whoever of it made them.

A secret is told once, when it is made; after a rotation the old one stays good for a while, so that the
receiver can change over.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.crypto import Keyring, open_sealed, seal
from tg_workbench.errors import IdempotencyConflict, InvalidRequest, TooManyWebhooks, WebhookNotFound
from tg_workbench.identity import Principal
from tg_workbench.outbox import WebhookEvent
from tg_workbench.security import DataKeys
from tg_workbench.storage.database import now
from tg_workbench.webhooks.addresses import Reach
from tg_workbench.webhooks.signatures import new_secret
from tg_workbench.webhooks.tables import Delivery, DeliveryStatus, Subscription

MOST_PER_TENANT = 20
HOUR_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class SubscriptionSpec:
    """What is asked for; None: as it was."""

    url: str | None = None
    events: tuple[str, ...] | None = None
    description: str | None = None
    status: str | None = None
    personal: bool | None = None


class Subscriptions:
    """The subscriptions of a workbench. `home` is where the keys lie that seal their secrets."""

    def __init__(self, session: Session, home: Path, reach: Reach) -> None:
        self.session = session
        self.home = home
        self.reach = reach

    def create(
        self, owner: Principal, spec: SubscriptionSpec, *, idempotency_key: str | None = None
    ) -> tuple[Subscription, str]:
        """A new subscription and its secret, which is never to be had again.

        Raises InvalidRequest, TooManyWebhooks, and IdempotencyConflict for a repeated `idempotency_key`.
        """
        if spec.url is None or not spec.events:
            raise InvalidRequest("a webhook needs a url and at least one event")
        mine = col(Subscription.tenant_id) == owner.tenant_id
        if idempotency_key is not None:
            known = select(Subscription.id).where(mine, Subscription.idempotency_key == idempotency_key)
            if self.session.exec(known).first() is not None:
                raise IdempotencyConflict  # the first answer held a secret that nobody has any more
        if (
            self.session.exec(select(sa.func.count()).select_from(Subscription).where(mine)).one()
            >= MOST_PER_TENANT
        ):
            raise TooManyWebhooks(MOST_PER_TENANT)
        secret, subscription_id = new_secret(), f"wh-{uuid.uuid4()}"
        key_id, sealed = self._seal(owner.tenant_id, subscription_id, secret)
        subscription = Subscription(
            id=subscription_id,
            tenant_id=owner.tenant_id,
            owner_id=owner.id,
            url="",
            events=[],
            secret=sealed,
            key_id=key_id,
            idempotency_key=idempotency_key,
        )
        self._apply(subscription, spec)
        return subscription, secret

    def get(self, owner: Principal, subscription_id: str) -> Subscription:
        """The subscription. Raises WebhookNotFound, also when it is another organisation's."""
        subscription = self.session.get(Subscription, subscription_id)
        if subscription is None or subscription.tenant_id != owner.tenant_id:
            raise WebhookNotFound
        return subscription

    def list_page(
        self, owner: Principal, *, limit: int = 50, offset: int = 0
    ) -> tuple[list[Subscription], int]:
        """The organisation's subscriptions, newest first, and how many there are."""
        mine = col(Subscription.tenant_id) == owner.tenant_id
        total = self.session.exec(select(sa.func.count()).select_from(Subscription).where(mine)).one()
        query = select(Subscription).where(mine)
        query = query.order_by(col(Subscription.created_at).desc(), col(Subscription.id))
        return list(self.session.exec(query.limit(limit).offset(offset))), total

    def update(self, owner: Principal, subscription_id: str, spec: SubscriptionSpec) -> Subscription:
        """Change what `spec` names. Whatever waits goes to the new url. Raises InvalidRequest."""
        subscription = self.get(owner, subscription_id)
        self._apply(subscription, spec)
        return subscription

    def rotate_secret(
        self,
        owner: Principal,
        subscription_id: str,
        *,
        grace_hours: float = 24.0,
        idempotency_key: str | None = None,
    ) -> tuple[Subscription, str]:
        """A new secret; the one before it stays good for `grace_hours`. Raises IdempotencyConflict."""
        subscription = self.get(owner, subscription_id)
        if idempotency_key is not None and subscription.rotation_key == idempotency_key:
            raise IdempotencyConflict
        secret = new_secret()
        subscription.previous_secret = subscription.secret if grace_hours else None
        subscription.previous_key_id = subscription.key_id if grace_hours else None
        subscription.previous_until = now() + grace_hours * HOUR_SECONDS if grace_hours else None
        subscription.key_id, subscription.secret = self._seal(subscription.tenant_id, subscription_id, secret)
        subscription.rotation_key = idempotency_key
        self._keep(subscription)
        return subscription, secret

    def delete(self, owner: Principal, subscription_id: str) -> None:
        """Forget it, and its deliveries with it. Raises WebhookNotFound."""
        subscription = self.get(owner, subscription_id)
        self.session.connection().execute(
            sa.delete(Delivery).where(col(Delivery.subscription_id) == subscription_id)
        )
        self.session.delete(subscription)
        self.session.flush()

    def good_secrets(self, subscription: Subscription) -> list[str]:
        """What to sign with: the current secret, then an old one that is still good. Raises SealBroken."""
        keys = DataKeys(self.session, Keyring.open(self.home))
        context = _context(subscription.tenant_id, subscription.id)
        sealed = [(subscription.key_id, subscription.secret)]
        if subscription.previous_secret and (subscription.previous_until or 0.0) > now():
            sealed.append((subscription.previous_key_id or "", subscription.previous_secret))
        return [open_sealed(keys.get(key_id).key, secret, context).decode() for key_id, secret in sealed]

    def _apply(self, subscription: Subscription, spec: SubscriptionSpec) -> None:
        if spec.url is not None:
            self.reach.check_url(spec.url)
            subscription.url = spec.url
        if spec.events is not None:
            if not spec.events or not set(spec.events) <= set(WebhookEvent):
                raise InvalidRequest(f"the events are {', '.join(WebhookEvent)}; name at least one")
            subscription.events = [event for event in WebhookEvent if event in spec.events]
        if spec.personal is not None:
            subscription.personal = spec.personal
        if spec.description is not None:
            subscription.description = spec.description
        if spec.status == "active":
            subscription.status, subscription.reason, subscription.failures = "active", None, 0
        elif spec.status == "disabled":
            disable(self.session, subscription, "disabled by hand")
        self._keep(subscription)

    def _keep(self, subscription: Subscription) -> None:
        self.session.add(subscription)
        self.session.flush()

    def _seal(self, tenant_id: str, subscription_id: str, secret: str) -> tuple[str, bytes]:
        key = DataKeys(self.session, Keyring.open(self.home)).current(tenant_id)
        return key.key_id, seal(key.key, secret.encode(), _context(tenant_id, subscription_id))


def disable(session: Session, subscription: Subscription, reason: str) -> None:
    """Send it nothing more, and say why. What waits is cancelled: it can be redelivered one by one."""
    subscription.status, subscription.reason = "disabled", reason
    session.add(subscription)
    session.connection().execute(
        sa.update(Delivery)
        .where(
            col(Delivery.subscription_id) == subscription.id, col(Delivery.status) == DeliveryStatus.PENDING
        )
        .values(status=DeliveryStatus.CANCELLED, claim=None, lease_until=None, due_at=None, error=reason)
    )


def _context(tenant_id: str, subscription_id: str) -> bytes:
    """A sealed secret cannot be passed off as another subscription's."""
    return f"webhook-secret|{subscription_id}|{tenant_id}".encode()
