"""Our own bodies and views. Ours to define, so an unknown member is always refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tg_workbench.contracts.audit import AuditEntryView
from tg_workbench.contracts.tg_tinker.schemas import Batch, ExactForm, Id, Name, Rows
from tg_workbench.contracts.tg_tinker.views import ArtifactView, FutureView, View, iso
from tg_workbench.datasets import KEY_BYTES, Dataset, LedgerEvent
from tg_workbench.identity import ApiKey
from tg_workbench.training import Artifact, TrainingClient

Privacy = Literal["protected", "public"]
UnitName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z _-]{0,39}$")]
"""What a unit is called."""
Scope = Literal["read", "train", "datasets", "devices", "keys", "webhooks", "audit", "monitoring", "admin"]


# ----------------------------------------------------------------------------- bodies
class Train(ExactForm):
    """A run on the server: so many steps, or so many passes over the dataset."""

    dataset_id: Id | None = None
    steps: int | None = Field(default=None, ge=1, le=10_000_000)
    epochs: float | None = Field(default=None, gt=0, le=100_000)

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("send either steps or epochs")
        return self


class Evaluate(ExactForm):
    """Rows to measure the model on: sent along, or a public dataset."""

    batch: Batch | None = None
    dataset_id: Id | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Evaluate:
        if (self.batch is None) == (self.dataset_id is None):
            raise ValueError("send either a batch or a dataset_id")
        return self


class Predict(ExactForm):
    """Rows to ask the model about."""

    features: Rows | None = None
    prompts: (
        Annotated[list[Annotated[str, Field(max_length=100_000)]], Field(min_length=1, max_length=256)] | None
    ) = None

    @model_validator(mode="after")
    def _one_kind(self) -> Predict:
        if (self.features is None) == (self.prompts is None):
            raise ValueError("send either features or prompts")
        return self


class Audit(ExactForm):
    """How to measure what training reveals at least.

    `mechanism`: so many made-up gradients through the client's own sampler, clipping and noise. `canaries`:
    by the examples that were put in beside the dataset when the client was created. `lira`: by twins of the
    client that learn random halves of the dataset; what it finds is not covered by ε.
    """

    method: Literal["mechanism", "canaries", "lira"] = "mechanism"
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    canaries: int | None = Field(default=None, ge=100, le=20_000)
    """Of `mechanism`."""
    steps: int | None = Field(default=None, ge=1, le=1_000_000)
    """Of `mechanism` and `lira`; null: as many as the client has taken, or else planned."""
    twins: int | None = Field(default=None, ge=4, le=64)
    """Of `lira`."""

    @model_validator(mode="after")
    def _of_its_method(self) -> Audit:
        for name, methods in {
            "canaries": ("mechanism",),
            "steps": ("mechanism", "lira"),
            "twins": ("lira",),
        }.items():
            if getattr(self, name) is not None and self.method not in methods:
                raise ValueError(f"{name} is for method {' and '.join(methods)}: leave it out")
        return self


class Texts(ExactForm):
    """A dataset of texts."""

    name: str = Field(min_length=1, max_length=200)
    privacy: Privacy = "protected"
    texts: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    delta: float | None = Field(default=None, gt=0, lt=1)
    epsilon_cap: float | None = Field(default=None, gt=0, le=1_000)
    population: Id | None = None
    unit_ids: Annotated[list[Name], Field(fail_fast=True)] | None = None
    unit: UnitName | None = None


_WORDS = {"training": ("read", "train")}


class IssueApiKey(ExactForm):
    """A key to be made; it cannot do more than whoever asks for it."""

    name: str = Field(min_length=1, max_length=200)
    scopes: Annotated[list[Scope | Literal["training"]], Field(min_length=1, max_length=10)] = Field(
        default=["read", "train", "datasets"],
        description="`training` is API Coordination's word for `read` and `train`.",
    )
    expires_in_days: float | None = Field(default=None, gt=0, le=36_500)

    @property
    def meant(self) -> list[str]:
        """The scopes in our own words."""
        return sorted({word for scope in self.scopes for word in _WORDS.get(scope, (scope,))})


# ----------------------------------------------------------------------------- views
class Evaluation(View):
    """How well the model does on rows that are not protected. Not covered by ε, and costing none."""

    loss: float | None
    accuracy: float | None
    num_examples: int
    source: Literal["public", "caller"]


class Predictions(View):
    """What the model says of each row."""

    predictions: list[Any]


class EventList(View):
    """What has happened, oldest first."""

    events: list[dict[str, Any]]


class ArtifactNote(ArtifactView):
    """A checkpoint in a list."""

    training_client_id: str
    automatic: bool

    @classmethod
    def of(cls, artifact: Artifact) -> ArtifactNote:
        """A checkpoint of the room."""
        return cls(
            artifact_id=artifact.id,
            artifact_type="checkpoint",
            size_bytes=artifact.size_bytes,
            encryption={"algorithm": "AES-256-GCM", "key_id": artifact.key_id},  # type: ignore[arg-type]
            content_hash=artifact.content_hash,
            metadata=artifact.details,
            created_at=iso(artifact.created_at),
            step=artifact.step,
            dp_metrics=artifact.dp_metrics,  # type: ignore[arg-type]  # pydantic reads the stored members
            training_client_id=artifact.client_id,
            automatic=artifact.automatic,
        )


class RunView(FutureView):
    """The future of a run. What happens in it comes after the event `after_event`."""

    after_event: int


class ArtifactList(View):
    """A client's checkpoints, the newest first."""

    artifacts: list[ArtifactNote]
    total: int
    limit: int
    offset: int


