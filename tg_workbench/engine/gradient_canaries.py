"""Gradient canaries: made-up examples, each of which moves one number of a made-up model and nothing else.

A real trainer learns from them with a client's own privacy: its sampler, engine, bound, noise and divisor. No
two of them touch the same number, so where a number ends is all that an attacker who sees every step could
know of one canary (Nasr et al. 2023; Steinke, Nasr and Jagielski 2023). Real rows take no part.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tg_workbench.engine.networks import RowModel
from tg_workbench.engine.specs import BOOK_KEEPING, OptimizerSpec, PrivacySpec, TrainerSpec
from tg_workbench.engine.trainer import Trainer
from tg_workbench.errors import Interrupted
from tg_workbench.privacy import PoissonSampler, SecureRandom

_FAR = 1e3
"""How many times further than a number can move lies what it is drawn to: every gradient is clipped."""

_MOST_NUMBERS = 1 << 24
"""Engines that keep a gradient of every number for every example get so many at once."""


@dataclass(frozen=True, slots=True)
class SeenCanaries:
    """What came of each canary. `scores` [canaries]: how far its number moved; `present`: its coin."""

    scores: NDArray[np.float64]
    present: NDArray[np.bool_]
    steps: int


class _Numbers(nn.Module):
    """One number per canary: the answer to a canary is its number."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.numbers = nn.Embedding(count, 1)
        nn.init.zeros_(self.numbers.weight)

    def forward(self, features: Tensor) -> Tensor:
        answer: Tensor = self.numbers(features[:, 0].long())
        return answer


def learn_canaries(
    privacy: PrivacySpec,
    *,
    canaries: int,
    sample_rate: float,
    steps: int,
    expected_batch_size: float,
    longest_seconds: float = math.inf,
    should_stop: Callable[[], bool] = lambda: False,
) -> SeenCanaries:
    """Take `steps` private steps on canaries, each there by a fair coin; fewer if time runs out first.

    Raises Interrupted once `should_stop` says so.
    """
    random = SecureRandom()
    present = random.uniforms(canaries) < 0.5
    inside = np.flatnonzero(present)
    model = _Numbers(canaries)
    trainer = _trainer(model, privacy, expected_batch_size)
    sampler = PoissonSampler(len(inside), sample_rate)
    reach = privacy.max_grad_norm * (steps + 10.0 * privacy.noise_multiplier * math.sqrt(steps) + 1.0)
    part = None if privacy.engine == BOOK_KEEPING else max(1, _MOST_NUMBERS // canaries)
    deadline, taken = time.monotonic() + longest_seconds, 0
    while taken < steps and (taken == 0 or time.monotonic() < deadline):
        if should_stop():
            raise Interrupted
        drawn = inside[sampler.draw()].astype(np.float32)[:, None]
        batch = {"features": drawn, "targets": np.full_like(drawn, _FAR * reach)}
        trainer.forward_backward(batch, micro_batch_size=part, allow_empty=True)
        trainer.optim_step()
        taken += 1
    with torch.no_grad():
        moved: NDArray[np.float64] = model.numbers.weight[:, 0].double().cpu().numpy().copy()
    return SeenCanaries(moved, present, taken)


def _trainer(model: _Numbers, privacy: PrivacySpec, expected_batch_size: float) -> Trainer:
    """A step moves each number by its part of the noisy sum: the rate undoes the divisor."""
    spec = TrainerSpec(
        model_ref="gradient canaries",
        architecture=None,
        lora=None,
        optimizer=OptimizerSpec("sgd", learning_rate=expected_batch_size, weight_decay=0.0),
        loss="mse",
        privacy=privacy,
        expected_batch_size=expected_batch_size,
        cache_folder=Path(),
    )
    return Trainer(spec, network=RowModel(model, (1,), 1))
