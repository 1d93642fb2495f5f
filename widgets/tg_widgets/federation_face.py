"""What a panel shows of a federation: its devices, one campaign, its rounds, and who took part in the newest.

Pitfalls: accuracy and loss are what devices say of themselves; ε covers neither, nor how far a round without
noise moves the model. Names of devices, and why an update was rejected, tell of their owners.
`published=True` has none of all this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tg_widgets.budget_gauge import rounded_up, scientific
from tg_widgets.fields import sentence
from tg_widgets.job_rows import spelled
from tg_workbench.sdk.campaign_views import CampaignView, Participation, RoundView
from tg_workbench.sdk.devices import DeviceView

MOST_ROUNDS, MOST_DEVICES = 200, 100
STATUSES = ("training", "online", "offline")
NOT_COVERED = "told by devices: not covered by ε"


@dataclass(frozen=True, slots=True)
class SeenFederation:
    """What one look at a workbench has found."""

    devices: Sequence[DeviceView] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many devices stand where."""
    campaigns: Sequence[CampaignView] = ()
    campaign: CampaignView | None = None
    parts: Sequence[Participation] = ()


def face_of(seen: SeenFederation, *, published: bool = False) -> dict[str, Any]:
    """What is shown of it."""
    campaign = seen.campaign
    rounds = [] if campaign is None else campaign.history[-MOST_ROUNDS:]
    return {
        "counts": [{"status": name, "count": seen.counts.get(name, 0)} for name in STATUSES],
        "devices": [] if published else _devices(seen),
        "more_devices": max(0, sum(seen.counts.values()) - len(seen.devices)),
        "campaigns": [{"id": each.id, "name": each.name, "status": each.status} for each in seen.campaigns],
        "campaign": None if campaign is None else _campaign(campaign, published=published),
        "rounds": [_round(each, published=published) for each in rounds],
        "epsilon": _epsilon(rounds),
        "published": published,
    }


def _campaign(view: CampaignView, *, published: bool) -> dict[str, Any]:
    return {
        "id": view.id,
        "name": view.name,
        "status": view.status,
        "reason": "" if published or not view.reason else sentence(view.reason),
        "model": view.architecture,
        "strategy": view.strategy,
        "version": view.model_version,
        "done": view.rounds_done,
        "rounds": view.rounds,
        "actions": ["cancel"] if view.status == "active" and not published else [],
    }


def _round(view: RoundView, *, published: bool) -> dict[str, Any]:
    progress = view.progress
    return {
        "id": view.id,
        "number": view.number,
        "phase": view.phase,
        "reason": "" if published or not view.reason else sentence(view.reason),
        "members": view.participants,
        "target": view.target_participants,
        "accepted": progress.completed_devices,
        "rejected": progress.rejected_devices,
        "accuracy": "" if published else _percent(progress.avg_accuracy),
        "moved": "" if published and view.epsilon is None else _percent(progress.convergence_metric),
        "epsilon": "" if view.epsilon is None else rounded_up(view.epsilon),
        "time": _time(view),
        "started_at": view.started_at,
    }


def _devices(seen: SeenFederation) -> list[dict[str, Any]]:
    """Each device, and its part in the newest round."""
    parts = {part.device_id: part for part in seen.parts}
    shown = []
    for device in seen.devices[:MOST_DEVICES]:
        part = parts.get(device.id)
        shown.append(
            {
                "id": device.id,
                "name": device.name,
                "status": "revoked" if device.is_revoked else device.status,
                "rounds": device.training.get("total_rounds_completed") or 0,
                "part": "" if part is None else part.status,
                "samples": 0 if part is None else part.sample_count or 0,
                "reason": "" if part is None or not part.reason else sentence(part.reason),
            }
        )
    return shown


def _epsilon(rounds: Sequence[RoundView]) -> dict[str, Any]:
    """What the model promises each device: the newest round's word, with its δ."""
    told = [each for each in rounds if each.epsilon is not None]
    planned = rounds[-1].planned_epsilon if rounds else None
    if not told and planned is not None:
        return {"kind": "planned", "planned": rounded_up(planned)}
    if not told:
        return {"kind": "none" if rounds else "unknown"}
    newest = told[-1].privacy or {}
    delta = newest.get("delta")
    return {
        "kind": "spent",
        "spent": rounded_up(told[-1].epsilon),
        "delta": scientific(delta) if isinstance(delta, int | float) else "",
        "unit": str(newest.get("unit") or "device"),
    }


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share * 100:.1f} %"


def _time(view: RoundView) -> str:
    """For how long a round went on; empty while it does."""
    try:
        began, ended = (datetime.fromisoformat(str(each)) for each in (view.started_at, view.ended_at))
    except ValueError:
        return ""
    return spelled((ended - began).total_seconds())
