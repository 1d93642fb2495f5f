"""The privacy budget of an organisation's devices: what its rounds have spent, and what they may spend."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from tg_workbench.contracts.providers import After, DevicesRoom, FleetsRoom, Limit, SignedIn
from tg_workbench.contracts.route import FAILURES, needs
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.tg_tinker.schemas import ExactForm
from tg_workbench.contracts.tg_tinker.views import View, iso
from tg_workbench.datasets import LedgerEvent
from tg_workbench.federation.fleets import Fleet
from tg_workbench.federation.fleets.privacy_settings import UNIT

router = APIRouter(
    prefix="/workbench/v1/federation/budget",
    route_class=WorkbenchRoute,
    tags=["Federation"],
    responses=FAILURES,
)


class FleetView(View):
    """One δ, one cap and one ε for all rounds of the organisation; ε says nothing of `plain_rounds`."""

    unit: str
    devices: int
    delta: float
    epsilon_cap: float | None
    spent_epsilon: float
    plain_rounds: int
    require_privacy: bool

    @classmethod
    def of(cls, fleet: Fleet, devices: int) -> FleetView:
        """A row, as it is shown."""
        return cls(
            unit=UNIT,
            devices=devices,
            delta=fleet.delta,
            epsilon_cap=fleet.epsilon_cap,
            spent_epsilon=fleet.spent_epsilon,
            plain_rounds=fleet.plain_rounds,
            require_privacy=fleet.require_privacy,
        )


class ChangeFleet(ExactForm):
    """What is given changes. The cap only goes up; δ is fixed once something was spent."""

    epsilon_cap: Annotated[float, Field(gt=0, le=1000)] | None = None
    delta: Annotated[float, Field(gt=0, le=1e-3)] | None = None
    require_privacy: bool | None = None


class ReleaseView(View):
    """A noisy release: a round's, or that of a tree of rounds, with what the fleet had spent after it."""

    id: int
    campaign_id: str
    mode: str
    noise_multiplier: float
    clip_norm: float
    round_number: int
    epsilon_after: float
    at: str

    @classmethod
    def of(cls, event: LedgerEvent) -> ReleaseView:
        """An event of the ledger."""
        return cls(
            id=event.id or 0,
            campaign_id=event.client_id,
            mode=event.mode,
            noise_multiplier=event.noise_multiplier,
            clip_norm=event.max_grad_norm,
            round_number=event.step,
            epsilon_after=event.epsilon_after,
            at=iso(event.at),
        )


class FleetLedger(View):
    """Releases, in the order they were charged."""

    releases: list[ReleaseView]


@router.get("")
async def read_fleet_budget(owner: SignedIn, fleets: FleetsRoom, devices: DevicesRoom) -> FleetView:
    """What the rounds of your organisation's devices have spent, and what they may spend."""
    return FleetView.of(fleets.look(owner.tenant_id), devices.counts(owner.tenant_id).total)


@router.put("")
@needs("admin")
async def change_fleet_budget(
    body: ChangeFleet, owner: SignedIn, fleets: FleetsRoom, devices: DevicesRoom
) -> FleetView:
    """Decide what the rounds of your organisation's devices may spend."""
    changed = fleets.change(owner, **body.model_dump())
    return FleetView.of(changed, devices.counts(owner.tenant_id).total)


@router.get("/ledger")
async def read_fleet_ledger(
    owner: SignedIn, fleets: FleetsRoom, after: After = 0, limit: Limit = 100
) -> FleetLedger:
    """Every noisy release of the fleet's rounds, in the order they were charged."""
    events = fleets.history(fleets.look(owner.tenant_id), after=after, limit=limit)
    return FleetLedger(releases=[ReleaseView.of(event) for event in events])
