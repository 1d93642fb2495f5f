"""What the workbench answers, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self


class Value:
    """A value read from an answer; members we do not know are left out, so newer servers are understood."""

    __slots__ = ()
    PARTS: ClassVar[Mapping[str, type[Value]]] = {}
    """The members that are values themselves."""

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Self:
        """The value that a JSON object tells of."""
        known = {item.name for item in fields(cls)}  # type: ignore[arg-type]  # every subclass is a dataclass
        members = {name: value for name, value in data.items() if name in known}
        for name, kind in cls.PARTS.items():
            if isinstance(members.get(name), Mapping):
                members[name] = kind.from_wire(members[name])
            else:
                members.pop(name, None)
        return cls(**members)


# ----------------------------------------------------------------------------- privacy
@dataclass(frozen=True, slots=True)
class PrivacyView(Value):
    """What a training client promises about each example, and what it has spent of it."""

    guarantee: str = "unknown"
    """`differential_privacy`, `none`, or `unknown` until the client's worker has made its plan."""
    mode: str | None = None
    """`sampled` (the server draws the batches) or `client_batches` (the caller does: no amplification)."""
    unit: str = "example"
    relation: str = "add_or_remove_one"
    accountant: str | None = None
    target_epsilon: float | None = None
    delta: float | None = None
    noise_multiplier: float | None = None
    max_grad_norm: float | None = None
    sample_rate: float | None = None
    truncated_batch_size: int | None = None
    """To how many a larger draw is cut; None: it is not."""
    max_participations: int | None = None
    """In how many steps of rows you choose one record or unit may be, as planned."""
    noisy_loss_bound: float | None = None
    """Up to where an example's loss counts in the noisy loss of each step; None when there is none."""
    spent_epsilon: float | None = None
    reserved_epsilon: float | None = None
    steps: int = 0
    steps_left: int | None = None
    dataset_id: str | None = None
    dataset_spent_epsilon: float | None = None
    dataset_epsilon_cap: float | None = None
    note: str = ""

    @property
    def private(self) -> bool:
        """Whether there is a guarantee at all."""
        return self.guarantee == "differential_privacy"

    def __str__(self) -> str:
        """One line: ε, its target, δ and the mode; or that there is no guarantee."""
        if not self.private:
            return "no privacy guarantee" if self.guarantee == "none" else "privacy not settled yet"
        target = "" if self.target_epsilon is None else f" of {self.target_epsilon:.2f}"
        delta = "" if self.delta is None else f", δ = {self.delta:.1e}"
        return f"ε = {self.spent_epsilon or 0.0:.2f}{target}{delta} ({self.mode}, per {self.unit})"


@dataclass(frozen=True, slots=True)
class DPMetrics(Value):
    """What one step cost and how gradients were clipped. Of these only the noisy loss is covered by ε."""

    noise_applied: bool = False
    epsilon_spent: float = 0.0
    total_epsilon: float = 0.0
    delta: float | None = None
    grad_norm_before_clip: float | None = None
    grad_norm_after_clip: float | None = None
    num_clipped: int | None = None
    noisy_loss: float | None = None


@dataclass(frozen=True, slots=True)
class Ledger(Value):
    """Every noisy release of a dataset or a training client, in order, and what they add up to."""

    events: list[dict[str, Any]] = field(default_factory=list)
    spent_epsilon: float | None = None
    delta: float | None = None
    epsilon_cap: float | None = None


# ----------------------------------------------------------------------------- training clients
@dataclass(frozen=True, slots=True)
class Checkpoint(Value):
    """A stored state of a training client."""

    artifact_id: str
    step: int | None = None
    automatic: bool = False
    created_at: str | None = None
    size_bytes: int | None = None
    content_hash: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClientView(Value):
    """A training client as the workbench saw it at one moment."""

    PARTS: ClassVar[Mapping[str, type[Value]]] = {
        "privacy": PrivacyView,
        "dp_metrics": DPMetrics,
        "last_checkpoint": Checkpoint,
    }

    training_client_id: str
    model_ref: str = ""
    status: str = "initializing"
    """initializing, ready, busy, paused, error or terminated."""
    step: int = 0
    created_at: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    paused: bool = False
    privacy: PrivacyView = field(default_factory=PrivacyView)
    dp_metrics: DPMetrics | None = None
    last_checkpoint: Checkpoint | None = None

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Self:
        """The view that a JSON object tells of; the wire has no word for paused and says busy."""
        held = data.get("paused") and data.get("status") == "busy"
        return super(ClientView, cls).from_wire({**data, "status": "paused"} if held else data)

    @property
    def ended(self) -> bool:
        """Whether it can never work again."""
        return self.status in ("error", "terminated")


# ----------------------------------------------------------------------------- results of operations
@dataclass(frozen=True, slots=True)
class ForwardBackward(Value):
    """Gradients were added to what waits for `optim_step`. The loss is not covered by ε."""

    PARTS: ClassVar[Mapping[str, type[Value]]] = {"dp_metrics": DPMetrics}

    loss: float | None = None
    grad_norm: float | None = None
    tokens_processed: int = 0
    num_examples: int | None = None
    dp_metrics: DPMetrics | None = None


@dataclass(frozen=True, slots=True)
class OptimStep(Value):
    """The model has moved by one step."""

    PARTS: ClassVar[Mapping[str, type[Value]]] = {"dp_metrics": DPMetrics}

    step: int
    learning_rate: float | None = None
    dp_metrics: DPMetrics | None = None


@dataclass(frozen=True, slots=True)
class TrainResult(Value):
    """How a training run ended."""

    PARTS: ClassVar[Mapping[str, type[Value]]] = {"privacy": PrivacyView}

    steps_done: int = 0
    step: int = 0
    stopped: bool = False
    reason: str | None = None
    loss: float | None = None
    privacy: PrivacyView = field(default_factory=PrivacyView)


RESULTS: Mapping[str, type[Value]] = {
    "forward_backward": ForwardBackward,
    "optim_step": OptimStep,
    "train": TrainResult,
    "save_state": Checkpoint,
}
"""What the future of an operation brings; of any other operation, the answer's JSON."""


@dataclass(frozen=True, slots=True)
class Completion(Value):
    """What a language model wrote after a prompt. `str(completion)` is the text alone."""

    prompt: str
    completion: str
    tokens_generated: int = 0
    finish_reason: str | None = None

    def __str__(self) -> str:
        """The text alone, without its prompt."""
        return self.completion

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """In a notebook: the prompt, and what follows it."""
        printer.text("…" if cycle else f"{self.prompt}▸{self.completion}")


@dataclass(frozen=True, slots=True)
class Evaluation(Value):
    """How well a model does on rows that were given for that."""

    loss: float | None = None
    accuracy: float | None = None
    num_examples: int = 0
    source: str = "caller"


@dataclass(frozen=True, slots=True)
class Prediction(Value):
    """A class and how sure the model is, or a value."""

    label: Any = None
    """A class's name, or its number where classes have none."""
    confidence: float | None = None
    value: Any = None

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Self:
        """The prediction that a JSON object tells of; `class` is a word that Python keeps."""
        return super(Prediction, cls).from_wire({"label": data.get("class"), **data})
