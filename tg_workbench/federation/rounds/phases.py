"""The phases of a round, and when one follows another: pure, so that every process decides alike."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tg_workbench.federation.rounds.specs import Criteria


class Phase(StrEnum):
    """Where a round stands."""

    PREPARING = "preparing"
    RECRUITING = "recruiting"
    TRAINING = "training"
    AGGREGATING = "aggregating"
    COMPLETED = "completed"
    FAILED = "failed"


OVER = (Phase.COMPLETED, Phase.FAILED)
ACTIVE = tuple(phase for phase in Phase if phase not in OVER)


class Part(StrEnum):
    """How a device's part in a round stands."""

    JOINED = "joined"
    SUBMITTED = "submitted"
    """Its update is here, and has not been looked into."""
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    DROPPED = "dropped"
    """Its device was revoked, or it came to nothing until the round ended."""


OPEN = (Part.JOINED, Part.SUBMITTED)
"""What a part is until it is known what becomes of it."""
COUNTED = (*OPEN, Part.ACCEPTED)
"""What a part is while its device may still have a share in the model."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many devices stand where."""

    joined: int = 0
    submitted: int = 0
    accepted: int = 0
    rejected: int = 0
    dropped: int = 0

    @property
    def members(self) -> int:
        """Those who take part, whatever became of their update."""
        return self.joined + self.submitted + self.accepted + self.rejected


@dataclass(frozen=True, slots=True)
class Turn:
    """What comes next, and why when it is the end."""

    phase: Phase
    reason: str | None = None


def next_turn(
    phase: Phase, criteria: Criteria, counts: Counts, *, is_due: bool, is_open: bool = False
) -> Turn | None:
    """What follows `phase` now; None when nothing does. `is_due`: its deadline has passed.

    `is_open`: devices may still come while it trains. Nobody waits for the dead: at a deadline a round goes
    on with those who are there, or fails.
    """
    match phase:
        case Phase.RECRUITING:
            return _after_recruiting(criteria, counts, is_due=is_due)
        case Phase.TRAINING:
            return _after_training(criteria, counts, goes_on=not is_due and (is_open or counts.joined > 0))
        case _:
            return None


def _after_recruiting(criteria: Criteria, counts: Counts, *, is_due: bool) -> Turn | None:
    if counts.members >= criteria.selected:
        return Turn(Phase.TRAINING)
    if not is_due:
        return None
    if counts.members >= criteria.min_participants:
        return Turn(Phase.TRAINING)
    asked = criteria.min_participants
    return Turn(Phase.FAILED, f"{counts.members} of at least {asked} devices had joined at the deadline")


def _after_training(criteria: Criteria, counts: Counts, *, goes_on: bool) -> Turn | None:
    if counts.accepted >= criteria.target:
        return Turn(Phase.AGGREGATING)
    if counts.submitted or goes_on:
        return None  # what has arrived in time is looked into first
    if counts.accepted >= criteria.needed:
        return Turn(Phase.AGGREGATING)
    told = f"{counts.accepted} updates were accepted, and {criteria.needed} are needed"
    return Turn(Phase.FAILED, f"{told}: {counts.rejected} were rejected, {counts.joined} never came")
