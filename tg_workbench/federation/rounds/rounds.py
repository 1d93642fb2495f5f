"""Rounds, as those who follow them and the devices that take part see them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import DeviceUnfit, RoundNotFound, RoundNotOpen
from tg_workbench.federation.devices.tables import Device
from tg_workbench.federation.fleets import Fleets
from tg_workbench.federation.rounds.campaigns import ask_for_worker
from tg_workbench.federation.rounds.lateness import Lateness, drop, is_served, why_not
from tg_workbench.federation.rounds.parts import counts_of, parts_in, where_it_counts
from tg_workbench.federation.rounds.phases import ACTIVE, COUNTED, OPEN, Counts, Part, Phase
from tg_workbench.federation.rounds.places import places_taken
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.tables import Campaign, Participation, Round, UpdateUpload
from tg_workbench.federation.rounds.turns import advance, spec_of
from tg_workbench.federation.rounds.unfinished import forget_unfinished
from tg_workbench.identity import Principal
from tg_workbench.storage import Blobs
from tg_workbench.storage.database import now
from tg_workbench.storage.statements import Statement

TIMED = (Phase.RECRUITING, Phase.TRAINING)
MOST_OFFERED, MOST_LOOKED_AT = 20, 100
_DUE = Statement(
    sa.select(col(Round.campaign_id))
    .where(
        col(Round.phase).in_([sa.literal_column(f"'{phase}'") for phase in TIMED]),
        col(Round.due_at) <= sa.bindparam("moment"),
    )
    .limit(sa.literal_column("100"))
)


@dataclass(frozen=True, slots=True)
class Offer:
    """A round that a device may join or serve, and what its campaign was asked to be."""

    round_: Round
    spec: CampaignSpec


class Rounds:
    """The rounds of a workbench."""

    def __init__(self, session: Session, folder: Path, blobs: Blobs) -> None:
        self.session = session
        self.folder = folder
        self.blobs = blobs

    def get(self, owner: Principal, round_id: str) -> Round:
        """The round. Raises RoundNotFound, also when it is another organisation's."""
        return self._of(owner.tenant_id, round_id)

    def list_page(
        self, owner: Principal, *, limit: int = 20, offset: int = 0, active: bool | None = None
    ) -> tuple[list[Round], int]:
        """The organisation's rounds, the newest first, and how many there are."""
        ours = [col(Round.tenant_id) == owner.tenant_id]
        if active is not None:
            ours.append(col(Round.phase).in_(ACTIVE) if active else col(Round.phase).not_in(ACTIVE))
        total = self.session.exec(select(sa.func.count()).select_from(Round).where(*ours)).one()
        newest = (col(Round.created_at).desc(), col(Round.id))
        query = select(Round).where(*ours).order_by(*newest).limit(limit).offset(offset)
        return list(self.session.exec(query)), total

    def counts(self, rounds: list[Round]) -> dict[str, Counts]:
        """How many devices stand where, by round."""
        return counts_of(self.session, [round_.id for round_ in rounds])

    def campaigns(self, rounds: list[Round]) -> dict[str, Campaign]:
        """The campaigns that rounds belong to, by their ids."""
        ids = {round_.campaign_id for round_ in rounds}
        found = self.session.exec(select(Campaign).where(col(Campaign.id).in_(ids)))
        return {campaign.id: campaign for campaign in found}

    def participations(self, round_: Round) -> list[Participation]:
        """Every part that counts in a round, in the order they joined: each is in one round."""
        return parts_in(self.session, round_)

    # ------------------------------------------------------------------------- devices
    def open_to(self, device: Device) -> list[Offer]:
        """The rounds that a device has joined and can still serve, and those it may join now, by age."""
        joined = select(Participation.round_id).where(
            Participation.device_id == device.id, Participation.status == Part.JOINED
        )
        known = select(Participation.round_id).where(Participation.device_id == device.id)
        may_take = sa.and_(col(Round.phase).in_(TIMED), col(Round.id).not_in(known))
        query = (
            select(Round, Campaign.spec, col(Round.id).in_(joined))
            .join(Campaign, col(Campaign.id) == col(Round.campaign_id))
            .where(Round.tenant_id == device.organization_id)
            .where(sa.or_(may_take, col(Round.id).in_(joined)))
            .order_by(col(Round.created_at))
            .limit(MOST_LOOKED_AT)
        )
        return [
            Offer(round_, spec)
            for round_, told, is_mine in self.session.exec(query)
            if (spec := CampaignSpec.from_json(told)).criteria.admits(device.capabilities) is None
            and (_may_be_served(round_, spec) if is_mine else self._may_join(device, round_, spec))
        ][:MOST_OFFERED]

    def join(self, device: Device, round_id: str) -> tuple[Round, Participation]:
        """Have a device take part. Joining twice is joining once; whoever takes part may always ask again.

        Raises RoundNotFound, DeviceUnfit, RoundNotOpen, and PrivacyRefused when its turn has not come again.
        """
        round_ = self._of(device.organization_id, round_id)
        known = self.part_of(device, round_)
        if known is not None:
            return round_, known
        spec = spec_of(self.session, round_)
        if (lacks := spec.criteria.admits(device.capabilities)) is not None:
            raise DeviceUnfit(lacks)
        if not _takes_devices(round_, spec):
            raise RoundNotOpen(round_.id, round_.phase)
        if (reason := self._why_not(device, round_, spec)) is not None:
            raise RoundNotOpen(round_.id, round_.phase, reason)
        if (tree := Fleets(self.session).tree(round_.campaign_id)) is not None:
            tree.require_turn(device.id)
        part = Participation(round_id=round_.id, device_id=device.id, status=Part.JOINED)
        self.session.add(part)
        if round_.phase == Phase.TRAINING:
            device.current_round_id, device.current_round = round_.id, round_.number
            self.session.add(device)
        if advance(self.session, round_, spec, self.blobs) and round_.phase not in TIMED:
            # its deadline has come since it was looked at: what follows is for a worker
            ask_for_worker(self.session, self.folder, self.session.get_one(Campaign, round_.campaign_id))
        return round_, part

    def part_of(self, device: Device, round_: Round) -> Participation | None:
        """A device's part in a round, if it takes part."""
        query = select(Participation).where(
            Participation.round_id == round_.id, Participation.device_id == device.id
        )
        return self.session.exec(query).first()

    def for_device(self, device: Device, round_id: str) -> tuple[Round, CampaignSpec, Participation]:
        """A round that a device takes part in. Raises RoundNotFound."""
        round_ = self._of(device.organization_id, round_id)
        part = self.part_of(device, round_)
        if part is None:
            raise RoundNotFound
        return round_, spec_of(self.session, round_), part

    def download_of(self, device: Device, round_id: str) -> str:
        """The blob of the model that a round starts from. Raises RoundNotFound, RoundNotOpen."""
        round_, spec, part = self.for_device(device, round_id)
        if part.status == Part.DROPPED:
            raise RoundNotOpen(round_.id, round_.phase, part.reason)
        if round_.download_blob is None or not is_served(round_, spec):
            raise RoundNotOpen(round_.id, round_.phase)
        return round_.download_blob

    def drop(self, device: Device) -> None:
        """Have a device take part in nothing any more: it was revoked, or is gone.

        What it has sent for models that are not made yet does not count.
        """
        forget_unfinished(self.session, self.blobs, col(UpdateUpload.device_id) == device.id)
        query = (
            select(Participation, Round)
            .join(Round, col(Round.id) == where_it_counts())
            .where(Participation.device_id == device.id, col(Participation.status).in_(COUNTED))
            .where(sa.or_(col(Round.phase).in_(ACTIVE), col(Participation.status).in_(OPEN)))
        )
        for part, round_ in list(self.session.exec(query)):
            drop(self.session, part, "its device was revoked", self.blobs)
            campaign = self.session.get_one(Campaign, round_.campaign_id)
            joined = self.session.get_one(Round, part.round_id)
            if joined.phase == Phase.COMPLETED:
                Lateness(self.session, campaign, self.blobs).tidy(joined)
            if round_.phase in ACTIVE:
                advance(self.session, round_, spec_of(self.session, round_), self.blobs)
            ask_for_worker(self.session, self.folder, campaign)

    def is_due(self) -> bool:
        """Whether any phase has come to its deadline."""
        return _DUE.first(self.session, moment=now()) is not None

    def wake_due(self) -> int:
        """Ask for a worker where a phase has come to its deadline; how many rounds that were."""
        found = {row[0] for row in _DUE.rows(self.session, moment=now())}
        for campaign_id in found:
            ask_for_worker(self.session, self.folder, self.session.get_one(Campaign, campaign_id))
        return len(found)

    def _may_join(self, device: Device, round_: Round, spec: CampaignSpec) -> bool:
        if not _takes_devices(round_, spec) or self._why_not(device, round_, spec) is not None:
            return False
        if spec.privacy.mechanism != "dp_ftrl":
            return True
        tree = Fleets(self.session).tree(round_.campaign_id)
        return tree is None or tree.has_turn(device.id)

    def _why_not(self, device: Device, round_: Round, spec: CampaignSpec) -> str | None:
        """Why a device may not join a round that takes devices; None: it may.

        Where devices come while it trains, one whose update came to nothing, or that gives no sign of life,
        leaves its place to another.
        """
        if spec.secure_aggregation and (number := self._spoilt_by(device, round_)) is not None:
            return f"round {number} of this campaign came to nothing by what this device had sealed"
        if not spec.is_asynchronous:
            return None
        most = spec.criteria.max_participants
        if most is not None and places_taken(self.session, round_) >= most:
            return f"{most} devices take part in this round, and no more may"
        return why_not(self.session, device, round_)

    def _spoilt_by(self, device: Device, round_: Round) -> int | None:
        """The number of a round of the same campaign that failed by what a device had sealed; None: none did.

        A vector of its was taken, and is rejected all the same. Who was left out before may not be to blame.
        """
        query = (
            select(Round.number)
            .join(Participation, col(Participation.round_id) == col(Round.id))
            .where(Round.campaign_id == round_.campaign_id, Round.phase == Phase.FAILED)
            .where(Participation.device_id == device.id, Participation.status == Part.REJECTED)
            .where(col(Participation.digest).is_not(None))
        )
        return self.session.exec(query.limit(1)).first()

    def _of(self, tenant_id: str, round_id: str) -> Round:
        round_ = self.session.get(Round, round_id)
        if round_ is None or round_.tenant_id != tenant_id:
            raise RoundNotFound
        return round_


def count_active(session: Session, tenant_id: str | None) -> int:
    """How many rounds of an organisation, or of all of them, are under way."""
    active: list[sa.ColumnElement[bool]] = [col(Round.phase).in_(ACTIVE)]
    if tenant_id is not None:
        active.append(col(Round.tenant_id) == tenant_id)
    return session.exec(select(sa.func.count()).select_from(Round).where(*active)).one()


def _may_be_served(round_: Round, spec: CampaignSpec) -> bool:
    """Whether there is anything to be done for a round, now or later, by a device that has joined it."""
    return round_.phase == Phase.RECRUITING or is_served(round_, spec)


def _takes_devices(round_: Round, spec: CampaignSpec) -> bool:
    if round_.phase != Phase.RECRUITING and not (spec.is_asynchronous and round_.phase == Phase.TRAINING):
        return False
    return round_.due_at is None or now() < round_.due_at
