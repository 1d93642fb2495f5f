"""Starting rounds: with privacy they are planned first, in a process of its own, and refused if too dear."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from tg_workbench.contracts.premises import Premises, premises_of
from tg_workbench.contracts.route import PRINCIPAL
from tg_workbench.federation.devices import Devices
from tg_workbench.federation.fleets import Fleets
from tg_workbench.federation.fleets.privacy_settings import require_affordable
from tg_workbench.federation.rounds import Campaign, Campaigns, CampaignSpec, Round
from tg_workbench.federation.rounds.campaigns import check
from tg_workbench.identity import Principal
from tg_workbench.training.planning import ask_planner


class StartDesk:
    """Starts campaigns for one principal, for one request."""

    def __init__(self, premises: Premises, owner: Principal) -> None:
        self.premises = premises
        self.owner = owner

    async def start(self, spec: CampaignSpec, key: str | None) -> tuple[Campaign, Round]:
        """A campaign that may begin, and its first round.

        Raises InvalidRequest, PrivacyRefused with the cost, QuotaExceeded, IdempotencyConflict.
        """
        check(spec)
        planned = await self._planned(spec)
        premises = self.premises
        with premises.database.write() as session:
            campaigns = Campaigns(
                session, premises.folder, premises.blobs, flower_python=premises.settings.flower_python
            )
            return campaigns.start(self.owner, planned, idempotency_key=key)

    async def _planned(self, spec: CampaignSpec) -> CampaignSpec:
        """The same with the noise that it needs."""
        tenant_id, settings = self.owner.tenant_id, spec.privacy
        with self.premises.database.read() as session:
            fleets = Fleets(session)
            fleet = fleets.look(tenant_id)
            fleets.require_policy(fleet, settings, Devices(session).counts(tenant_id).total)
            question = fleets.question(fleet, settings)
        if not settings.differential_privacy:
            return spec
        answer = await ask_planner(question)
        require_affordable(answer["total_epsilon"], fleet.epsilon_cap, fleet.spent_epsilon)
        return replace(
            spec,
            noise_multiplier=answer["noise_multiplier"],
            delta=fleet.delta,
            planned_epsilon=answer["epsilon"],
        )


async def _desk(request: Request) -> StartDesk:
    return StartDesk(premises_of(request), request.scope[PRINCIPAL])


TheStartDesk = Annotated[StartDesk, Depends(_desk)]
