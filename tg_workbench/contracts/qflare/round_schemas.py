"""QFLARE's bodies and answers about rounds. `model_config` is a word of pydantic's own, hence the alias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tg_workbench.contracts.accounts import utc
from tg_workbench.contracts.tg_tinker.schemas import ExactForm, Whole
from tg_workbench.engine.specs import Architecture
from tg_workbench.federation.fleets.privacy_settings import NO_GUARANTEE, PrivacySettings
from tg_workbench.federation.rounds import (
    Campaign,
    CampaignSpec,
    Counts,
    Criteria,
    LocalTraining,
    Participation,
    Phase,
    Round,
)
from tg_workbench.federation.rounds.masking import clipping_of
from tg_workbench.federation.rounds.phases import OVER
from tg_workbench.federation.rounds.specs import MNIST_CLASSES, MNIST_SHAPE
from tg_workbench.federation.rounds.turns import newest_version, version_name
from tg_workbench.federation.updates.compression import Compression

LOCAL, CRITERIA, KEPT = LocalTraining(), Criteria(), Compression()
USUAL = CampaignSpec(architecture="cnn")
"""What is not said is as it is here."""
Status = Literal["in_progress", "completed", "failed"]


class Hyperparameters(ExactForm):
    """How each device learns between two rounds, by plain SGD."""

    learning_rate: float = LOCAL.learning_rate
    batch_size: Whole = LOCAL.batch_size
    epochs: Whole = LOCAL.epochs


class RoundModel(ExactForm):
    """What is learned. The shape is MNIST's unless another is given."""

    architecture: Annotated[str, Field(min_length=1, max_length=100)]
    hyperparameters: Hyperparameters = Hyperparameters()
    input_shape: Annotated[list[Whole], Field(min_length=1, max_length=8)] = Field(default=list(MNIST_SHAPE))
    output_size: Whole = MNIST_CLASSES
    hidden_sizes: Annotated[list[Whole], Field(max_length=64)] = Field(default=[])
    seed: Whole = 0


class DeviceCapabilities(ExactForm):
    """What a device must have."""

    min_memory_gb: float = 0.0
    min_cpu_cores: Whole = 0


class ParticipantCriteria(ExactForm):
    """Who may take part, and how many it takes."""

    min_participants: Whole = CRITERIA.min_participants
    max_participants: Whole | None = None
    target_participants: Whole | None = None
    quorum: Whole | None = None
    over_selection: float = 1.0
    most_samples: Whole | None = None
    device_capabilities: DeviceCapabilities = DeviceCapabilities()


class StartRound(ExactForm):
    """A round, or with `rounds` a whole campaign; what is not said is as the document's example has it."""

    model_config = ConfigDict(extra="forbid")
    model: RoundModel = Field(alias="model_config")
    participant_criteria: ParticipantCriteria = ParticipantCriteria()
    privacy_settings: dict[str, Any] = Field(default={})
    strategy: Annotated[str, Field(max_length=100)] = "fedavg"
    strategy_options: Annotated[dict[str, float | int | bool | str | None], Field(max_length=32)] = Field(
        default={}
    )
    rounds: Whole = 1
    recruiting_seconds: float = USUAL.recruiting_seconds
    training_seconds: float = USUAL.training_seconds
    compression: Literal["none", "int8", "top-k"] = "none"
    compression_keep: float = KEPT.keep
    secure_aggregation: bool = False
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    def as_spec(self) -> CampaignSpec:
        """The room's value. Raises InvalidRequest."""
        model, asked = self.model, self.participant_criteria
        fit = asked.device_capabilities.model_dump()
        return CampaignSpec(
            architecture=model.architecture,
            shape=Architecture(tuple(model.input_shape), model.output_size, tuple(model.hidden_sizes)),
            local=LocalTraining(**model.hyperparameters.model_dump()),
            criteria=Criteria(**asked.model_dump(exclude={"device_capabilities"}), **fit),
            strategy=self.strategy,
            strategy_options=self.strategy_options,
            rounds=self.rounds,
            recruiting_seconds=self.recruiting_seconds,
            training_seconds=self.training_seconds,
            compression=Compression(self.compression, self.compression_keep),
            secure_aggregation=self.secure_aggregation,
            privacy=PrivacySettings.of({**self.privacy_settings, "rounds": self.rounds}),
            seed=model.seed,
            name=self.name,
        )


