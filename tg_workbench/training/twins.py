"""Twins: networks trained just as a client is, each on its own random half of the client's dataset.

They begin where every client of this architecture begins, so what is attacked is what is really run. Made
for LiRA and thrown away: nothing of the client changes. Nothing is charged either, so what they show answers
the curator only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tg_workbench.engine.networks import RowModel
from tg_workbench.engine.trainer import Trainer
from tg_workbench.errors import Interrupted, InvalidRequest
from tg_workbench.privacy import PoissonSampler, SecureRandom
from tg_workbench.training.rows import DatasetRows

FEWEST_ROWS = 40
"""With fewer, a half that is chosen by coins could be nobody."""
MOST_TWIN_STEPS = 50_000
MOST_WORK = 5 * 10**10
"""How many steps all twins together take, and how many times they look at an example with each number."""


@dataclass(frozen=True, slots=True)
class SeenRows:
    """The loss of every row under every twin, and whether that twin learned it: both [twins, rows]."""

    losses: NDArray[np.float64]
    present: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Twins:
    """So many twins of a client's trainer, that take so many steps at the client's own sample rate."""

    trainer: Trainer
    rows: DatasetRows
    sample_rate: float
    steps: int
    count: int

    def check(self) -> None:
        """Raise InvalidRequest for a language model, for few rows, and for what would take too long."""
        if not isinstance(self.trainer.network, RowModel):
            raise InvalidRequest("lira is for small networks of rows: audit a language model by canaries")
        if self.rows.size < FEWEST_ROWS:
            raise InvalidRequest(f"lira needs a dataset of at least {FEWEST_ROWS} rows")
        module = self.trainer.network.module
        numbers = sum(parameter.numel() for parameter in module.parameters())
        examples = self.count * (self.steps * self.sample_rate * self.rows.size / 2 + self.rows.size)
        if self.count * self.steps > MOST_TWIN_STEPS or examples * numbers > MOST_WORK:
            raise InvalidRequest(
                f"{self.count} twins of {self.steps} steps take too long for this network and dataset: ask "
                "for fewer twins or steps"
            )

    def learn(self, should_stop: Callable[[], bool]) -> SeenRows:
        """Train them one after the other. Raises Interrupted once `should_stop` says so."""
        present = SecureRandom().uniforms(self.count * self.rows.size).reshape(self.count, -1) < 0.5
        losses = [self._losses(np.flatnonzero(learned), should_stop) for learned in present]
        return SeenRows(np.stack(losses), present)

    def _losses(self, learned: NDArray[np.int64], should_stop: Callable[[], bool]) -> NDArray[np.float64]:
        """The losses of all rows after a twin has learned some: what its sum is divided by is halved too."""
        expected = self.trainer.spec.expected_batch_size
        twin = Trainer(replace(self.trainer.spec, expected_batch_size=expected and expected / 2))
        sampler = PoissonSampler(len(learned), self.sample_rate)
        for _ in range(self.steps):
            if should_stop():
                raise Interrupted
            twin.forward_backward(self.rows.take(learned[sampler.draw()].tolist()), allow_empty=True)
            twin.optim_step()
        return twin.each_loss(self.rows.take(slice(None)), should_stop=should_stop)
