"""Farewells: the workbench's signed word that no round of some campaigns comes any more.

A device forgets by it what it remembers of them, and by nothing else: whoever forges answers makes it forget
nothing. The word is for one device. That it may be shown again does no harm: what is over stays over.
"""

from __future__ import annotations

from typing import Any

from sqlmodel import Session, col, select

from tg_workbench.federation.devices.tables import Device
from tg_workbench.federation.rounds.assignments import Signer
from tg_workbench.federation.rounds.tables import Campaign
from tg_workbench.federation.updates.bindings import FAREWELL_CONTEXT


def over_for(session: Session, device: Device, campaign_ids: list[str]) -> list[str]:
    """Those of these campaigns of which no round comes any more: over, or unknown to its organisation."""
    under_way = select(Campaign.id).where(
        Campaign.tenant_id == device.organization_id,
        Campaign.status == "active",
        col(Campaign.id).in_(campaign_ids),
    )
    known = set(session.exec(under_way))
    return [campaign_id for campaign_id in campaign_ids if campaign_id not in known]


def farewell_of(device: Device, campaign_ids: list[str], signer: Signer) -> dict[str, Any]:
    """That these campaigns are over, signed for one device."""
    told = {
        "v": 1,
        "organization_id": device.organization_id,
        "device_id": device.id,
        "campaigns": campaign_ids,
    }
    return signer.signed(told, FAREWELL_CONTEXT)
