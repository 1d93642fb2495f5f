"""What a training client is asked to be: adapters, optimizer, privacy, and the request they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tg_workbench.errors import InvalidRequest

DEFAULT_TARGET_EPSILON = 3.0


@dataclass(frozen=True, slots=True)
class LoRA:
    """Low-rank adapters: only they are trained. `alpha` None: twice the rank."""

    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.05
    target_modules: Sequence[str] = ("q_proj", "v_proj", "k_proj", "o_proj")
    bias: str = "none"

    def as_wire(self) -> dict[str, Any]:
        """The request's `lora_config`."""
        alpha = 2.0 * self.rank if self.alpha is None else self.alpha
        return {**asdict(self), "alpha": alpha, "target_modules": list(self.target_modules)}


@dataclass(frozen=True, slots=True)
class Optimizer:
    """adamw, adam, sgd or adafactor, and its constants.

    `momentum` is for sgd alone. `tail_averaging` 0.5: what evaluate, predict and save give is the mean
    over the last half of `max_steps`, in which the noise of single steps cancels; that costs no privacy.
    """

    name: str = "adamw"
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.0
    tail_averaging: float = 0.0

    def as_wire(self) -> dict[str, Any]:
        """The request's `optimizer`."""
        return {**asdict(self), "betas": list(self.betas)}


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of a network of rows, such as `mlp`, `cnn` or `resnet18`: one input, outputs, hidden layers.

    Of a language model that is to tell texts apart: an input of (), and as many outputs as classes.
    """

    input_shape: Sequence[int]
    output_size: int
    hidden_sizes: Sequence[int] = ()

    def as_wire(self) -> dict[str, Any]:
        """The request's `architecture`."""
        return {
            "input_shape": list(self.input_shape),
            "output_size": self.output_size,
            "hidden_sizes": list(self.hidden_sizes),
        }


@dataclass(frozen=True, slots=True)
class Privacy:
    """How much may be learned about one example.

    Without a `noise_multiplier` the workbench chooses the noise that reaches `target_epsilon` after
    `max_steps`. `delta` None: the dataset's. With neither ε nor noise, ε = 3.
    """

    target_epsilon: float | None = None
    delta: float | None = None
    noise_multiplier: float | None = None
    max_grad_norm: float = 1.0
    hardened_noise: bool = False
    """Four draws for each number of noise: slower, and floating point tells less (Holohan, Braghin 2021)."""
    noisy_loss_bound: float | None = None
    """With it every step also gives a loss that is covered by ε, and may be shown to others: each example's
    loss counts up to this bound, and noise is added to their sum. ε stays as planned."""
    noisy_loss_share: float = 0.05
    """Which part of what a step may reveal goes to that loss: more makes it steadier, and the gradient's
    noise larger by 1/√(1 − share)."""
    engine: str = "book-keeping"
    """Which engine clips: book-keeping (ours), opacus-hooks or opacus-ghost. ε is the same."""
    unit: str | None = None
    """For rows of your own: `record` if each batch brings `record_ids`, `unit` if it brings `unit_ids`
    (patients, authors …). A step then counts only for those who are in it, and a unit's rows are clipped
    together. Spell an id alike each time, in every client whose checkpoints meet: "a" and " a" are two
    people. None: every step counts for everybody. A dataset says itself what its unit is."""
    max_participations: int | None = None
    """In how many steps one of them may be: with it, `target_epsilon` finds the noise."""
    truncated_batch_size: int | None = None
    """For batches that the workbench draws: a larger draw is cut to so many, which bounds memory and time."""

    def as_wire(self) -> dict[str, Any]:
        """The request's `dp_config`."""
        target = self.target_epsilon
        if target is None and self.noise_multiplier is None:
            target = DEFAULT_TARGET_EPSILON
        return {
            "enabled": True,
            "noise_multiplier": self.noise_multiplier,
            "max_grad_norm": self.max_grad_norm,
            "target_epsilon": target,
            "target_delta": self.delta,
            "hardened_noise": self.hardened_noise,
            "noisy_loss_bound": self.noisy_loss_bound,
            "noisy_loss_share": self.noisy_loss_share,
            "engine": self.engine,
            "unit": self.unit,
            "max_participations": self.max_participations,
            "truncated_batch_size": self.truncated_batch_size,
        }


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """Everything `create_training_client` was given, checked for contradictions and put on the wire."""

    model_ref: str
    dataset_id: str | None = None
    architecture: Architecture | Mapping[str, Any] | None = None
    lora: LoRA | None = None
    optimizer: Optimizer = Optimizer()  # frozen, so it may be shared
    batch_size: int | None = None
    max_steps: int | None = None
    privacy: Privacy | bool | None = None
    """None: the workbench's default (private on protected data); False: none; True: ε = 3."""
    gradient_accumulation_steps: int | None = None
    loss: str | None = None
    gradient_checkpointing: bool = False
    precision: str | None = None
    metadata: Mapping[str, Any] | None = None
    audit_canaries: int | None = None

    def as_wire(self) -> dict[str, Any]:
        """The request's body; what was not said is left out, so the workbench's defaults hold."""
        architecture = self.architecture
        body = {
            "model_ref": self.model_ref,
            "dataset_id": self.dataset_id,
            "architecture": architecture.as_wire()
            if isinstance(architecture, Architecture)
            else architecture,
            "lora_config": self.lora.as_wire() if self.lora else None,
            "optimizer": self.optimizer.as_wire(),
            "dp_config": dp_config_of(self.privacy),
            "batch_size": self.batch_size,
            "max_steps": self.max_steps,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "loss": self.loss,
            "gradient_checkpointing": self.gradient_checkpointing or None,
            "precision": self.precision,
            "metadata": dict(self.metadata) if self.metadata else None,
            "audit_canaries": self.audit_canaries,
        }
        return {name: value for name, value in body.items() if value is not None}


