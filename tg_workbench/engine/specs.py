"""What a trainer is made from: frozen values, checked when they are made, safe to store as JSON.

Light: the API reads them, and it never imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from tg_workbench.engine import class_weights
from tg_workbench.errors import InvalidRequest

BOOK_KEEPING = "book-keeping"
ENGINES = (BOOK_KEEPING, "opacus-hooks", "opacus-ghost")
"""What may clip, the usual one first. `privacy.engines` has the same names (a test compares them)."""
Unit = Literal["example", "record", "unit"]
UNITS = ("example", "record", "unit")
"""Whom ε is about: a row, a row that carries a `record_ids`, or all rows that share a `unit_ids`."""
FLOAT32, BF16_MIXED = "float32", "bf16-mixed"
PRECISIONS = (FLOAT32, BF16_MIXED)
"""In how many bits a network may compute: all in 32, or in bfloat16 where autocast knows that to be safe."""
LARGEST_INPUT = 10**8
LARGEST_SIDE = 10**6
MOST_WEIGHTS = 2**30
"""Of a network of rows: with an optimizer's state they take four times as many floats."""
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TargetScale:
    """What is learned of a number is (target - center) / scale; what is answered is the number itself.

    Without it a network that starts at answers about 0 would have to walk to 200,000, and the clipped steps
    of a private training are of bounded length.
    """

    center: float
    scale: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.center) or not 0.0 < self.scale < math.inf:
            raise InvalidRequest("a target's center must be finite, and its scale above 0 and finite")

    def scaled(self, numbers: Any) -> Any:
        """Numbers in their own unit (an array or a tensor), on the scale on which they are learned."""
        return (numbers - self.center) / self.scale

    def unscaled(self, numbers: Any) -> Any:
        """The way back."""
        return numbers * self.scale + self.center


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of a network built from scratch: of one example, of the answer, of what lies between.

    With an `input_shape` of () the example is a text: a language model tells `output_size` classes apart.
    With a `target_scale` the answer is a number in its own unit, learned by `mse` on that scale.
    """

    input_shape: tuple[int, ...]
    output_size: int
    hidden_sizes: tuple[int, ...] = ()
    target_scale: TargetScale | None = None

    def as_json(self) -> dict[str, Any]:
        """What must be the same for weights to mean the same; a scale is told only where there is one."""
        told: dict[str, Any] = {
            "input_shape": list(self.input_shape),
            "output_size": self.output_size,
            "hidden_sizes": list(self.hidden_sizes),
        }
        return told if self.target_scale is None else {**told, "target_scale": asdict(self.target_scale)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Architecture:
        """What `as_json` told."""
        scale = data.get("target_scale")
        return cls(
            tuple(data["input_shape"]),
            data["output_size"],
            tuple(data["hidden_sizes"]),
            TargetScale(**scale) if scale else None,
        )

    def __post_init__(self) -> None:
        sides = (*self.input_shape, self.output_size, *self.hidden_sizes)
        if any(side < 1 for side in sides):
            raise InvalidRequest("architecture needs an input_shape and sizes of at least 1")
        if math.prod(self.input_shape) > LARGEST_INPUT or max(sides) > LARGEST_SIDE:
            raise InvalidRequest(
                "architecture is larger than this workbench can hold: "
                f"at most {LARGEST_SIDE} classes, outputs or units of a layer"
            )
        ends = (math.prod(self.input_shape), *self.hidden_sizes, self.output_size)
        if self.hidden_sizes and sum(left * right for left, right in pairwise(ends)) > MOST_WEIGHTS:
            raise InvalidRequest(
                f"layers of these sizes have more than {MOST_WEIGHTS} weights between them: choose smaller "
                "hidden_sizes"
            )


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """Low-rank adapters (Hu et al. 2021): `rank` columns, scaled by `alpha / rank`, and where they sit.

    `target_modules` are last names of linear layers (`q_proj`) or whole paths; `all-linear` means every
    one but the output layer of a language model.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    target_modules: tuple[str, ...] = ("q_proj", "v_proj", "k_proj", "o_proj")
    bias: Literal["none", "all", "lora_only"] = "none"

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0 or not 0.0 <= self.dropout < 1.0:
            raise InvalidRequest("lora_config needs rank ≥ 1, alpha > 0 and dropout from 0 to below 1")
        if self.bias not in ("none", "all", "lora_only"):
            raise InvalidRequest("lora_config.bias must be none, all or lora_only")

    def for_peft(self, model_ref: str, *, tells_apart: bool) -> dict[str, Any]:
        """What `peft` needs to put the adapters back (LoraConfig of peft 0.21), as JSON.

        `tells_apart`: the model tells texts apart, and its head lies beside the adapters.
        """
        targets = list(self.target_modules)
        return {
            "peft_type": "LORA",
            "task_type": "SEQ_CLS" if tells_apart else "CAUSAL_LM",
            "base_model_name_or_path": model_ref,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "target_modules": "all-linear" if "all-linear" in targets else targets,
            "modules_to_save": ["score"] if tells_apart else None,
            "bias": self.bias,
            "fan_in_fan_out": False,
            "inference_mode": True,
        }


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """Which optimizer, and its constants. `betas` and `eps` mean nothing to `sgd` and `adafactor`."""

    name: str = "adamw"
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.0
    """Of `sgd` alone: how much of the last step's direction is kept."""
    tail_averaging: float = 0.0
    """Which part of a run's steps, counted from its end, the model that others see is the mean of."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.momentum < 1.0 or not 0.0 <= self.tail_averaging <= 1.0:
            raise InvalidRequest("momentum lies from 0 to below 1, tail_averaging from 0 to 1")
        if self.momentum and self.name != "sgd":
            raise InvalidRequest("only sgd has a momentum; the other optimizers have betas")

    def average_after(self, steps: int | None) -> int | None:
        """The step after which a run of `steps` is averaged. InvalidRequest when its end is unknown."""
        if not self.tail_averaging:
            return None
        if steps is None:
            raise InvalidRequest("tail_averaging needs max_steps: it is a part of the steps of the run")
        return steps - max(1, round(steps * self.tail_averaging))


@dataclass(frozen=True, slots=True)
class PrivacySpec:
    """How long an example's gradient may be, and how many times that the noise is."""

    noise_multiplier: float
    max_grad_norm: float
    hardened_noise: bool = False
    """Whether each number of noise is the sum of four draws, which hides floating-point traces of one."""
    noisy_loss_bound: float | None = None
    """With it a step also releases a noisy loss, in which no example counts for more than this."""
    noisy_loss_share: float = 0.05
    """Which part of what a step reveals that loss may reveal."""
    engine: str = BOOK_KEEPING
    """Which engine clips: one of `ENGINES`. All give the same sum, so a state fits whichever made it."""
    unit: Unit = "example"
    """Whose gradient is held to the bound: that of an example, of a record (an example that has an id), or
    the sum over all examples of a unit (a person, say)."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.noise_multiplier < math.inf or not 0.0 < self.max_grad_norm < math.inf:
            raise InvalidRequest("dp_config needs noise_multiplier ≥ 0 and max_grad_norm > 0, both finite")
        if self.noisy_loss_bound is not None and not 0.0 < self.noisy_loss_bound < math.inf:
            raise InvalidRequest("dp_config needs a noisy_loss_bound above 0 and finite, or none")
        if not 0.0 < self.noisy_loss_share < 1.0:
            raise InvalidRequest("dp_config needs a noisy_loss_share above 0 and below 1")
        if self.engine not in ENGINES:
            raise InvalidRequest(f"unknown engine; use one of {', '.join(ENGINES)}")
        if self.unit not in UNITS:
            raise InvalidRequest(f"dp_config.unit must be one of {', '.join(UNITS)}")

    @property
    def gradient_noise_multiplier(self) -> float:
        """The noise of the gradient, in units of `max_grad_norm`.

        Gradient and loss leave as one Gaussian vector. With noise σ₁ and σ₂ in units of their bounds it tells
        as much as a single release with σ, 1/σ² = 1/σ₁² + 1/σ₂² (Dong, Roth and Su 2022, corollary 3.3:
        μ² = μ₁² + μ₂²). `noise_multiplier` is that σ, and what is charged.
        """
        share = 0.0 if self.noisy_loss_bound is None else self.noisy_loss_share
        return self.noise_multiplier / math.sqrt(1.0 - share)

    @property
    def loss_noise_multiplier(self) -> float:
        """The noise of the loss, in units of `noisy_loss_bound`."""
        return self.noise_multiplier / math.sqrt(self.noisy_loss_share)


def check_precision(precision: str, engine: str | None) -> None:
    """Raise InvalidRequest for a precision nobody knows, or that the engine which clips cannot keep to."""
    if precision not in PRECISIONS:
        raise InvalidRequest(f"unknown precision; use one of {', '.join(PRECISIONS)}")
    if precision != FLOAT32 and engine not in (None, BOOK_KEEPING):
        raise InvalidRequest(
            f"engine {engine} cannot clip under precision {precision}; "
            f"use engine {BOOK_KEEPING}, or precision {FLOAT32}"
        )


@dataclass(frozen=True, slots=True)
class TrainerSpec:
    """Everything a trainer is made from."""

    model_ref: str
    architecture: Architecture | None
    lora: LoraSpec | None
    optimizer: OptimizerSpec
    loss: str | None
    privacy: PrivacySpec | None
    expected_batch_size: float | None
    """What a step's sum is divided by. None, without privacy only: the number of examples that came."""
    cache_folder: Path
    gradient_checkpointing: bool = False
    """Of language models: forget what is inside each block, and compute it again on the way back.

    It saves memory where adapters learn. Where everything learns it saves next to none: clipping keeps the
    input and the gradient of every layer that learns until the norms are known.
    """
    precision: str = FLOAT32
    """One of `PRECISIONS`. A state fits whichever it was made in: what learns is float32 in both."""
    average_after: int | None = None
    """The model others see is the mean over all steps after this one; None: the last step."""
    class_weights: tuple[float, ...] | None = None
    """By how much the loss of an example counts, by its class (`cross_entropy` alone); None: all alike."""
    seed: int = 0
    """What initial weights are drawn from: of a row network, or of what a language model got to learn."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InvalidRequest("seed must be a whole number from 0, of at most 63 bits")
        if self.class_weights is not None:
            class_weights.checked(self.class_weights)
            if self.loss not in (None, "cross_entropy"):
                raise InvalidRequest("class_weights are for cross_entropy: leave them out for another loss")
        is_scaled = self.architecture is not None and self.architecture.target_scale is not None
        if is_scaled and self.loss not in (None, "mse"):
            raise InvalidRequest("a target_scale is for mse: leave it out for another loss")
        check_precision(self.precision, self.privacy.engine if self.privacy else None)
        if self.expected_batch_size is None:
            if self.privacy is not None:
                raise InvalidRequest(
                    "a private sum is divided by a declared batch size, never by the true one"
                )
        elif not 0.0 < self.expected_batch_size < math.inf:
            raise InvalidRequest("the expected batch size must be a finite number above 0")
