"""What a trainer answers: of a pass, of a step, of a look at how well it does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ForwardBackward:
    """What a pass over a batch found. Not private: for the curator only.

    `loss` is the mean over the examples whose loss is finite. With privacy the norms are means over examples,
    before and after clipping; without, both are the norm of the batch's mean gradient, NaN if not asked for.
    """

    loss: float
    grad_norm: float
    grad_norm_after_clip: float
    num_clipped: int
    num_examples: int
    tokens: int


@dataclass(frozen=True, slots=True)
class OptimStep:
    """A step taken.

    `noisy_loss`, where it was asked for, is the clipped losses' noisy sum over the expected batch size. It is
    private, as the step is; noise may take it below zero.
    """

    step: int
    learning_rate: float
    noise_applied: bool
    noisy_loss: float | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well the model does on a batch. `accuracy` is None where answers are not right or wrong."""

    loss: float
    accuracy: float | None
    num_examples: int