def dp_config_of(privacy: Privacy | bool | None) -> dict[str, Any] | None:
    """The request's `dp_config`. None: the workbench's default; False: none; True: ε = 3."""
    if privacy is None:
        return None
    if privacy is False:
        return {"enabled": False}
    return (Privacy() if privacy is True else privacy).as_wire()


def chosen_optimizer(optimizer: str | Optimizer, learning_rate: float | None) -> Optimizer:
    """The optimizer that was named or given, at the learning rate that was given."""
    chosen = Optimizer(name=optimizer) if isinstance(optimizer, str) else optimizer
    return chosen if learning_rate is None else replace(chosen, learning_rate=learning_rate)


def chosen_lora(lora: LoRA | None, rank: int | None) -> LoRA | None:
    """The adapters that were given, or the usual ones of this rank. Raises InvalidRequest for both."""
    if lora is not None and not isinstance(lora, LoRA):
        raise InvalidRequest("lora is LoRA(rank=…)")
    if rank is None:
        return lora
    if lora is not None:
        raise InvalidRequest("give lora or lora_rank, not both")
    return LoRA(rank=rank)


def chosen_privacy(
    private: bool | None, privacy: Privacy | None, numbers: Mapping[str, float | None]
) -> Privacy | bool | None:
    """The privacy that was asked for. Raises InvalidRequest when two answers contradict each other."""
    given = {name: value for name, value in numbers.items() if value is not None}
    if privacy is not None and not isinstance(privacy, Privacy):
        raise InvalidRequest("privacy is Privacy(target_epsilon=…); private=True or False says whether")
    if given and privacy is not None:
        raise InvalidRequest(f"give privacy=Privacy(…) or {', '.join(given)}, not both")
    if private is False and (given or privacy is not None):
        raise InvalidRequest(
            "private=False contradicts the privacy asked for beside it; leave one of them out"
        )
    if given:
        return replace(Privacy(), **given)  # type: ignore[arg-type]  # the numbers of it, by their names
    return privacy if privacy is not None else private
