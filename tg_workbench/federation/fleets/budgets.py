"""FleetBudget: what a round costs the fleet, charged before its noise is drawn.

Order: charge (in the durable transaction in which the aggregation starts) → add up, draw, make the model →
store the model and say `released` (one transaction). When a process dies in between:

- before the charge is stored, nothing was drawn and nothing is spent;
- after it, and the updates are the same: the next worker gets the same seed, charged once. Seed and updates
  give the same bits, and no model was out before, so there is one release;
- after it, and the updates are others (a device was revoked meanwhile): the same noise on another sum could
  be subtracted, so it is another release, with another seed, and is charged again;
- after `released`, the seed is destroyed, and to charge again is refused.

Sampling counts only where the server itself tossed the coins and wrote them down (`Fleets.draw`) before.

Pitfalls: whoever has the home folder and the database between a charge and its `released` can subtract the
noise, as they can read the updates themselves.
"""

from __future__ import annotations

from sqlmodel import Session, col, select

from tg_workbench.crypto import open_sealed, seal
from tg_workbench.errors import PrivacyRefused
from tg_workbench.federation.fleets.charging import Charging, as_steps
from tg_workbench.federation.fleets.fleets import DEFAULT_EPSILON_CAP, Fleets, require_delta
from tg_workbench.federation.fleets.privacy_settings import PrivacySettings, require_affordable
from tg_workbench.federation.fleets.releases import Charged, Release, Spent
from tg_workbench.federation.fleets.tables import Fleet, RoundCharge, RoundDraw
from tg_workbench.privacy import GaussianStep, Odometer, planner
from tg_workbench.privacy.randomness import ReplayableRandom
from tg_workbench.security import Vault
from tg_workbench.storage.database import now


