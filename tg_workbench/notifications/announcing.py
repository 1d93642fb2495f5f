"""Announcing: notices on their way out of the outbox reach the people they concern.

Called by whoever empties the outbox, in the same transaction: so nobody is told twice, and nobody of what
was rolled back. What is somebody's own goes to them; what concerns the organisation as a whole goes to those
who look after it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from sqlmodel import Session

from tg_workbench.datasets import Dataset
from tg_workbench.identity import LOCAL, LOCAL_PRINCIPAL, Memberships
from tg_workbench.notifications.inbox import Inbox
from tg_workbench.notifications.mails import Mails
from tg_workbench.notifications.preferences import Channel, Kind, Preferences
from tg_workbench.outbox import WebhookEvent

log = logging.getLogger(__name__)
MOST_ADMINISTRATORS = 50
BUDGET_RULE = "budget_near_cap"


def announce(session: Session, notices: Sequence[Any]) -> dict[int, set[str]]:
    """Tell people of `notices`; whose own webhooks are to hear of each, by the notice's id."""
    hearers: dict[int, set[str]] = {}
    for notice in notices:
        data = _data_of(notice)
        if data is None:
            continue
        kind = _kind_of(notice.event, data)
        if kind is None:
            hearers[notice.id] = set(_concerned(session, notice, data))
            continue
        wanted = Preferences(session).of_each(_concerned(session, notice, data))
        hearers[notice.id] = {owner for owner, of in wanted.items() if Channel.WEBHOOK in of[kind]}
        for owner_id, channels in ((owner_id, of[kind]) for owner_id, of in wanted.items()):
            if Channel.IN_APP in channels:
                Inbox(session).put(owner_id, kind, data, notice.at)
            if Channel.EMAIL in channels:
                Mails(session).put(owner_id, kind, data, notice.at)
    return hearers


def _concerned(session: Session, notice: Any, data: dict[str, Any]) -> list[str]:
    """Whom a notice is for."""
    owner_id: str | None = notice.owner_id
    if owner_id is None and data.get("rule") == BUDGET_RULE:
        dataset = session.get(Dataset, str(data.get("subject")))
        owner_id = None if dataset is None else dataset.owner_id
    if owner_id is not None:
        return [owner_id]
    administrators = Memberships(session).administrators(notice.tenant_id, MOST_ADMINISTRATORS)
    return [*([LOCAL_PRINCIPAL.id] if notice.tenant_id == LOCAL else []), *administrators]


def _kind_of(event: str, data: dict[str, Any]) -> Kind | None:
    """What people call it; None for what they cannot choose."""
    if event == WebhookEvent.SECURITY_ALERT and data.get("rule") == BUDGET_RULE:
        return Kind.BUDGET_NEAR_CAP
    return Kind(event) if event in set(Kind) else None


def _data_of(notice: Any) -> dict[str, Any] | None:
    """None for what cannot be read: whoever empties the outbox says so in the log."""
    try:
        data = json.loads(notice.data, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
