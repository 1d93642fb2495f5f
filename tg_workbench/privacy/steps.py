"""GaussianStep: what the accountant has to know of one noisy release."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tg_workbench.errors import InvalidRequest

LEAST_NOISE_MULTIPLIER = 0.01
"""Less noise is refused: it hides nothing (ε is in the thousands), and accountants overflow far below."""


@dataclass(frozen=True, slots=True, order=True)
class GaussianStep:
    """One release: a sum of clipped gradients plus noise of `noise_multiplier` times the clipping bound.

    `sample_rate` is the probability with which each record was drawn; 1.0 when nobody sampled. Where larger
    draws are cut to `truncated_batch_size` records, at random, `dataset_size` says how many there are in all.
    """

    noise_multiplier: float
    sample_rate: float
    truncated_batch_size: int = 0
    """0: batches are never cut."""
    dataset_size: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.noise_multiplier < math.inf:
            raise InvalidRequest("noise_multiplier must be a finite number, zero or above")
        if not 0.0 <= self.sample_rate <= 1.0:
            raise InvalidRequest("sample_rate must be from 0 to 1")
        if (self.truncated_batch_size > 0) != (self.dataset_size > 0) or self.truncated_batch_size < 0:
            raise InvalidRequest(
                "truncated_batch_size needs the dataset_size it was drawn from, both above 0"
            )
        if self.is_truncated and not 0.0 < self.sample_rate < 1.0:
            raise InvalidRequest("truncated_batch_size is for batches that are drawn: a sample_rate below 1")

    @property
    def is_beyond_bounds(self) -> bool:
        """Whether so little noise is added to drawn records that no accountant is to be trusted with it."""
        return self.noise_multiplier < LEAST_NOISE_MULTIPLIER and 0.0 < self.sample_rate < 1.0

    @property
    def is_truncated(self) -> bool:
        """Whether larger batches were cut."""
        return self.truncated_batch_size > 0
