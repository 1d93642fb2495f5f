"""What is stored of fleets: the policy of each organisation's devices, and the noise that was paid for."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tg_workbench.errors import PrivacyRefused
from tg_workbench.storage.database import now


class Fleet(SQLModel, table=True):
    """The devices of one organisation, as a population of the ledger: one δ, one cap, one ε.

    It is no dataset: nothing is uploaded to it, trained on or listed; the ledger knows it by its id.
    """

    __tablename__ = "fleets"

    id: str = Field(primary_key=True)
    tenant_id: str = Field(unique=True)
    delta: float
    epsilon_cap: float | None = None
    """None: nobody has set one."""
    require_privacy: bool = False
    """Whether rounds without differential privacy are refused."""
    spent_epsilon: float = 0.0
    plain_rounds: int = 0
    """How many models were made of its updates without noise: about those ε says nothing."""
    created_at: float = Field(default_factory=now)


class RoundDraw(SQLModel, table=True):
    """Whom the server has drawn for a round. Nobody is told."""

    __tablename__ = "round_draws"

    round_id: str = Field(primary_key=True)
    fleet_id: str
    sample_rate: float
    devices: int
    """How many there were to draw from; public."""
    drawn: list[str] = Field(sa_type=sa.JSON)
    drawn_at: float = Field(default_factory=now)


class RoundCharge(SQLModel, table=True):
    """A round's noise: charged, and from then on the same until its model is out.

    Then the seed is destroyed.
    """

    __tablename__ = "round_charges"
    __table_args__ = (sa.Index("ix_round_charges_campaign", "campaign_id"),)

    round_id: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    """Above 0: its updates changed before the model was out, and other noise was paid for."""
    fleet_id: str
    campaign_id: str
    event_id: int
    context: str
    """SHA-256 of all that the noise is added to."""
    expected_devices: float
    epsilon: float
    round_epsilon: float
    fleet_epsilon: float
    accountant: str
    sealed: bytes | None = None
    """The seed, under the tenant's key."""
    key_id: str
    charged_at: float = Field(default_factory=now)
    released_at: float | None = None


class NoiseTree(SQLModel, table=True):
    """One tree of noise: charged as a whole when it begins. Its state lies sealed until it is done."""

    __tablename__ = "noise_trees"

    campaign_id: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    fleet_id: str
    event_id: int
    steps: int
    participations: int
    separation: int
    noise_multiplier: float
    clip_norm: float
    step: int = 0
    joined: dict[str, list[int]] = Field(default_factory=dict, sa_type=sa.JSON)
    """In which of its steps each device was."""
    epsilon: float
    round_epsilon: float
    fleet_epsilon: float
    sealed: bytes | None = None
    key_id: str
    charged_at: float = Field(default_factory=now)
    done_at: float | None = None

    def has_turn(self, device_id: str) -> bool:
        """Whether a device may be in the next step."""
        joined, step = self.joined.get(device_id, []), self.step + 1
        return len(joined) < self.participations and all(step - one >= self.separation for one in joined)

    def require_turn(self, device_id: str) -> None:
        """Raises PrivacyRefused if a device may not be in the next step."""
        if not self.has_turn(device_id):
            raise PrivacyRefused(
                f"a device takes part at most {self.participations} time(s) in {self.steps} rounds, "
                f"{self.separation} rounds apart: that is what this campaign's ε is computed for"
            )
