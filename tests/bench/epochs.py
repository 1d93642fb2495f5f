"""An epoch of a job beside a plain torch loop over the same batches: the two take turns, step by step.

Both start from the same weights, learn from the same public images in the same order with the same optimizer,
and have the same losses, or there is no result. The job also reports, saves itself and is steered, all of
which counts; what it measures at the end of an epoch is told beside it, for the plain loop measures nothing.

How often the job reports and saves itself are shares of its time: its clock stands still while the loop has
its turn, or it would spend those shares of both their times.
"""

from __future__ import annotations

import ctypes
import math
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F

from tests.claims.one_job import OneJob, Rows
from tg_workbench.engine.architectures import build
from tg_workbench.engine.optimizers import make_optimizer
from tg_workbench.training import operating
from tg_workbench.training.fitting import Fit

CASES = (("cnn", (3, 32, 32), 2500, 64, 20), ("resnet18", (3, 32, 32), 320, 32, 9))
"""Model, shape of an image, images, batch size, epochs."""
MOST = 1.03
SAME = 1e-5
"""By which part the mean loss of an epoch may differ: the two add up in another order."""
HEAP = {-1: 512 << 20, -3: 32 << 20}
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD: what is freed stays in the heap both share.

Else it goes back to the system whenever it happens to lie last, and who asks for it next has it made anew:
thousands of page faults in a step, or none, of the one or of the other, as luck has it.
"""
Row = dict[str, Any]


def main() -> list[Row]:
    """Measure each model, and return the rows."""
    for setting, value in HEAP.items():
        ctypes.CDLL(None).mallopt(setting, value)
    torch.set_num_threads(1)
    return [row for case in CASES for row in compared(*case)]


def compared(model: str, shape: tuple[int, ...], images: int, batch_size: int, epochs: int) -> list[Row]:
    """A job of `model`, beside a plain loop."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (images, *shape), dtype=np.uint8), rng.integers(0, 10, images)
    with TemporaryDirectory(prefix="tgw-") as home:
        asked = {"model_type": model, "batch_size": batch_size, "epochs": epochs, "seed": 1}
        job = OneJob(Path(home), rows, privacy="public", **asked)
        turns = Turns(job.fit, rows)
        with patch.object(operating, "time", turns):
            job.done(turns.take)
    turns.require_same_losses()
    case = f"{model}, {'×'.join(map(str, shape))}, batches of {batch_size}: an epoch"
    ours, peer, whole = turns.epochs()
    ratio = statistics.median(mine / other for mine, other in zip(ours, peer, strict=True))
    beside = statistics.median(mine / other for mine, other in zip(whole, peer, strict=True))
    seconds = {
        "ours": statistics.median(ours),
        "peer": statistics.median(peer),
        "peer_name": "plain torch (s)",
    }
    measured = {**seconds, "ours": statistics.median(whole), "ratio": beside}
    return [
        {"case": case, **seconds, "ratio": ratio, "target": f"at most {MOST}", "met": ratio <= MOST},
        {"case": f"{case}, with what it measures", **measured},
    ]


class Turns:
    """Called at each border between two steps of a job: then the plain loop takes the same step."""

    def __init__(self, fit: Fit, rows: Rows) -> None:
        self.fit = fit
        self.loop = PlainLoop(fit, rows)
        self.ours: list[float] = []
        self.peer: list[float] = []
        self.measuring: list[float] = []
        self._measured = self._away = 0.0
        self._went_at: float | None = None
        self._measure = fit.operator.trainer.measure
        fit.operator.trainer.measure = self._timed  # type: ignore[method-assign,assignment]

    def take(self, fit: Fit) -> None:
        """End the job's step and take the loop's; what either has made is freed in its own time."""
        came_at = time.perf_counter()
        if self._went_at is not None:
            self.ours.append(came_at - self._went_at)
            self.measuring.append(self._measured)
        self._measured = 0.0
        began = time.perf_counter()
        self.loop.step(fit.step)
        self._went_at = time.perf_counter()
        self.peer.append(self._went_at - began)
        self._away += self._went_at - came_at

    def monotonic(self) -> float:
        """The job's clock."""
        return time.monotonic() - self._away

    def require_same_losses(self) -> None:
        """Refuse to compare two that did not do the same."""
        length, ours = self.fit.course.steps_per_epoch, self.fit.history["loss"]
        for epoch, loss in enumerate(ours):
            other = statistics.mean(self.loop.losses[epoch * length : (epoch + 1) * length])
            if not math.isclose(loss, other, rel_tol=SAME):
                raise ValueError(f"epoch {epoch + 1}: the job's loss is {loss}, the loop's {other}")

    def epochs(self) -> tuple[list[float], list[float], list[float]]:
        """Seconds of each epoch: of the job without measuring, of the loop, and of the whole job.

        Of the last epoch the end was not seen, and the first is where both get warm: neither counts.
        """
        length = self.fit.course.steps_per_epoch
        ours, peer, whole = [], [], []
        for first in range(length, len(self.ours) - length + 1, length):
            steps = slice(first, first + length)
            peer.append(sum(self.peer[steps]))
            whole.append(sum(self.ours[steps]))
            ours.append(whole[-1] - sum(self.measuring[steps]))
        return ours, peer, whole

    def _timed(self, *arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return self._measure(*arguments)
        finally:
            self._measured += time.perf_counter() - began


class PlainLoop:
    """What one would write without a workbench."""

    def __init__(self, fit: Fit, rows: Rows) -> None:
        self.fit = fit
        spec = fit.operator.trainer.spec
        self.module = build(spec.model_ref, spec.architecture, spec.cache_folder, seed=spec.seed).module
        self.optimizer = make_optimizer(self.module.parameters(), spec.optimizer)
        self.features, self.targets = torch.from_numpy(rows[0]), torch.from_numpy(rows[1])
        self.losses: list[float] = []

    def step(self, number: int) -> None:
        """Step `number` of all."""
        epoch, within = divmod(number, self.fit.course.steps_per_epoch)
        if not within:
            order = self.fit.course.pass_over(epoch, self.fit.state["order"])
            self.batches = torch.from_numpy(order).split(self.fit.course.batch_size)
        drawn = self.batches[within]
        features = self.features[drawn].float().div_(255)
        loss = F.cross_entropy(self.module(features), self.targets[drawn])
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()  # here and not before: then neither side keeps memory while the other runs
        self.losses.append(loss.item())