class FleetBudget:
    """The budget of an organisation's devices, in the transaction of `session`."""

    def __init__(
        self, session: Session, vault: Vault, *, default_cap: float | None = DEFAULT_EPSILON_CAP
    ) -> None:
        self.session = session
        self.vault = vault
        self.fleets = Fleets(session, default_cap=default_cap)
        self.charging = Charging(session)

    def plan(self, tenant_id: str, settings: PrivacySettings) -> planner.Answer:
        """What the rounds would cost on top of what was spent, and the noise for a `target_epsilon`."""
        fleet = self.fleets.look(tenant_id)
        return planner.answer(planner.Question.from_json(self.fleets.question(fleet, settings)))

    def admit(self, tenant_id: str, settings: PrivacySettings, devices: int) -> planner.Answer:
        """The plan of rounds that may begin. Raises PrivacyRefused with the reason; nothing is spent yet."""
        fleet = self.fleets.look(tenant_id)
        self.fleets.require_policy(fleet, settings, devices)
        answer = self.plan(tenant_id, settings)
        require_affordable(answer.total_epsilon, fleet.epsilon_cap, fleet.spent_epsilon)
        return answer

    def spent(self, tenant_id: str) -> Spent:
        """What the ledger says was spent on the fleet."""
        fleet = self.fleets.look(tenant_id)
        reading = Odometer(fleet.delta).epsilon(as_steps(self.charging.ledger.of_subject(fleet.id)))
        return Spent(max(reading, fleet.spent_epsilon), fleet.delta, fleet.epsilon_cap, fleet.plain_rounds)

    def require_room(self, release: Release) -> None:
        """Raise what `charge` would raise, and remember the arithmetic.

        Asked in a session of its own before, it makes `charge` quick, which holds the writing lock.
        """
        fleet = self.fleets.look(release.tenant_id)
        rate, _ = self._sampling(fleet, release)
        self.charging.cost(fleet, release, GaussianStep(release.noise_multiplier, rate))

    def charge(self, release: Release) -> Charged:
        """Pay for a round, once, and get its noise; again for the same updates, and it is the same.

        Raises BudgetExhausted and PrivacyRefused; then nothing was written.
        """
        fleet = self.fleets.of(release.tenant_id)
        rate, expected = self._sampling(fleet, release)
        held, context = self._newest(release.round_id), release.context(expected)
        if held is not None and held.released_at is not None:
            raise PrivacyRefused("this round's model is out: its noise is drawn no second time")
        if held is not None and held.context == context.hex() and held.sealed is not None:
            return self._charged(release, fleet, held, rate)
        attempt = 0 if held is None else held.attempt + 1
        step = GaussianStep(release.noise_multiplier, rate)
        cost = self.charging.cost(fleet, release, step)
        event_id = self.charging.write(fleet, release, step, cost, (release.round_id, attempt))
        if held is not None:
            held.sealed = None
            self.session.add(held)
        key = self.vault.key_for(self.session, release.tenant_id)
        row = RoundCharge(
            round_id=release.round_id,
            attempt=attempt,
            fleet_id=fleet.id,
            campaign_id=release.campaign_id,
            event_id=event_id,
            context=context.hex(),
            expected_devices=expected,
            epsilon=cost.epsilon,
            round_epsilon=cost.round_epsilon,
            fleet_epsilon=cost.fleet_epsilon,
            accountant=cost.accountant,
            key_id=key.key_id,
        )
        row.sealed = seal(key.key, ReplayableRandom.new_seed(), _belongs_to(row))
        self.session.add(row)
        self.session.flush()
        return self._charged(release, fleet, row, rate)

    def released(self, round_id: str) -> None:
        """The round's model is stored, in this transaction: the seed of its noise is destroyed."""
        held = self._newest(round_id)
        if held is None:
            raise PrivacyRefused("this round was never charged: no model may come of it")
        held.released_at = held.released_at or now()
        held.sealed = None
        self.session.add(held)
        self.session.flush()

    def given_up(self, round_id: str) -> None:
        """No model comes of the round: the seed of its noise is destroyed. What was charged stays charged."""
        held = self._newest(round_id)
        if held is not None:
            held.sealed = None
            self.session.add(held)
            self.session.flush()

    def released_plain(self, tenant_id: str) -> None:
        """A model was made of the fleet's updates without noise: what ε does not speak of is counted."""
        fleet = self.fleets.of(tenant_id)
        if fleet.require_privacy:
            raise PrivacyRefused("the devices of this organisation only learn with differential privacy")
        fleet.plain_rounds += 1
        self.session.add(fleet)
        self.session.flush()

    def _sampling(self, fleet: Fleet, release: Release) -> tuple[float, float]:
        """The rate at which the server has drawn this round's devices, and how many that are on average."""
        draw = self.session.get(RoundDraw, release.round_id)
        if draw is None:
            return 1.0, float(release.quorum)
        require_delta(fleet, draw.devices)
        if draw.fleet_id != fleet.id or not {one for one, _ in release.contributions} <= set(draw.drawn):
            raise PrivacyRefused("an update of a device that was not drawn for this round cannot be added up")
        return draw.sample_rate, draw.sample_rate * draw.devices

    def _newest(self, round_id: str) -> RoundCharge | None:
        query = select(RoundCharge).where(RoundCharge.round_id == round_id)
        return self.session.exec(query.order_by(col(RoundCharge.attempt).desc())).first()

    def _charged(self, release: Release, fleet: Fleet, row: RoundCharge, rate: float) -> Charged:
        key = self.vault.key(self.session, row.key_id)
        return Charged(
            epsilon=row.epsilon,
            round_epsilon=row.round_epsilon,
            fleet_epsilon=max(row.fleet_epsilon, fleet.spent_epsilon),  # others may have spent since
            delta=fleet.delta,
            accountant=row.accountant,
            noise_multiplier=release.noise_multiplier,
            sample_rate=rate,
            expected_devices=row.expected_devices,
            attempt=row.attempt,
            clip_norm=release.clip_norm,
            devices=release.devices,
            context=bytes.fromhex(row.context),
            seed=open_sealed(key.key, row.sealed or b"", _belongs_to(row)),
        )


def _belongs_to(row: RoundCharge) -> bytes:
    """What the seal of a seed is bound to."""
    return f"round-noise|{row.fleet_id}|{row.round_id}|{row.attempt}|{row.context}".encode()
