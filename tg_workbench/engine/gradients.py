"""Gradients: what batches have added up to, until a step takes it.

With a `PrivacySpec` it is a sum of clipped per-example gradients, which is given out once, with noise, and
divided by `expected_batch_size`, a public number, never by how many examples came.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tg_workbench.engine.batches import Batch, Repeats
from tg_workbench.engine.objectives import Objective
from tg_workbench.engine.outcomes import ForwardBackward
from tg_workbench.engine.plain import NOT_FINITE, PlainSum, all_finite, plain_sum
from tg_workbench.engine.reader import Reader
from tg_workbench.engine.specs import BF16_MIXED, TrainerSpec
from tg_workbench.errors import InvalidBatch, NoGradient
from tg_workbench.privacy.apart import BF16_TOLERANCE, TOLERANCE, require_apart
from tg_workbench.privacy.clipping import ClippedSum
from tg_workbench.privacy.engines import clipping_engine
from tg_workbench.privacy.noise import add_noise, noisy_loss
from tg_workbench.privacy.randomness import SecureRandom


class Gradients:
    """The gradient of one model that waits for a step, and whom it is about."""

    def __init__(self, spec: TrainerSpec, module: nn.Module, reader: Reader, objective: Objective) -> None:
        self.spec = spec
        self.batches = 0
        """Of how many what waits was made."""
        self.repeats = Repeats()
        self._module = module
        self._reader = reader
        self._objective = objective
        self._trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._clipper = clipping_engine(spec.privacy.engine, module) if spec.privacy else None
        self._held: ClippedSum | PlainSum | None = None
        self._is_unchecked = False  # whether a gradient nobody checked may have gone into the weights
        self._is_apart = False  # whether examples were seen not to depend on one another
        self._randomness = SecureRandom()

    @property
    def pending(self) -> bool:
        """Whether one waits."""
        return self._held is not None

    def add(
        self, read: Batch, loss_name: str, micro_batch_size: int | None, *, canaries: int, check: bool
    ) -> ForwardBackward:
        """Add that of a batch, all of it or nothing; its last `canaries` are left out of what is told.

        Without `check` a plain one is not read through. Raises InvalidBatch, InvalidRequest.
        """
        if self.spec.privacy is not None:
            told = self._keep_clipped(self._clipped(read, loss_name, micro_batch_size), read, canaries)
        else:
            told = self._keep_plain(self._plain(read, loss_name, micro_batch_size, check), read, canaries)
        self.batches += 1
        return told

    def released(self) -> tuple[dict[str, Tensor], float | None]:
        """The mean that a step applies, noisy where that is promised, and the noisy mean loss if asked for.

        Raises NoGradient.
        """
        if self._held is None:
            raise NoGradient
        divisor = self._divisor(self._held.count)
        if not isinstance(self._held, ClippedSum):
            return self._held.over(divisor), None
        summed, loss = self._noised(self._held, divisor)
        torch._foreach_div_([summed[name] for name in self._trainable], divisor)
        return summed, loss

    def discard(self) -> None:
        """Forget what waits."""
        self._held = None
        self.batches = 0
        self.repeats = Repeats()

    def begin_anew(self) -> None:
        """Forget what waits, and what went into weights that are no longer there."""
        self.discard()
        self._is_unchecked = False

    def require_finite(self) -> None:
        """Raise InvalidBatch where a gradient that nobody checked has left weights that are not finite."""
        if self._is_unchecked and not all_finite([p.detach() for p in self._trainable.values()]):
            raise InvalidBatch(NOT_FINITE)
        self._is_unchecked = self.pending and self._is_unchecked

    def _divisor(self, count: int) -> float:
        """What the sum over `count` examples is divided by in a step."""
        return self.spec.expected_batch_size or max(1, count)

    def _noised(self, gradient: ClippedSum, divisor: float) -> tuple[dict[str, Tensor], float | None]:
        """The noisy gradient and, where one was asked for, the noisy mean loss: one Gaussian together."""
        privacy = self.spec.privacy
        assert privacy is not None  # noqa: S101  (only privacy makes a ClippedSum)
        source: dict[str, Any] = {"generator": self._randomness, "hardened": privacy.hardened_noise}
        summed = add_noise(gradient, privacy.gradient_noise_multiplier, **source)
        if privacy.noisy_loss_bound is None:
            return summed, None
        loss = noisy_loss(gradient, privacy.noisy_loss_bound, privacy.loss_noise_multiplier, **source)
        return summed, loss / divisor

    def _clipped(self, read: Batch, loss_name: str, micro_batch_size: int | None) -> ClippedSum:
        assert self.spec.privacy is not None and self._clipper is not None  # noqa: S101, PT018  (private)
        bound = self.spec.privacy.max_grad_norm
        self._require_apart(read, loss_name)
        total: ClippedSum | None = None
        for part in self._reader.parts(read, micro_batch_size):
            found = self._clipper.clip(partial(self._objective.losses, part, loss_name), bound, part.units)
            total = found if total is None else total + found
        return total if total is not None else self._clipper.nothing(bound)

    def _require_apart(self, read: Batch, loss_name: str) -> None:
        """Once, on the first examples that come together. Raises InvalidRequest."""
        if self._is_apart or read.size < 2:
            return
        near = BF16_TOLERANCE if self.spec.precision == BF16_MIXED else TOLERANCE
        losses = self._objective.losses
        require_apart(self._module, lambda some: losses(read.some(some), loss_name), read.size, near)
        self._is_apart = True

    def _plain(
        self, read: Batch, loss_name: str, micro_batch_size: int | None, check: bool
    ) -> tuple[PlainSum, list[float], float]:
        losses = (
            self._objective.losses(part, loss_name) for part in self._reader.parts(read, micro_batch_size)
        )
        found = plain_sum(self._trainable, losses, self._divisor(read.size), check=check)
        self._is_unchecked |= not check
        return found

    def _keep_clipped(self, found: ClippedSum, read: Batch, canaries: int) -> ForwardBackward:
        held = self._held
        self._held = held + found if isinstance(held, ClippedSum) else found
        told = found.count - canaries
        losses, norms = _finite(found.losses[:told].numpy()), _finite(found.norms[:told].numpy())
        return ForwardBackward(
            loss=_mean(losses),
            grad_norm=_mean(norms),
            grad_norm_after_clip=_mean(norms.clip(max=found.bound)),
            num_clipped=int((norms > found.bound).sum()),
            num_examples=told,
            tokens=read.tokens,
        )

    def _keep_plain(
        self, found: tuple[PlainSum, list[float], float], read: Batch, canaries: int
    ) -> ForwardBackward:
        held, (summed, losses, norm) = self._held, found
        self._held = held + summed if isinstance(held, PlainSum) else summed
        told = read.size - canaries
        mean = sum(losses[:told]) / told if told else 0.0
        return ForwardBackward(mean, norm, norm, 0, told, read.tokens)


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    finite = np.isfinite(values)
    return values if finite.all() else values[finite]


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else 0.0
