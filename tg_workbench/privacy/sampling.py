"""PoissonSampler: batches in which every record takes part by its own coin, and the rate it was.

Records are rows, or units where people own several rows.
"""

from __future__ import annotations

import numpy as np

from tg_workbench.privacy.randomness import SecureRandom


class PoissonSampler:
    """Draws batches of `size` records, each present with probability `sample_rate`, independently.

    A batch may be empty or larger than expected; that is what amplification by sampling is proved for. The
    sampler itself says its `sample_rate`, so that the accountant never has to be told another. With a
    `truncated_batch_size` a larger draw is cut to so many of its records, chosen at random, which costs a
    little more ε (truncated Poisson sampling, arXiv 2508.15089).
    """

    def __init__(
        self,
        size: int,
        sample_rate: float,
        rng: SecureRandom | None = None,
        *,
        truncated_batch_size: int = 0,
    ) -> None:
        if size < 1:
            raise ValueError("a sampler needs at least one record")
        if not 0.0 < sample_rate <= 1.0:
            raise ValueError("sample_rate must be above 0 and at most 1")
        if truncated_batch_size < 0:
            raise ValueError("truncated_batch_size must be above 0, or 0 for none")
        self.size = size
        self.truncated_batch_size = truncated_batch_size
        self.sample_rate = sample_rate
        self._rng = rng or SecureRandom()

    @property
    def expected_batch_size(self) -> float:
        """The public number that sums of gradients are divided by, whatever the batch's true size."""
        return self.size * self.sample_rate

    def draw(self) -> list[int]:
        """The record numbers of the next batch, in order."""
        present = np.flatnonzero(self._rng.uniforms(self.size) < self.sample_rate)
        most = self.truncated_batch_size
        if most and len(present) > most:
            ranked = np.argsort(self._rng.uniforms(len(present)), kind="stable")
            present = np.sort(present[ranked[:most]])
        drawn: list[int] = present.tolist()
        return drawn
