"""Rounds as devices are offered them, and a campaign's rounds page by page."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlmodel import Session, select

from tg_workbench.execution.tables import Work
from tg_workbench.federation.devices import Device
from tg_workbench.federation.rounds import Campaign, Campaigns, Part, Participation, Phase, Round, Rounds
from tg_workbench.federation.rounds.specs import CampaignSpec, Criteria
from tg_workbench.storage import Blobs

REST = {"update_interval": 60.0, "key_version": "v1.0", "certificate_expires_at": 0.0, "token_id": "enr_1"}


def campaign(session: Session, name: str, cores: int = 0, rounds: int = 1) -> Campaign:
    spec = CampaignSpec(
        architecture="logistic", rounds=rounds, criteria=Criteria(min_participants=2, min_cpu_cores=cores)
    )
    made = Campaign(id=name, owner_id="ann", tenant_id="acme", name=name, spec=spec.as_json())
    session.add(made)
    session.flush()
    for number in range(1, rounds + 1):
        phase = "recruiting" if number == rounds else "completed"
        round_ = Round(
            id=f"round_{name}_{number}", campaign_id=name, tenant_id="acme", number=number, phase=phase
        )
        round_.created_at = float(number)
        session.add(round_)
    session.flush()
    return made


def enrolled() -> Device:
    of_it = {"organization_id": "acme", "capabilities": {"cpu_cores": 4}}
    return Device.model_validate({"id": "dev_1", "name": "x", "kind": "x", "config": {}, **REST, **of_it})


def test_a_device_is_offered_the_rounds_it_is_fit_for_in_one_query(session: Session, tmp_path: Path) -> None:
    for number in range(5):
        campaign(session, f"camp_{number}", cores=8 if number == 3 else 0)
    device = enrolled()
    asked: list[str] = []
    session.expire_all()
    sa.event.listen(session.get_bind(), "before_cursor_execute", lambda *told: asked.append(told[2]))
    offered = Rounds(session, tmp_path, Blobs(tmp_path / "blobs")).open_to(device)
    assert [offer.round_.campaign_id for offer in offered] == ["camp_0", "camp_1", "camp_2", "camp_4"]
    assert len(asked) == 1


def test_a_campaigns_rounds_come_page_by_page_the_newest_first_page_in_order(
    session: Session, tmp_path: Path
) -> None:
    one = campaign(session, "camp_1", rounds=9)
    campaigns = Campaigns(session, tmp_path, Blobs(tmp_path / "blobs"))
    for offset, numbers in ((0, [6, 7, 8, 9]), (4, [2, 3, 4, 5]), (8, [1]), (9, [])):
        page, total = campaigns.list_rounds(one, limit=4, offset=offset)
        assert ([round_.number for round_ in page], total) == (numbers, 9)


def test_who_joins_as_the_deadline_comes_leaves_what_follows_to_a_worker(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign(session, "camp_1", rounds=2)
    device = enrolled()
    round_ = session.get_one(Round, "round_camp_1_2")
    clock = count(start=1000, step=1)
    monkeypatch.setattr("tg_workbench.storage.database.time.time", lambda: float(next(clock)))
    round_.due_at = 1000.5  # it is looked at once before, and once after
    rounds = Rounds(session, tmp_path, Blobs(tmp_path / "blobs"))
    _, part = rounds.join(device, round_.id)
    assert (round_.phase, part.status) == (Phase.FAILED, Part.DROPPED)
    found = select(Round.phase).where(Round.campaign_id == "camp_1", Round.number == 3)
    assert session.exec(found).one() == Phase.PREPARING
    assert session.get_one(Work, "camp_1").wanted


def test_a_round_is_not_offered_to_who_has_joined_it_and_can_do_nothing_for_it(
    session: Session, tmp_path: Path
) -> None:
    campaign(session, "camp_1")
    round_, device = session.get_one(Round, "round_camp_1_1"), enrolled()
    session.add(device)
    session.flush()
    session.add(Participation(round_id=round_.id, device_id=device.id, status=Part.JOINED))
    rounds = Rounds(session, tmp_path, Blobs(tmp_path / "blobs"))
    for phase, is_offered in (("recruiting", True), ("training", True), ("aggregating", False)):
        round_.phase = phase
        session.flush()
        assert (round_ in [offer.round_ for offer in rounds.open_to(device)]) == is_offered
