"""TG-Tinker's bodies and views: the document's names, defaults and bounds, and what we add beside them.

Where a mistyped member would weaken privacy or train on something else (creating a client, `dp_config`, a
batch) an unknown member is refused; elsewhere it is ignored, as the document's own server does.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError, to_json

from tg_workbench.training import Architecture, ClientSpec, DPSpec, LoraSpec, OptimizerSpec

MOST_METADATA_BYTES = 65_536


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(to_json(metadata)) > MOST_METADATA_BYTES:
        raise ValueError(f"metadata may hold {MOST_METADATA_BYTES} bytes of JSON")
    return metadata


Metadata = Annotated[dict[str, Any], AfterValidator(_small)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
Whole = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Token = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
Tokens = Annotated[list[Token], Field(fail_fast=True)]
Name = Whole | Annotated[str, Field(min_length=1, max_length=256)]
"""The id of a record or of a unit."""
Rows = Annotated[list[Any], Field(fail_fast=True, min_length=1)]


class Form(BaseModel):
    """A body: types are taken at their word (`"5"` is no number), numbers are finite."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore", protected_namespaces=())


class ExactForm(Form):
    """A body in which an unknown member is refused, with the names of those that are known."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, told: Any) -> Any:
        """The unknown name is the caller's, and not repeated."""
        names = [field.alias or name for name, field in cls.model_fields.items()]
        if isinstance(told, dict) and not told.keys() <= set(names):
            problem = f"it has a member that is not known here; known are {', '.join(names)}"
            raise PydanticCustomError("unknown_member", "{problem}", {"problem": problem})
        return told


class LoraConfig(Form):
    """Low-rank adapters."""

    rank: int = Field(default=16, ge=1, le=512)
    alpha: float = Field(default=32.0, gt=0, le=65_536)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    target_modules: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=128)]], Field(min_length=1, max_length=64)
    ] = ["q_proj", "v_proj", "k_proj", "o_proj"]
    bias: Literal["none", "all", "lora_only"] = "none"

    def as_spec(self) -> LoraSpec:
        """The room's value."""
        return LoraSpec(self.rank, self.alpha, self.dropout, tuple(self.target_modules), self.bias)


