"""Points: what each step came to since the last time they were told, and what the newest one spent."""

from __future__ import annotations

from typing import Any

from tg_workbench.engine.trainer import ForwardBackward, OptimStep
from tg_workbench.training.budget import Charged
from tg_workbench.training.plan import Plan

SAMPLED = "sampled"
"""The mode in which the server draws the batch: nothing that tells its size leaves."""


class Points:
    """The points of one training client. A step's loss is the mean over all it has learned from."""

    def __init__(self, plan: Plan | None, dp_metrics: dict[str, Any] | None) -> None:
        self.dp_metrics = dp_metrics
        """What the newest step spent, and did to its gradient; None without privacy."""
        self._plan = plan
        self._losses: list[tuple[float, int]] = []
        self._last_pass: ForwardBackward | None = None
        self.columns = self._none()

    def saw(self, outcome: ForwardBackward) -> None:
        """A pass over a batch, which a step will be taken from."""
        self._last_pass = outcome
        if outcome.num_examples:
            self._losses.append((outcome.loss, outcome.num_examples))

    def add(self, taken: OptimStep, charged: Charged | None) -> None:
        """A step that was taken, and what it was charged; None: it was not private."""
        examples = sum(count for _, count in self._losses)
        loss = sum(value * count for value, count in self._losses) / examples if examples else None
        self._losses.clear()
        self.columns["step"].append(taken.step)
        self.columns["loss"].append(loss)
        self.columns["epsilon"].append(charged.total_epsilon if charged else None)
        if "noisy_loss" in self.columns:
            self.columns["noisy_loss"].append(taken.noisy_loss)
        if charged is None or self._plan is None:
            self.dp_metrics = None
            return
        seen = self._last_pass
        self.dp_metrics = {
            "noise_applied": taken.noise_applied,
            "epsilon_spent": charged.step_epsilon,
            "total_epsilon": charged.total_epsilon,
            "delta": self._plan.delta,
            "grad_norm_before_clip": seen.grad_norm if seen else None,
            "grad_norm_after_clip": seen.grad_norm_after_clip if seen else None,
            "num_clipped": seen.num_clipped if seen and self._plan.mode != SAMPLED else None,
            "noisy_loss": taken.noisy_loss,
        }

    def begin_anew(self) -> None:
        """The points are told: what comes now stands in columns of its own."""
        self.columns = self._none()

    def _none(self) -> dict[str, list[Any]]:
        columns = ["step", "loss", "epsilon"]
        if self._plan is not None and self._plan.noisy_loss_bound is not None:
            columns.append("noisy_loss")
        return {column: [] for column in columns}
