"""Rounds, as those who follow them and the devices that take part see them."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import DeviceUnfit, RoundNotFound, RoundNotOpen
from tg_workbench.federation.devices.tables import Device
from tg_workbench.federation.fleets import Fleets
from tg_workbench.federation.rounds.campaigns import ask_for_worker
from tg_workbench.federation.rounds.phases import ACTIVE, COUNTED, Counts, Part, Phase
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.tables import Campaign, Participation, Round
from tg_workbench.federation.rounds.turns import advance, counts_of, spec_of
from tg_workbench.identity import Principal
from tg_workbench.storage import Blobs
from tg_workbench.storage.database import now
from tg_workbench.storage.statements import Statement

TIMED = (Phase.RECRUITING, Phase.TRAINING)
MOST_OFFERED = 20
_DUE = Statement(
    sa.select(col(Round.campaign_id))
    .where(
        col(Round.phase).in_([sa.literal_column(f"'{phase}'") for phase in TIMED]),
        col(Round.due_at) <= sa.bindparam("moment"),
    )
    .limit(sa.literal_column("100"))
)


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
        """Every device's part in a round, in the order they joined."""
        query = select(Participation).where(Participation.round_id == round_.id)
        return list(self.session.exec(query.order_by(col(Participation.id))))

    # ------------------------------------------------------------------------- devices
    def open_to(self, device: Device) -> list[Round]:
        """The rounds that a device has joined and not yet served, and those it may join now; oldest first."""
        joined = select(Participation.round_id).where(
            Participation.device_id == device.id, Participation.status == Part.JOINED
        )
        known = select(Participation.round_id).where(Participation.device_id == device.id)
        recruits = sa.and_(col(Round.phase) == Phase.RECRUITING, col(Round.id).not_in(known))
        query = (
            select(Round, Campaign.spec)
            .join(Campaign, col(Campaign.id) == col(Round.campaign_id))
            .where(Round.tenant_id == device.organization_id)
            .where(sa.or_(recruits, sa.and_(col(Round.id).in_(joined), col(Round.phase).in_(ACTIVE))))
            .order_by(col(Round.created_at))
            .limit(MOST_OFFERED)
        )
        return [
            round_
            for round_, spec in self.session.exec(query)
            if CampaignSpec.from_json(spec).criteria.admits(device.capabilities) is None
        ]

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
        if round_.phase != Phase.RECRUITING or (round_.due_at is not None and now() >= round_.due_at):
            raise RoundNotOpen(round_.id, round_.phase)
        if (tree := Fleets(self.session).tree(round_.campaign_id)) is not None:
            tree.require_turn(device.id)
        part = Participation(round_id=round_.id, device_id=device.id, status=Part.JOINED)
        self.session.add(part)
        advance(self.session, round_, spec, self.blobs)
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
        round_, _, _ = self.for_device(device, round_id)
        if round_.download_blob is None or round_.phase != Phase.TRAINING:
            raise RoundNotOpen(round_.id, round_.phase)
        return round_.download_blob

    def drop(self, device: Device) -> None:
        """Have a device take part in nothing any more: it was revoked, or is gone.

        What it has sent for rounds that are not over yet does not count.
        """
        query = (
            select(Participation, Round)
            .join(Round, col(Round.id) == col(Participation.round_id))
            .where(Participation.device_id == device.id, col(Participation.status).in_(COUNTED))
            .where(col(Round.phase).in_(ACTIVE))
        )
        for part, round_ in list(self.session.exec(query)):
            part.status, part.reason, part.ended_at = Part.DROPPED, "its device was revoked", now()
            self.session.add(part)
            advance(self.session, round_, spec_of(self.session, round_), self.blobs)
            campaign = self.session.get_one(Campaign, round_.campaign_id)
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
