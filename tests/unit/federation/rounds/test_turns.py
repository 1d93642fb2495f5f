"""What ends a campaign destroys the seed of its noise, whoever ends it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlmodel import Session

from tg_workbench.errors import CampaignNotFound, PermissionDenied
from tg_workbench.federation.fleets import NoiseTree
from tg_workbench.federation.rounds import Campaign, Campaigns, Phase, Round
from tg_workbench.federation.rounds.specs import CampaignSpec, Criteria
from tg_workbench.federation.rounds.turns import advance
from tg_workbench.identity import Principal
from tg_workbench.storage import Blobs
from tg_workbench.storage.database import now

OWNER = Principal("ann", "acme", frozenset({"train"}))
SPEC = CampaignSpec(architecture="logistic", rounds=4, criteria=Criteria(min_participants=3))


@pytest.fixture
def session(session: Session) -> Session:
    """A campaign of Ann's that recruits, with a tree that has not grown up."""
    session.add(Campaign(id="camp_1", owner_id="ann", tenant_id="acme", name="x", spec=SPEC.as_json()))
    session.flush()
    session.add(Round(id="round_1", campaign_id="camp_1", tenant_id="acme", number=1, phase="recruiting"))
    session.add(
        NoiseTree(
            campaign_id="camp_1", number=0, fleet_id="f", event_id=1, steps=4, participations=1,
            separation=4, noise_multiplier=6.0, clip_norm=1.0, epsilon=1.0, round_epsilon=1.0,
            fleet_epsilon=1.0, sealed=b"seed", key_id="k",
        )
    )  # fmt: skip
    session.flush()
    return session


def tree(session: Session) -> NoiseTree:
    return session.get_one(NoiseTree, ("camp_1", 0))


def test_a_campaign_that_is_cancelled_leaves_no_seed(session: Session, tmp_path: Path) -> None:
    Campaigns(session, tmp_path, Blobs(tmp_path / "blobs")).cancel(OWNER, "camp_1")
    assert tree(session).sealed is None
    assert tree(session).done_at is not None


def test_a_campaign_that_fails_at_a_deadline_leaves_no_seed(session: Session, tmp_path: Path) -> None:
    session.get_one(Campaign, "camp_1").spec = replace(SPEC, rounds=1).as_json()
    round_ = session.get_one(Round, "round_1")
    round_.due_at = now() - 1
    assert advance(session, round_, SPEC, Blobs(tmp_path / "blobs"))
    assert round_.phase == Phase.FAILED
    assert tree(session).sealed is None


def test_a_campaign_that_tries_again_keeps_its_seed(session: Session, tmp_path: Path) -> None:
    round_ = session.get_one(Round, "round_1")
    round_.due_at = now() - 1
    assert advance(session, round_, SPEC, Blobs(tmp_path / "blobs"))
    assert round_.phase == Phase.FAILED
    assert session.get_one(Campaign, "camp_1").status == "active"
    assert tree(session).sealed == b"seed"


@pytest.mark.parametrize(
    ("somebody", "refusal"),
    [
        (Principal("bob", "acme", frozenset({"read", "train"})), PermissionDenied),
        (Principal("eve", "eves", frozenset({"train", "admin"})), CampaignNotFound),
    ],
    ids=["a member", "a stranger"],
)
def test_who_neither_owns_a_campaign_nor_administers_ends_none(
    session: Session, tmp_path: Path, somebody: Principal, refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        Campaigns(session, tmp_path, Blobs(tmp_path / "blobs")).cancel(somebody, "camp_1")
    assert session.get_one(Campaign, "camp_1").status == "active"
    assert tree(session).sealed == b"seed"


def test_an_administrator_ends_anybodys_campaign(session: Session, tmp_path: Path) -> None:
    boss = Principal("zoe", "acme", frozenset({"train", "admin"}))
    ended = Campaigns(session, tmp_path, Blobs(tmp_path / "blobs")).cancel(boss, "camp_1")
    assert ended.status == "cancelled"
