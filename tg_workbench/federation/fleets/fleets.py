"""Fleets: the policy of an organisation's devices, what was spent on them, and whom the server drew.

Needs no NumPy: what costs arithmetic is asked of the planner, in a process of its own (`training.planning`).
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Collection
from typing import Any

from sqlmodel import Session, col, select

from tg_workbench.datasets import Ledger, LedgerEvent
from tg_workbench.errors import InvalidField, PermissionDenied, PrivacyRefused
from tg_workbench.federation.fleets.privacy_settings import PrivacySettings
from tg_workbench.federation.fleets.tables import Fleet, NoiseTree, RoundDraw
from tg_workbench.identity import Principal
from tg_workbench.storage.database import now

DEFAULT_DELTA = 1e-5
DEFAULT_EPSILON_CAP = 10.0
MOST_EPSILON_CAP = 1000.0
_BITS = 53


class Fleets:
    """The fleet of each organisation. `default_cap`: what a new one may spend; None: as much as it likes."""

    def __init__(self, session: Session, *, default_cap: float | None = DEFAULT_EPSILON_CAP) -> None:
        self.session = session
        self.default_cap = default_cap

    def find(self, tenant_id: str) -> Fleet | None:
        """The organisation's fleet, if it has been asked for before."""
        return self.session.exec(select(Fleet).where(Fleet.tenant_id == tenant_id)).first()

    def of(self, tenant_id: str) -> Fleet:
        """The organisation's fleet, made now if there is none: the caller holds a writing session."""
        fleet = self.look(tenant_id)
        if fleet not in self.session:
            self.session.add(fleet)
            self.session.flush()
        return fleet

    def look(self, tenant_id: str) -> Fleet:
        """The organisation's fleet, or what it would be: nothing is stored."""
        return self.find(tenant_id) or Fleet(
            id=f"fleet-{uuid.uuid4()}",
            tenant_id=tenant_id,
            delta=DEFAULT_DELTA,
            epsilon_cap=self.default_cap,
        )

    def change(
        self,
        principal: Principal,
        *,
        epsilon_cap: float | None = None,
        delta: float | None = None,
        require_privacy: bool | None = None,
    ) -> Fleet:
        """What an administrator decides for their organisation.

        The cap only goes up; δ is fixed once something was spent. Raises PermissionDenied, InvalidField,
        PrivacyRefused; then nothing has changed.
        """
        if not principal.may("admin"):
            raise PermissionDenied("only an administrator of the organisation changes its privacy budget")
        fleet = self.of(principal.tenant_id)
        if epsilon_cap is not None:
            _check_cap(epsilon_cap, fleet)
        if delta is not None:
            self._check_delta(delta, fleet)
        fleet.epsilon_cap = fleet.epsilon_cap if epsilon_cap is None else float(epsilon_cap)
        fleet.delta = fleet.delta if delta is None else delta
        fleet.require_privacy = fleet.require_privacy if require_privacy is None else require_privacy
        self.session.add(fleet)
        self.session.flush()
        return fleet

    def question(self, fleet: Fleet, settings: PrivacySettings) -> dict[str, Any]:
        """What to ask the planner before a campaign is made: its cost on top of what was spent."""
        spent = [(list(kind), count) for kind, count in Ledger(self.session).of_subject(fleet.id).items()]
        return {**settings.question(fleet.delta), "spent": spent, "cap": fleet.epsilon_cap}

    def require_policy(self, fleet: Fleet, settings: PrivacySettings, devices: int) -> None:
        """Raises PrivacyRefused for rounds that the fleet's policy forbids, or whose δ would say nothing."""
        if fleet.require_privacy and not settings.differential_privacy:
            raise PrivacyRefused("the devices of this organisation only learn with differential privacy")
        if settings.differential_privacy:
            require_delta(fleet, devices)

    def draw(self, fleet: Fleet, round_id: str, device_ids: Collection[str], sample_rate: float) -> RoundDraw:
        """Toss a coin for each device, once: asked again for the same round, the answer is the same.

        Raises InvalidField. Who was drawn is for the round's own devices, and for nobody else to see.
        """
        known = self.session.get(RoundDraw, round_id)
        if known is not None:
            return known
        if not 0.0 < sample_rate < 1.0:
            raise InvalidField("sample_rate", "must be above 0 and below 1 for devices to be drawn")
        devices = sorted(set(device_ids))
        limit = int(sample_rate * 2**_BITS)
        draw = RoundDraw(
            round_id=round_id,
            fleet_id=fleet.id,
            sample_rate=sample_rate,
            devices=len(devices),
            drawn=[one for one in devices if secrets.randbits(_BITS) < limit],
        )
        self.session.add(draw)
        self.session.flush()
        return draw

    def tree(self, campaign_id: str) -> NoiseTree | None:
        """The tree that a campaign's next round grows, if it has begun: `require_turn` says who may join."""
        query = select(NoiseTree).where(
            NoiseTree.campaign_id == campaign_id, col(NoiseTree.done_at).is_(None)
        )
        return self.session.exec(query.order_by(col(NoiseTree.number).desc())).first()

    def end_tree(self, campaign_id: str) -> None:
        """No more rounds come: the seed of a tree that has not grown up is destroyed, what it cost stays."""
        if (tree := self.tree(campaign_id)) is not None:
            tree.sealed, tree.done_at = None, now()
            self.session.add(tree)
            self.session.flush()

    def history(self, fleet: Fleet, *, after: int = 0, limit: int = 100) -> list[LedgerEvent]:
        """Every release that was charged to the fleet, in the order they were written."""
        return Ledger(self.session).page(population=fleet.id, after=after, limit=limit)

    def _check_delta(self, delta: float, fleet: Fleet) -> None:
        if not 0.0 < delta <= 1e-3:
            raise InvalidField("delta", "must be above 0, and at most 0.001")
        if delta != fleet.delta and Ledger(self.session).of_subject(fleet.id):
            raise PrivacyRefused(
                f"delta is fixed once something was spent, so that it adds up: it is {fleet.delta:g}"
            )


def require_delta(fleet: Fleet, devices: int) -> None:
    """Raises PrivacyRefused where δ would allow to give one device away: it must be below 1 / devices."""
    if fleet.delta * devices >= 1.0:
        raise PrivacyRefused(
            f"the fleet's delta, {fleet.delta:g}, is not below one in its {devices} devices: an "
            "administrator sets another one before the first private round"
        )


def _check_cap(cap: float, fleet: Fleet) -> None:
    if not 0.0 < cap <= MOST_EPSILON_CAP:
        raise InvalidField("epsilon_cap", f"must be above 0, and at most {MOST_EPSILON_CAP:g}")
    if fleet.epsilon_cap is not None and cap < fleet.epsilon_cap:
        raise InvalidField("epsilon_cap", f"can only be raised: it is {fleet.epsilon_cap:g}")
