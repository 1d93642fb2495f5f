"""A run: the `train` operation, which takes many steps on the server while the notebook does something else.

It can be paused, stopped and taken up again by another worker; what is left to do is stored with its
progress.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sqlmodel import Session

from tg_workbench.errors import BudgetExhausted, InvalidRequest, Refused
from tg_workbench.training.notices import TENTHS, tell_progress, tell_start
from tg_workbench.training.operating import Operator
from tg_workbench.training.rows import request_of
from tg_workbench.training.tables import Operation

TOLD_POINTS = ("step", "epsilon", "noisy_loss")
"""Of each point, what is covered by ε."""


class Leaving(Exception):
    """The run was interrupted at a step border; `progress` says how far it came."""

    def __init__(self, progress: dict[str, Any]) -> None:
        super().__init__("the worker leaves")
        self.progress = progress


class Run:
    """One `train` operation in a worker.

    `control` is asked at every step border: go on, hold, stop or leave.
    """

    def __init__(self, operator: Operator, operation: Operation, control: Callable[[], str]) -> None:
        self.operator = operator
        self.operation = operation
        self.control = control
        progress = operation.progress or {"first_step": operator.step}
        self.first_step: int = min(progress["first_step"], operator.step)
        self.told: int = progress.get("told", 0)
        self.total = self._wanted_steps()
        self.loss: float | None = None

    def go(self) -> dict[str, Any]:
        """Take the steps. Returns why it ended; raises Leaving when another worker has to go on.

        Raises Refused while a gradient waits: a run's first step would take it along.
        """
        if self.operator.trainer.pending:
            raise Refused("a gradient waits for its step: call optim_step before train")
        if self.operation.progress is None:
            self.operator.queue.write(self._begin)
        reason: str | None = None
        while self.done < self.total and reason is None:
            order = self.control()
            if order == "leave":
                raise Leaving(self._progress())
            if order == "stop":
                reason = "stopped"
            elif order == "go":
                reason = self._take_step()
            elif self.operator.points["step"]:  # held: what was taken is told and kept before the waiting
                self._report(force=True)
                self.operator.autosave(force=True)
        self._report(force=True)
        self.operator.autosave(force=True)
        return {
            "steps_done": self.done,
            "step": self.operator.step,
            "stopped": reason is not None,
            "reason": reason,
            "loss": self.loss,
            "privacy": self.operator.client_values()["privacy"],
        }

    @property
    def done(self) -> int:
        """Steps taken since the run began, whichever worker took them."""
        return self.operator.step - self.first_step

    def _take_step(self) -> str | None:
        """One step; a spent budget ends the run in order, with the reason."""
        outcome = self.operator.learn_sampled()
        if outcome.num_examples:
            self.loss = outcome.loss
        try:
            self.operator.apply(self.operation)
        except BudgetExhausted as end:
            self.operator.trainer.discard()
            return str(end)
        self._report()
        self.operator.autosave()
        return None

    def _begin(self, session: Session) -> None:
        self.operation.progress = self._progress()
        self.operator.queue.note_progress(session, self.operation, self.operation.progress)
        tell_start(session, self.operation, self.total)

    def _report(self, *, force: bool = False) -> None:
        self.operator.flush(force=force, total=self.total, done=self.done, also=self._store)

    def _store(self, session: Session) -> None:
        """With the points, in their transaction: the tenths that are told outside, and how far it came."""
        points = self.operator.points
        for row, step in enumerate(points["step"]):
            done = step - self.first_step
            tenth = TENTHS * done // self.total
            if tenth > self.told:
                self.told = tenth
                how = {name: points[name][row] for name in TOLD_POINTS if name in points}
                tell_progress(session, self.operation, 100 * tenth // TENTHS, steps_done=done, **how)
        self.operator.queue.note_progress(session, self.operation, self._progress())

    def _progress(self) -> dict[str, Any]:
        """`told` is the newest tenth that was told outside: another worker does not tell it again."""
        progress = {"first_step": self.first_step, "done": self.done, "total": self.total}
        return {**progress, "told": self.told}

    def _wanted_steps(self) -> int:
        request = request_of(self.operation)
        dataset_id = request.get("dataset_id") or self.operator.client.dataset_id
        if dataset_id is None or dataset_id != self.operator.client.dataset_id:
            raise InvalidRequest(
                "train draws from the dataset the client was created with: give it at creation"
            )
        if request.get("steps") is not None:
            steps: int = request["steps"]
            return steps
        _, rows = self.operator.dataset_rows(dataset_id)
        passes = float(request.get("epochs") or 1)
        batch_size: int = self.operator.client.config["batch_size"]
        return max(1, math.ceil(passes * rows.members / batch_size))
