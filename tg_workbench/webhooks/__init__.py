"""Webhooks: telling other systems what has happened here.

A room puts a notice into the outbox; the queue makes a delivery of it for each subscriber; the courier has it
carried out, signed, until it is taken or given up.

Pitfalls: a message may come twice, and later than the next one: receivers tell repetitions by `webhook-id`.
The address behind a name is checked when the connection is made, never before; whoever adds another way to
call a URL goes through the postman. What a receiver answers is shown to whoever may see its deliveries.
"""

from tg_workbench.webhooks.addresses import Reach
from tg_workbench.webhooks.courier import Courier
from tg_workbench.webhooks.deliveries import PING, Deliveries
from tg_workbench.webhooks.subscriptions import MOST_PER_TENANT, Subscriptions, SubscriptionSpec
from tg_workbench.webhooks.tables import Delivery, DeliveryStatus, Subscription

__all__ = [
    "MOST_PER_TENANT",
    "PING",
    "Courier",
    "Deliveries",
    "Delivery",
    "DeliveryStatus",
    "Reach",
    "Subscription",
    "SubscriptionSpec",
    "Subscriptions",
]
