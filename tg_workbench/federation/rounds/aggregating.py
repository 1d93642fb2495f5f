"""Aggregating: the updates that were accepted become the campaign's next model.

Whatever is interrupted is done again from what is stored, and comes to the same model to the last bit: which
updates are in it was settled when they were accepted, they are added in the order of device ids, and how
stale each is follows from versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqlmodel import Session

from tg_workbench.errors import SecureAggregationRefused, SharesUnfit, TooFewUpdates
from tg_workbench.execution import Fence
from tg_workbench.federation.rounds.exchange import Exchange
from tg_workbench.federation.rounds.global_models import GlobalModel, GlobalModels, KeptModel
from tg_workbench.federation.rounds.harvests import figures_of, harvest
from tg_workbench.federation.rounds.judging import reject
from tg_workbench.federation.rounds.keys import RoundKeys
from tg_workbench.federation.rounds.lateness import Lateness
from tg_workbench.federation.rounds.masking import encoding_of
from tg_workbench.federation.rounds.opening import UNUSABLE, Opening
from tg_workbench.federation.rounds.parts import accepted_in, parts_in
from tg_workbench.federation.rounds.phases import Part, Phase, Turn
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.summing import Masked, Summed, Summing
from tg_workbench.federation.rounds.tables import Campaign, Participation, Round
from tg_workbench.federation.rounds.turns import end_campaign, end_round, fail_round, new_round, tell
from tg_workbench.federation.rounds.unmasking import unmasked
from tg_workbench.federation.rounds.weights import weights_of
from tg_workbench.federation.strategies import Update
from tg_workbench.models import Learned, Models
from tg_workbench.storage import Blobs, Database, LeftBlobs

if TYPE_CHECKING:
    from tg_workbench.federation.updates.secure_aggregation.masks import Words


class Aggregating:
    """Makes models out of updates, for one worker."""

    def __init__(self, database: Database, blobs: Blobs, home: Path, fence: Fence) -> None:
        self.database = database
        self.blobs = blobs
        self.home = home
        self.fence = fence
        self.models = GlobalModels(blobs, home, partial(LeftBlobs.announce, database, blobs, hold=fence.hold))
        self.summing = Summing(database, blobs, home, fence)

    def aggregate(self, campaign: Campaign, round_: Round, spec: CampaignSpec) -> None:
        """Make the next model. Who is dropped meanwhile does not count: then it begins anew."""
        with self.database.read() as session:
            parts = accepted_in(session, round_)
            base = self.models.read(session, campaign)
            buffer = self._buffer(session, round_, parts, spec)
        if len(parts) < spec.criteria.needed:
            self._fail(round_, f"{len(parts)} updates are left, and {spec.criteria.needed} are needed")
            return
        try:
            summed = self._summed(campaign, round_, base, parts, buffer)
        except _Spoiled as spoiled:
            self._leave_out(spoiled.part, round_, spoiled.reason)
            return
        except (SecureAggregationRefused, TooFewUpdates) as refused:  # nothing came of it: another round may
            self._fail(round_, str(refused), refused.device_id if isinstance(refused, SharesUnfit) else None)
            return
        made = base.followed_by(summed.outcome)
        tells = summed.release is None and not spec.secure_aggregation
        figures = figures_of(parts, buffer.weights if tells else None, summed.outcome, base)
        is_last = campaign.rounds_done + 1 == spec.rounds
        learned = harvest(campaign, made, spec, summed.privacy) if is_last else None
        kept = self.models.put(self.database, campaign, made)
        with self.database.write(durable=True) as session:
            self.fence.hold(session)
            round_, campaign = session.get_one(Round, round_.id), session.get_one(Campaign, campaign.id)
            same = [part.device_id for part in accepted_in(session, round_)] == [p.device_id for p in parts]
            if round_.phase != Phase.AGGREGATING or not same:
                LeftBlobs(session, self.blobs).forget(kept.blobs)
                return
            self.summing.write(session, campaign, round_, summed)
            round_.figures = figures
            self._publish(session, campaign, round_, made, kept)
            self._go_on(session, campaign, spec, learned)
            self.fence.forgive(session)

    def give_up(self, session: Session, round_: Round) -> None:
        """No model comes of a round: see `Summing`."""
        self.summing.give_up(session, round_)

    def _buffer(
        self, session: Session, round_: Round, parts: list[Participation], spec: CampaignSpec
    ) -> _Buffer:
        """What opens these parts: some may have joined rounds before this one, and have their keys."""
        openings = {}
        for round_id in {round_.id, *(part.round_id for part in parts)}:
            joined = session.get_one(Round, round_id)
            keys = RoundKeys.of(session, self.home, joined)
            openings[round_id] = Opening(self.database, self.blobs, joined, keys, spec)
        weights = weights_of({part.device_id: part.sample_count or 0 for part in parts}, spec.criteria)
        return _Buffer(openings, weights, round_.base_version)

    def _summed(
        self,
        campaign: Campaign,
        round_: Round,
        base: GlobalModel,
        parts: list[Participation],
        buffer: _Buffer,
    ) -> Summed:
        """What the parts come to. Raises _Spoiled and what `Summing` and `unmasked` do."""
        spec = CampaignSpec.from_json(campaign.spec)
        if not spec.secure_aggregation:
            return self.summing.of(campaign, round_, base, parts, buffer.update)
        vectors = map(buffer.words, parts)
        with self.database.read() as session:
            exchange = Exchange(session, session.get_one(Round, round_.id))
            encoding = encoding_of(spec, exchange.devices)
            total = unmasked(exchange, base.layout.size + 1, vectors)  # nobody can be left out any more
        return self.summing.of_masked(campaign, round_, base, parts, Masked(total, encoding))

    def _leave_out(self, part: Participation, round_: Round, reason: str) -> None:
        """Have the others be summed without an update that was good once. No device stops a round."""
        with self.database.write(durable=True) as session:
            self.fence.hold(session)
            part = session.get_one(Participation, part.id)
            if part.status != Part.ACCEPTED:
                return
            reject(session, part, reason, self.blobs)
            tell(session, session.get_one(Round, round_.id))

    def _fail(self, round_: Round, reason: str, guilty: str | None = None) -> None:
        """Too few are left, or one is guilty: it takes no part when this is tried again, see `Rounds`."""
        with self.database.write(durable=True) as session:
            self.fence.hold(session)
            round_ = session.get_one(Round, round_.id)
            for part in parts_in(session, round_):
                if part.device_id == guilty:
                    reject(session, part, reason, self.blobs)
            self.summing.give_up(session, round_)
            fail_round(session, round_, reason, self.blobs)
            self.fence.forgive(session)

    def _publish(
        self, session: Session, campaign: Campaign, round_: Round, made: GlobalModel, kept: KeptModel
    ) -> None:
        """Have the campaign's model be the new one, and the round be over."""
        LeftBlobs(session, self.blobs).named(kept.blobs)
        old = tuple(blob for blob in (campaign.model_blob, campaign.state_blob) if blob)
        campaign.model_blob, campaign.state_blob, campaign.key_id = (
            kept.model_blob,
            kept.state_blob,
            kept.key_id,
        )
        campaign.model_version, campaign.model_digest = made.version, made.digest
        campaign.rounds_done += 1
        session.add(campaign)
        LeftBlobs(session, self.blobs).forget(old)
        round_.result_version, round_.result_digest = made.version, made.digest
        end_round(session, round_, Turn(Phase.COMPLETED), self.blobs)

    def _go_on(
        self, session: Session, campaign: Campaign, spec: CampaignSpec, learned: Learned | None
    ) -> None:
        """The next round; or the end, where something was learned."""
        if learned is not None:
            campaign.model_id = Models(session, self.blobs, self.home).register(learned).id
            end_campaign(session, campaign, "completed", self.blobs)
            return
        if spec.max_staleness is not None:
            Lateness(session, campaign, self.blobs).expire(spec.max_staleness)
        new_round(session, campaign)


class _Buffer:
    """Opens the updates that go into one model."""

    def __init__(self, openings: Mapping[str, Opening], weights: Mapping[str, float], version: int) -> None:
        self.openings = openings
        self.weights = weights
        self.version = version

    def update(self, part: Participation) -> Update:
        """An update that was accepted. Raises _Spoiled for one that cannot be opened any more."""
        with _spoiling(part):
            return self.openings[part.round_id].update(part, self.weights[part.device_id], self.version)

    def words(self, part: Participation) -> tuple[str, Words]:
        """The same of one under masks."""
        with _spoiling(part):
            return self.openings[part.round_id].words(part)


class _Spoiled(Exception):
    """An update that was accepted cannot be opened any more."""

    def __init__(self, part: Participation, reason: str) -> None:
        super().__init__(reason)
        self.part = part
        self.reason = reason


@contextmanager
def _spoiling(part: Participation) -> Iterator[None]:
    try:
        yield
    except UNUSABLE as failure:
        raise _Spoiled(part, str(failure)) from failure
