"""Which of a device's rounds was last counted in a model."""

from __future__ import annotations

import pytest
from sqlmodel import Session

from tg_workbench.federation.rounds import Campaign, Part, Participation, Phase, Round
from tg_workbench.federation.rounds.parts import last_counted

DONE, FAILED, RUNS = Phase.COMPLETED, Phase.FAILED, Phase.TRAINING


@pytest.fixture
def session(session: Session) -> Session:
    """Two campaigns of five rounds: two are completed, one has failed, one is completed, one goes on."""
    for name in ("camp_1", "camp_2"):
        session.add(Campaign(id=name, owner_id="ann", tenant_id="acme", name=name, spec={}))
        session.flush()
        for number, phase in enumerate((DONE, DONE, FAILED, DONE, RUNS), start=1):
            id_ = f"{name}_{number}"
            session.add(Round(id=id_, campaign_id=name, tenant_id="acme", number=number, phase=phase))
        session.flush()
    return session


def takes_part(
    session: Session, number: int, status: Part = Part.ACCEPTED, *, device: str = "dev_1", late: int = 0
) -> None:
    """A part in a round of the first campaign, which counts `late` rounds later."""
    counted_in = f"camp_1_{number + late}" if status == Part.ACCEPTED else None
    part = Participation(round_id=f"camp_1_{number}", device_id=device, status=status, counted_in=counted_in)
    session.add(part)
    session.flush()


def test_a_device_that_never_took_part_has_none(session: Session) -> None:
    takes_part(session, 1, device="dev_2")
    assert last_counted(session, "camp_1", "dev_1") is None


def test_it_is_the_newest_that_made_a_model(session: Session) -> None:
    for number in (2, 1, 3, 5):  # accepted for a round that failed, and for one that has no model yet
        takes_part(session, number)
    assert last_counted(session, "camp_1", "dev_1") == "camp_1_2"
    assert last_counted(session, "camp_2", "dev_1") is None


@pytest.mark.parametrize("status", [Part.REJECTED, Part.DROPPED, Part.SUBMITTED, Part.JOINED])
def test_what_was_not_accepted_does_not_count(session: Session, status: Part) -> None:
    takes_part(session, 1)
    takes_part(session, 2, status)
    assert last_counted(session, "camp_1", "dev_1") == "camp_1_1"


@pytest.mark.parametrize(
    ("number", "late", "last"), [(1, 1, "camp_1_1"), (2, 2, "camp_1_2"), (2, 1, None), (2, 3, None)]
)
def test_an_update_that_came_late_counts_if_the_round_that_took_it_does(
    session: Session, number: int, late: int, last: str | None
) -> None:
    takes_part(session, number, late=late)
    assert last_counted(session, "camp_1", "dev_1") == last
