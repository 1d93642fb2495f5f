"""What a campaign was asked to be: frozen values, checked when they are made, safe to store as JSON.

Light: the API reads them, and it never imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tg_workbench.engine.specs import Architecture
from tg_workbench.errors import InvalidField, UnknownModel
from tg_workbench.execution import WorkKind
from tg_workbench.federation.fleets.privacy_settings import PrivacySettings
from tg_workbench.federation.flower import strategy_named
from tg_workbench.federation.updates.compression import Compression
from tg_workbench.settings import Settings
from tg_workbench.training.specs import ROW_MODELS

WORK_KIND = "federation"
MOST_WORKERS = 2
MODELS = tuple(name for name in ROW_MODELS if name != "scattering")
"""What devices can learn. Scattering's features are made once per dataset, which here nobody has."""
MNIST_SHAPE, MNIST_CLASSES = (1, 28, 28), 10
"""What a model reads and answers when nobody says: the document's example names an architecture alone."""
MOST_ROUNDS = 10_000
MOST_PARTICIPANTS = 100_000
LONGEST_PHASE_SECONDS = 30 * 86_400.0


def work_kinds(settings: Settings) -> tuple[WorkKind, ...]:
    """The work that federation makes, for the dispatcher."""
    return (WorkKind(WORK_KIND, "tg_workbench.federation.rounds.worker:run", MOST_WORKERS),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """Who may take part, and how many it takes.

    A round starts with `min_participants` at the end of recruiting, or as soon as `selected` have joined; it
    ends when `target_participants` updates were accepted, or at its deadline with `quorum` of them.
    """

    min_participants: int = 2
    max_participants: int | None = None
    target_participants: int | None = None
    quorum: int | None = None
    over_selection: float = 1.0
    most_samples: int | None = None
    """For how many samples one device counts at most, however many it claims; None: `weights` decides."""
    min_memory_gb: float = 0.0
    min_cpu_cores: int = 0

    def __post_init__(self) -> None:
        _check(1 <= self.min_participants <= MOST_PARTICIPANTS, "min_participants", "from 1 to 100,000")
        most = self.max_participants
        _check(
            most is None or self.min_participants <= most <= MOST_PARTICIPANTS,
            "max_participants",
            "at least min_participants, and at most 100,000",
        )
        target = self.target_participants
        _check(
            target is None or self.min_participants <= target <= (most or MOST_PARTICIPANTS),
            "target_participants",
            "from min_participants to max_participants",
        )
        _check(self.quorum is None or 1 <= self.quorum <= self.target, "quorum", "from 1 to the target")
        _check(1.0 <= self.over_selection <= 10.0, "over_selection", "from 1 to 10")
        most_samples = self.most_samples
        _check(most_samples is None or 1 <= most_samples <= 10**9, "most_samples", "from 1 to 1,000,000,000")
        _check(0 <= self.min_memory_gb <= 1e6, "min_memory_gb", "from 0 to 1,000,000")
        _check(0 <= self.min_cpu_cores <= 1e6, "min_cpu_cores", "from 0 to 1,000,000")

    @property
    def target(self) -> int:
        """How many updates end a round."""
        return self.target_participants or self.max_participants or self.min_participants

    @property
    def selected(self) -> int:
        """How many may join: some more than the target, for some always stay away (Bonawitz et al. 2019)."""
        return min(math.ceil(self.target * self.over_selection), self.max_participants or MOST_PARTICIPANTS)

    @property
    def needed(self) -> int:
        """How few updates are enough at the deadline."""
        return self.quorum or min(self.min_participants, self.target)

    def admits(self, capabilities: Mapping[str, Any]) -> str | None:
        """What a device lacks to take part; None when it may."""
        memory, cores = capabilities.get("memory_gb") or 0, capabilities.get("cpu_cores") or 0
        if memory < self.min_memory_gb:
            return f"this round takes devices with {self.min_memory_gb:g} GB of memory or more"
        if cores < self.min_cpu_cores:
            return f"this round takes devices with {self.min_cpu_cores} CPU cores or more"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTraining:
    """What each device does with its own rows between two rounds."""

    learning_rate: float = 0.05
    batch_size: int = 32
    epochs: int = 1

    def __post_init__(self) -> None:
        _check(0 < self.learning_rate <= 100, "learning_rate", "above 0, and at most 100")
        _check(1 <= self.batch_size <= 1_000_000, "batch_size", "from 1 to 1,000,000")
        _check(1 <= self.epochs <= 1_000, "epochs", "from 1 to 1,000")


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignSpec:
    """One model, learned by devices in one round or in many."""

    architecture: str
    shape: Architecture = field(default_factory=lambda: Architecture(MNIST_SHAPE, MNIST_CLASSES))
    local: LocalTraining = field(default_factory=LocalTraining)
    criteria: Criteria = field(default_factory=Criteria)
    strategy: str = "fedavg"
    strategy_options: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 1
    recruiting_seconds: float = 600.0
    training_seconds: float = 3600.0
    compression: Compression = field(default_factory=Compression)
    secure_aggregation: bool = False
    """Devices mask what they send, and only the sum of all is ever seen."""
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    noise_multiplier: float | None = None
    delta: float | None = None
    planned_epsilon: float | None = None
    """What `privacy` came to when the campaign was admitted: of the model, after the last round."""
    seed: int = 0
    name: str | None = None

    def __post_init__(self) -> None:
        if self.architecture not in MODELS:
            raise UnknownModel(list(MODELS))
        _check(1 <= self.rounds <= MOST_ROUNDS, "rounds", "from 1 to 10,000")
        for name in ("recruiting_seconds", "training_seconds"):
            _check(0 < getattr(self, name) <= LONGEST_PHASE_SECONDS, name, "above 0, and at most 30 days")
        _check(0 <= self.seed < 2**63, "seed", "from 0 to 2^63 - 1")

    @property
    def max_staleness(self) -> int | None:
        """How many versions late an update may be where devices come when they like; None: they do not."""
        return strategy_named(self.strategy, **self.strategy_options).max_staleness

    @property
    def is_asynchronous(self) -> bool:
        """Whether a round is the filling of one buffer: devices join while it trains, and may come late."""
        return self.max_staleness is not None

    def as_json(self) -> dict[str, Any]:
        """Itself, to be stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> CampaignSpec:
        """What was stored."""
        shape = stored["shape"]
        made = Architecture(tuple(shape["input_shape"]), shape["output_size"], tuple(shape["hidden_sizes"]))
        nested = {
            "shape": made,
            "local": LocalTraining(**stored["local"]),
            "criteria": Criteria(**stored["criteria"]),
            "privacy": PrivacySettings.of(stored["privacy"]),
            "compression": Compression(**stored["compression"]),
        }
        return cls(**{**stored, **nested})


def _check(holds: bool, name: str, expected: str) -> None:
    if not holds:
        raise InvalidField(name, f"must be {expected}")