class OptimizerConfig(Form):
    """Which optimizer, and its constants."""

    name: Literal["adamw", "adam", "sgd", "adafactor"] = "adamw"
    learning_rate: float = Field(default=1e-4, gt=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = [
        0.9,
        0.999,
    ]
    eps: float = Field(default=1e-8, gt=0, le=1)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    tail_averaging: float = Field(default=0.0, ge=0, le=1)

    def as_spec(self) -> OptimizerSpec:
        """The room's value."""
        betas = (self.betas[0], self.betas[1])
        return OptimizerSpec(
            self.name,
            self.learning_rate,
            self.weight_decay,
            betas,
            self.eps,
            self.momentum,
            self.tail_averaging,
        )


class DPConfig(ExactForm):
    """The privacy that is asked for. An unknown member is refused: a typo must not weaken it.

    `noise_multiplier` null: the server finds the least noise that keeps `target_epsilon` over `max_steps`. So
    it does when only a `target_epsilon` is given and the number of steps is known; else the document's 1.0.
    """

    enabled: bool = True
    noise_multiplier: float | None = Field(default=1.0, ge=0.01, le=1_000)
    max_grad_norm: float = Field(default=1.0, gt=0, le=1e6)
    target_epsilon: float | None = Field(default=8.0, gt=0, le=1_000)
    target_delta: float | None = Field(default=None, gt=0, lt=1)
    accountant_type: Literal["rdp", "moments", "prv", "pld"] = "prv"
    hardened_noise: bool = False
    noisy_loss_bound: float | None = Field(default=None, gt=0, le=1e6)
    noisy_loss_share: float = Field(default=0.05, gt=0, lt=1)
    engine: Literal["book-keeping", "opacus-hooks", "opacus-ghost"] = "book-keeping"
    unit: Literal["example", "record", "unit"] | None = None
    max_participations: int | None = Field(default=None, ge=1, le=1_000_000)
    truncated_batch_size: int | None = Field(default=None, ge=1, le=1_000_000)

    @property
    def counts_participants(self) -> bool:
        """Whether rows that the caller sends come with ids."""
        return self.unit in ("record", "unit")

    def as_spec(self, *, steps_known: bool) -> DPSpec:
        """The room's value."""
        given = self.model_fields_set
        calibrate = "target_epsilon" in given and "noise_multiplier" not in given and steps_known
        return DPSpec(
            enabled=self.enabled,
            noise_multiplier=None if calibrate and self.target_epsilon is not None else self.noise_multiplier,
            max_grad_norm=self.max_grad_norm,
            target_epsilon=self.target_epsilon,
            target_delta=self.target_delta,
            accountant_type=self.accountant_type,
            hardened_noise=self.hardened_noise,
            noisy_loss_bound=self.noisy_loss_bound,
            noisy_loss_share=self.noisy_loss_share,
            engine=self.engine,
            unit=self.unit,
            max_participations=self.max_participations,
            truncated_batch_size=self.truncated_batch_size,
        )


Size = Annotated[int, Field(ge=1, le=1_000_000)]


class ArchitectureForm(ExactForm):
    """The shape of a network that is built here."""

    input_shape: Annotated[list[Size], Field(min_length=1, max_length=4)]
    output_size: Size
    hidden_sizes: Annotated[list[Size], Field(max_length=64)] = []

    def as_spec(self) -> Architecture:
        """The room's value."""
        return Architecture(tuple(self.input_shape), self.output_size, tuple(self.hidden_sizes))


class CreateTrainingClient(ExactForm):
    """What a training client is created from. Unknown members are refused: `dp_conifg` is not no privacy."""

    model_ref: str = Field(min_length=1, max_length=4096)
    lora_config: LoraConfig | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    dp_config: DPConfig | None = None
    batch_size: int = Field(default=8, ge=1, le=1_000_000)
    gradient_accumulation_steps: int = Field(default=1, ge=1, le=10_000)
    max_steps: int | None = Field(default=None, ge=1, le=1_000_000)
    metadata: Metadata = {}
    dataset_id: Id | None = None
    architecture: ArchitectureForm | None = None
    loss: Literal["cross_entropy", "mse", "bce"] | None = None
    gradient_checkpointing: bool = False
    audit_canaries: int = Field(default=0, ge=0, le=10_000)
    precision: Literal["float32", "bf16-mixed"] = "float32"

    def as_spec(self) -> ClientSpec:
        """The room's value."""
        steps_known = self.max_steps is not None or self.dataset_id is not None
        if self.dp_config is not None and self.dp_config.counts_participants and self.dataset_id is None:
            steps_known = self.dp_config.max_participations is not None
        return ClientSpec(
            model_ref=self.model_ref,
            lora=self.lora_config.as_spec() if self.lora_config else None,
            optimizer=self.optimizer.as_spec(),
            dp=self.dp_config.as_spec(steps_known=steps_known) if self.dp_config else None,
            batch_size=self.batch_size,
            gradient_accumulation_steps=self.gradient_accumulation_steps,
            max_steps=self.max_steps,
            metadata=self.metadata,
            dataset_id=self.dataset_id,
            architecture=self.architecture.as_spec() if self.architecture else None,
            loss=self.loss,
            gradient_checkpointing=self.gradient_checkpointing,
            audit_canaries=self.audit_canaries,
            precision=self.precision,
        )


class Batch(ExactForm):
    """Rows of tokens (`input_ids` …) or rows of features."""

    input_ids: Annotated[list[Tokens], Field(fail_fast=True, min_length=1)] | None = None
    attention_mask: Annotated[list[Tokens], Field(fail_fast=True)] | None = None
    labels: Annotated[list[Tokens], Field(fail_fast=True)] | None = None
    features: Rows | None = None
    targets: Rows | None = None
    record_ids: Annotated[list[Name], Field(fail_fast=True)] | None = None
    unit_ids: Annotated[list[Name], Field(fail_fast=True)] | None = None

    @model_validator(mode="after")
    def _holds_rows(self) -> Batch:
        if (self.input_ids is None) == (self.features is None):
            raise ValueError("a batch holds either input_ids or features")
        return self


class ForwardBackward(ExactForm):
    """Rows to learn from: sent along, or drawn by the server from the client's dataset."""

    batch: Batch | None = None
    batch_hash: str | None = Field(default=None, max_length=200)
    dataset_id: Id | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ForwardBackward:
        if (self.batch is None) == (self.dataset_id is None):
            raise ValueError("send either a batch or a dataset_id")
        if self.batch is not None and self.batch.features is not None and self.batch.targets is None:
            raise ValueError("features are learned from together with their targets")
        return self


class OptimStep(Form):
    """One optimizer step. Without noise only where the client has no privacy plan."""

    apply_dp_noise: bool = True
    learning_rate: float | None = Field(default=None, gt=0, le=1)


class Sample(Form):
    """Prompts to continue."""

    prompts: Annotated[list[Annotated[str, Field(max_length=100_000)]], Field(min_length=1, max_length=256)]
    max_tokens: int = Field(default=128, ge=1, le=4096)
    temperature: float = Field(default=0.7, ge=0, le=2)
    top_p: float = Field(default=0.9, gt=0, le=1)
    top_k: int = Field(default=50, ge=0, le=1_000_000)
    stop_sequences: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=1_000)]], Field(max_length=16)
    ] = []


class SaveState(Form):
    """A checkpoint to be written."""

    include_optimizer: bool = True
    metadata: Metadata = {}


class LoadState(Form):
    """A checkpoint to be taken up."""

    artifact_id: Id