class RoundProgress(BaseModel):
    """How far a round has come. What devices tell of themselves is their word."""

    completed_devices: int
    rejected_devices: int
    avg_accuracy: float | None
    avg_loss: float | None
    convergence_metric: float | None
    stalest_update: int | None
    """Where devices may come late: how many versions of the model the latest of its updates was."""


class RoundView(BaseModel):
    """A round. `status` is the document's word, `phase` says which part of it."""

    id: str
    status: Status
    phase: str
    reason: str | None
    campaign_id: str
    number: int
    rounds: int
    started_at: str
    training_started_at: str | None
    ended_at: str | None
    deadline: str | None
    participants: int
    target_participants: int
    min_participants: int
    model_version: str
    model_digest: str | None
    architecture: str
    strategy: str
    secure_aggregation: bool
    progress: RoundProgress
    privacy: dict[str, Any] | None

    @classmethod
    def of(cls, round_: Round, campaign: Campaign, counts: Counts) -> RoundView:
        """A round's row, as the document shows it."""
        spec, figures = CampaignSpec.from_json(campaign.spec), round_.figures
        return cls(
            id=round_.id,
            status=_status(round_.phase),
            phase=round_.phase,
            reason=round_.reason,
            campaign_id=round_.campaign_id,
            number=round_.number,
            rounds=spec.rounds,
            started_at=utc(round_.created_at),
            training_started_at=_moment(round_.training_at),
            ended_at=_moment(round_.ended_at),
            deadline=_moment(round_.due_at),
            participants=counts.members,
            target_participants=spec.criteria.target,
            min_participants=spec.criteria.min_participants,
            model_version=version_name(newest_version(round_)),
            model_digest=round_.result_digest or round_.base_digest,
            architecture=spec.architecture,
            strategy=spec.strategy,
            secure_aggregation=spec.secure_aggregation,
            progress=RoundProgress(
                completed_devices=counts.accepted,
                rejected_devices=counts.rejected,
                avg_accuracy=figures.get("avg_accuracy"),
                avg_loss=figures.get("avg_loss"),
                convergence_metric=figures.get("convergence_metric"),
                stalest_update=figures.get("stalest"),
            ),
            privacy=round_.privacy or _planned(spec),
        )


class RoundList(BaseModel):
    """The organisation's rounds, the newest first."""

    rounds: Sequence[RoundView]


class ParticipationView(BaseModel):
    """A device's part in a round. `round_id` is the one it joined; an update that is late counts later."""

    device_id: str
    round_id: str
    status: str
    reason: str | None
    joined_at: str
    submitted_at: str | None
    sample_count: int | None

    @classmethod
    def of(cls, part: Participation, *, tells: bool = True) -> ParticipationView:
        """A row, as it is shown; how many samples a device has only where that `tells` nothing ε hides."""
        return cls(
            device_id=part.device_id,
            round_id=part.round_id,
            status=part.status,
            reason=part.reason,
            joined_at=utc(part.joined_at),
            submitted_at=_moment(part.submitted_at),
            sample_count=part.sample_count if tells else None,
        )


class Joined(RoundView):
    """The round that was joined, how the device stands in it, and once it trains what to do, signed."""

    participation: ParticipationView
    assignment: dict[str, Any] | None


class Submitted(BaseModel):
    """What became of an update so far: `accepted`, or `submitted` while nobody has looked into it."""

    round_id: str
    device_id: str
    status: str
    receipt: dict[str, Any]

    @classmethod
    def of(cls, part: Participation) -> Submitted:
        """A row, as it is shown."""
        return cls(
            round_id=part.round_id, device_id=part.device_id, status=part.status, receipt=part.receipt or {}
        )


def _planned(spec: CampaignSpec) -> dict[str, Any]:
    """What a round that is not over yet will have cost, with all rounds of its campaign."""
    if not spec.privacy.differential_privacy:
        return dict(NO_GUARANTEE)
    return {
        **spec.privacy.view(
            delta=spec.delta or 0.0,
            noise_multiplier=spec.noise_multiplier or 0.0,
            epsilon=spec.planned_epsilon or 0.0,
        ),
        "clipping": clipping_of(spec),
        "is_planned": True,
    }


def _status(phase: str) -> Status:
    if phase not in OVER:
        return "in_progress"
    return "completed" if phase == Phase.COMPLETED else "failed"


def _moment(time: float | None) -> str | None:
    return None if time is None else utc(time)
