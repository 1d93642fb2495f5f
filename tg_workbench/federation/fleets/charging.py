"""Charging: one noisy release, held against every cap it falls under, and written down.

A release counts for every device of the fleet, and for the model of its campaign, which may have a target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlmodel import Session

from tg_workbench.datasets import Charge, Kind, Ledger
from tg_workbench.errors import BudgetExhausted
from tg_workbench.federation.fleets.releases import Release
from tg_workbench.federation.fleets.tables import Fleet
from tg_workbench.privacy import GaussianStep, Odometer
from tg_workbench.storage.database import is_durable

SLACK = 1e-9  # float noise in a comparison of two readings of the same accountant


@dataclass(frozen=True, slots=True)
class Cost:
    """What ε is after a release, and by how much that of the campaign rose."""

    epsilon: float
    round_epsilon: float
    fleet_epsilon: float
    accountant: str


class Charging:
    """Reads what was spent and writes what will be, in the transaction of `session`."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.ledger = Ledger(session)

    def cost(self, fleet: Fleet, release: Release, step: GaussianStep) -> Cost:
        """What ε will be after one such step. Raises BudgetExhausted."""
        of_campaign, of_fleet = Odometer(fleet.delta), Odometer(fleet.delta)
        before = as_steps(self.ledger.of_subject(release.campaign_id))
        earlier = of_campaign.epsilon(before)
        after = _after(of_campaign, before, step)
        accountant = of_campaign.name
        after = _within(of_campaign, before, step, after, release.target_epsilon, of="campaign")
        spent = as_steps(self.ledger.of_subject(fleet.id))
        total = _after(of_fleet, spent, step)
        total = _within(of_fleet, spent, step, total, fleet.epsilon_cap, of="fleet of devices")
        return Cost(
            max(after, earlier), max(0.0, after - earlier), max(total, fleet.spent_epsilon), accountant
        )

    def write(
        self, fleet: Fleet, release: Release, step: GaussianStep, cost: Cost, operation: tuple[str, int]
    ) -> int:
        """Write the release into the ledger and return its event's id.

        `operation` says what it is for, and which try. The transaction must be durable: a power cut must not
        forget what was revealed.
        """
        if not is_durable(self.session):
            raise RuntimeError("a charge is written in a transaction of Database.write(durable=True)")
        fleet.spent_epsilon = max(fleet.spent_epsilon, cost.fleet_epsilon)
        self.session.add(fleet)
        self.session.flush()
        charge = Charge(
            dataset_id=fleet.id,
            client_id=release.campaign_id,
            tenant_id=release.tenant_id,
            actor=release.actor,
            operation_id=operation[0],
            attempt=operation[1],
            ordinal=0,
            mode="sampled" if step.sample_rate < 1.0 else "unsampled",
            noise_multiplier=step.noise_multiplier,
            sample_rate=step.sample_rate,
            max_grad_norm=release.clip_norm,
            step=release.number,
            epsilon_after=cost.epsilon,
        )
        return self.ledger.append(charge, fleet.id)


def as_steps(counts: Mapping[Kind, int]) -> dict[GaussianStep, int]:
    """The ledger's counts, as the accountant takes them."""
    return {GaussianStep(*kind): count for kind, count in counts.items()}


def _after(odometer: Odometer, before: Mapping[GaussianStep, int], step: GaussianStep) -> float:
    return odometer.epsilon({**before, step: before.get(step, 0) + 1})


def _within(
    odometer: Odometer,
    before: Mapping[GaussianStep, int],
    step: GaussianStep,
    after: float,
    cap: float | None,
    of: str,
) -> float:
    """`after`, if it is within the cap: a live reading rounds up, so exact counts decide."""
    if cap is None or after <= cap + SLACK:
        return after
    if odometer.steps_left(before, step, cap) < 1:
        spent = odometer.epsilon(before)
        raise BudgetExhausted(spent=spent, target=cap, next_epsilon=after, of=of)
    return cap
