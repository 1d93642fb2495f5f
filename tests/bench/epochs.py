"""An epoch of a job beside plain torch loops over the same batches: they take turns, step by step.

All start from the same weights, learn from the same public images in the same order with the same optimizer,
and have the same losses, or there is no result. One loop has the optimizer as torch makes it when nothing is
said; the other has it fused, as the job has it. The job also reports, saves itself and is steered, all of
which counts; what it measures at the end of an epoch is told beside it, for the plain loops measure nothing.

How often the job reports and saves itself are shares of its time: its clock stands still while the loops have
their turns, or it would spend those shares of all their times.
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
SAME = {True: 1e-5, False: 1e-2}
"""By which part the mean loss of an epoch may differ, where the optimizer is fused like the job's, or not.

They add up in other orders. Not fused it rounds otherwise too, and the difference grows: of such a loop only
the first epoch has to be the same.
"""
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
    ours, whole = turns.epochs_of_job()
    rows_found = []
    for loop, name in zip(turns.loops, ("plain torch (s)", "plain torch, fused (s)"), strict=True):
        peer = turns.epochs(loop.seconds)
        rows_found.append(beside(case, ours, peer, name) | {"target": f"at most {MOST}"})
        rows_found[-1]["met"] = rows_found[-1]["ratio"] <= MOST
    measured = beside(f"{case}, with what it measures", whole, peer, name)
    return [*rows_found, measured]


def beside(case: str, ours: list[float], peer: list[float], peer_name: str) -> Row:
    """Seconds of both, and the median over the epochs of how many times longer ours took."""
    ratio = statistics.median(mine / other for mine, other in zip(ours, peer, strict=True))
    seconds = {"ours": statistics.median(ours), "peer": statistics.median(peer), "peer_name": peer_name}
    return {"case": case, **seconds, "ratio": ratio}


class Turns:
    """Called at each border between two steps of a job: then each plain loop takes the same step."""

    def __init__(self, fit: Fit, rows: Rows) -> None:
        self.fit = fit
        self.loops = PlainLoop(fit, rows, fused=False), PlainLoop(fit, rows, fused=True)
        self.ours: list[float] = []
        self.measuring: list[float] = []
        self._measured = self._away = 0.0
        self._went_at: float | None = None
        self._measure = fit.operator.trainer.measure
        fit.operator.trainer.measure = self._timed  # type: ignore[method-assign,assignment]

    def take(self, fit: Fit) -> None:
        """End the job's step and take the loops'; what each has made is freed in its own time."""
        came_at = time.perf_counter()
        if self._went_at is not None:
            self.ours.append(came_at - self._went_at)
            self.measuring.append(self._measured)
        self._measured = 0.0
        for loop in self.loops[:: 1 if fit.step % 2 else -1]:  # neither always follows the job
            began = time.perf_counter()
            loop.step(fit.step)
            loop.seconds.append(time.perf_counter() - began)
        self._went_at = time.perf_counter()
        self._away += self._went_at - came_at

    def monotonic(self) -> float:
        """The job's clock."""
        return time.monotonic() - self._away

    def require_same_losses(self) -> None:
        """Refuse to compare those that did not do the same."""
        length = self.fit.course.steps_per_epoch
        for epoch, loss in enumerate(self.fit.history["loss"]):
            for loop in self.loops:
                other = statistics.mean(loop.losses[epoch * length : (epoch + 1) * length])
                if (loop.fused or not epoch) and not math.isclose(loss, other, rel_tol=SAME[loop.fused]):
                    raise ValueError(f"epoch {epoch + 1}: the job's loss is {loss}, the loop's {other}")

    def epochs(self, seconds: list[float]) -> list[float]:
        """The seconds of each step, added up by epoch.

        Of the last epoch the job's end was not seen, and the first is where all get warm: neither counts.
        """
        length = self.fit.course.steps_per_epoch
        firsts = range(length, len(self.ours) - length + 1, length)
        return [sum(seconds[first : first + length]) for first in firsts]

    def epochs_of_job(self) -> tuple[list[float], list[float]]:
        """Seconds of each epoch of the job: without what it measures, and with it."""
        whole, measuring = self.epochs(self.ours), self.epochs(self.measuring)
        return [all_of_it - part for all_of_it, part in zip(whole, measuring, strict=True)], whole

    def _timed(self, *arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return self._measure(*arguments)
        finally:
            self._measured += time.perf_counter() - began


class PlainLoop:
    """What one would write without a workbench."""

    def __init__(self, fit: Fit, rows: Rows, *, fused: bool) -> None:
        self.fit = fit
        self.fused = fused
        spec = fit.operator.trainer.spec
        self.module = build(spec.model_ref, spec.architecture, spec.cache_folder, seed=spec.seed).module
        self.optimizer = make_optimizer(self.module.parameters(), spec.optimizer)
        for group in self.optimizer.param_groups:
            group["fused"] = fused or None  # None: as torch decides when nothing is said
        self.features, self.targets = torch.from_numpy(rows[0]), torch.from_numpy(rows[1])
        self.losses: list[float] = []
        self.seconds: list[float] = []

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