class LedgerEntry(View):
    """One noisy release."""

    id: int
    dataset_id: str | None
    training_client_id: str
    operation_id: str
    mode: str
    noise_multiplier: float
    sample_rate: float
    max_grad_norm: float
    truncated_batch_size: int | None
    num_participants: int | None
    """How many were in it; null where the server drew them, or nobody said."""
    step: int
    epsilon_after: float
    at: str

    @classmethod
    def of(cls, event: LedgerEvent) -> LedgerEntry:
        """An event of the ledger."""
        left_out = {
            "client_id",
            "tenant_id",
            "actor",
            "attempt",
            "ordinal",
            "at",
            "participants",
            "dataset_size",
        }
        fields = event.model_dump(exclude={*left_out, "truncated_batch_size"})
        return cls(
            **fields,
            truncated_batch_size=event.truncated_batch_size or None,
            num_participants=None if event.participants is None else len(event.participants) // KEY_BYTES,
            training_client_id=event.client_id,
            at=iso(event.at),
        )


class LedgerPage(View):
    """What has been released about a dataset, or by a client, and what it adds up to."""

    events: list[LedgerEntry]
    spent_epsilon: float | None
    delta: float | None
    epsilon_cap: float | None

    @classmethod
    def of(
        cls, events: list[LedgerEvent], dataset: Dataset | None, client: TrainingClient | None
    ) -> LedgerPage:
        """Events of a dataset, or of a client, with the sum that its owner's view has."""
        privacy = (client.privacy or {}) if client is not None else {}
        return cls(
            events=[LedgerEntry.of(event) for event in events],
            spent_epsilon=dataset.spent_epsilon if dataset else privacy.get("spent_epsilon"),
            delta=dataset.delta if dataset else privacy.get("delta"),
            epsilon_cap=dataset.epsilon_cap if dataset else privacy.get("target_epsilon"),
        )


class AuditPage(View):
    """A page of the audit log, the newest entry first."""

    entries: list[AuditEntryView]
    total: int
    limit: int
    offset: int


class ApiKeyView(View):
    """An API key without its secret."""

    key_id: str
    name: str
    scopes: list[str]
    last_four: str
    created_at: str
    expires_at: str | None

    @classmethod
    def of(cls, key: ApiKey) -> ApiKeyView:
        """A key of the room."""
        return cls(**_key(key))


class IssuedApiKey(ApiKeyView):
    """A new API key. `key` is shown here and never again."""

    key: str

    @classmethod
    def of_new(cls, key: ApiKey, secret: str) -> IssuedApiKey:
        """A key that was just made."""
        return cls(**_key(key), key=secret)


class ApiKeyList(View):
    """A page of API keys, the newest first."""

    api_keys: list[ApiKeyView]
    total: int
    limit: int
    offset: int


class Deleted(View):
    """What is gone."""

    deleted: bool = True


def _key(key: ApiKey) -> dict[str, Any]:
    return {
        "key_id": key.id,
        "name": key.name,
        "scopes": key.scopes,
        "last_four": key.last_four,
        "created_at": iso(key.created_at),
        "expires_at": iso(key.expires_at) if key.expires_at is not None else None,
    }
