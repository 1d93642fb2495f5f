"""Our routes for webhooks, under /workbench/v1/webhooks: both documents say "register", neither says how."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from tg_workbench.contracts.providers import (
    DeliveryId,
    IdempotencyKey,
    Limit,
    Offset,
    SignedIn,
    Transaction,
    WebhookId,
    WebhooksRoom,
)
from tg_workbench.contracts.route import FAILURES, needs
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.workbench import schemas
from tg_workbench.contracts.workbench import webhook_schemas as forms
from tg_workbench.webhooks import Deliveries, DeliveryStatus

router = APIRouter(
    prefix="/workbench/v1/webhooks", route_class=WorkbenchRoute, tags=["Webhooks"], responses=FAILURES
)
ONE = "/{webhook_id}"
DELIVERIES = ONE + "/deliveries"


async def _deliveries(
    webhook_id: WebhookId, owner: SignedIn, webhooks: WebhooksRoom, session: Transaction
) -> Deliveries:
    return Deliveries(session, webhooks.get(owner, webhook_id))


DeliveriesRoom = Annotated[Deliveries, Depends(_deliveries, scope="function")]


@router.post("", status_code=201)
@needs("webhooks")
async def create_webhook(
    body: forms.CreateWebhook, owner: SignedIn, webhooks: WebhooksRoom, key: IdempotencyKey = None
) -> forms.IssuedWebhook:
    """Have events sent to a URL. The secret they are signed with is in this answer and nowhere else."""
    webhook, secret = webhooks.create(owner, body.as_spec(), idempotency_key=key)
    return forms.IssuedWebhook.of_new(webhook, secret)


@router.get("")
@needs("webhooks")
async def list_webhooks(
    owner: SignedIn, webhooks: WebhooksRoom, limit: Limit = 50, offset: Offset = 0
) -> forms.WebhookList:
    """List your organisation's webhooks, without their secrets."""
    page, total = webhooks.list_page(owner, limit=limit, offset=offset)
    shown = [forms.WebhookView.of(webhook) for webhook in page]
    return forms.WebhookList(webhooks=shown, total=total, limit=limit, offset=offset)


@router.get(ONE)
@needs("webhooks")
async def get_webhook(webhook_id: WebhookId, owner: SignedIn, webhooks: WebhooksRoom) -> forms.WebhookView:
    """A webhook, and why it is disabled if it is."""
    return forms.WebhookView.of(webhooks.get(owner, webhook_id))


@router.patch(ONE)
@needs("webhooks")
async def update_webhook(
    webhook_id: WebhookId, body: forms.UpdateWebhook, owner: SignedIn, webhooks: WebhooksRoom
) -> forms.WebhookView:
    """Change a webhook, disable it, or take it up again."""
    return forms.WebhookView.of(webhooks.update(owner, webhook_id, body.as_spec()))


@router.delete(ONE)
@needs("webhooks")
async def delete_webhook(webhook_id: WebhookId, owner: SignedIn, webhooks: WebhooksRoom) -> schemas.Deleted:
    """Send it nothing more, and forget what was sent."""
    webhooks.delete(owner, webhook_id)
    return schemas.Deleted()


@router.post(ONE + "/rotate_secret")
@needs("webhooks")
async def rotate_webhook_secret(
    webhook_id: WebhookId,
    body: forms.RotateSecret,
    owner: SignedIn,
    webhooks: WebhooksRoom,
    key: IdempotencyKey = None,
) -> forms.IssuedWebhook:
    """A new secret, in this answer and nowhere else. The old one stays good for `grace_hours`."""
    webhook, secret = webhooks.rotate_secret(
        owner, webhook_id, grace_hours=body.grace_hours, idempotency_key=key
    )
    return forms.IssuedWebhook.of_new(webhook, secret)


@router.post(ONE + "/ping", status_code=202)
@needs("webhooks")
async def ping_webhook(deliveries: DeliveriesRoom) -> forms.DeliveryView:
    """Send `webhook.ping`, once; the delivery says how it went."""
    return forms.DeliveryView.of(deliveries.ping())


@router.get(DELIVERIES)
@needs("webhooks")
async def list_deliveries(
    deliveries: DeliveriesRoom, status: DeliveryStatus | None = None, limit: Limit = 50, offset: Offset = 0
) -> forms.DeliveryList:
    """What was sent in the last 90 days, and what waits to be."""
    page, total = deliveries.list_page(status=status, limit=limit, offset=offset)
    shown = [forms.DeliveryView.of(delivery) for delivery in page]
    return forms.DeliveryList(deliveries=shown, total=total, limit=limit, offset=offset)


@router.get(DELIVERIES + "/{delivery_id}")
@needs("webhooks")
async def get_delivery(delivery_id: DeliveryId, deliveries: DeliveriesRoom) -> forms.DeliveryView:
    """How a delivery went, or goes."""
    return forms.DeliveryView.of(deliveries.get(delivery_id))


@router.post(DELIVERIES + "/{delivery_id}/redeliver", status_code=202)
@needs("webhooks")
async def redeliver(delivery_id: DeliveryId, deliveries: DeliveriesRoom) -> forms.DeliveryView:
    """Send a message again, under the same message id."""
    return forms.DeliveryView.of(deliveries.redeliver(delivery_id))
