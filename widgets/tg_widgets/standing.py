"""Where a training client stands, as its events tell it: what a panel shows, and which buttons it offers.

Pitfalls: no event says "busy". A run is seen by its progress, and is over with its `operation` event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tg_workbench.sdk.events import Event
from tg_workbench.sdk.values import ClientView

ENDED = ("error", "terminated")


@dataclass(frozen=True, slots=True)
class Standing:
    """One moment of a training client. `notice` is the newest thing its reader ought to know."""

    client_id: str = ""
    model_ref: str = ""
    status: str = "none"
    """none (no client), initializing, ready, busy, paused, error or terminated."""
    step: int = 0
    reason: str | None = None
    is_training: bool = False
    done_steps: int | None = None
    total_steps: int | None = None
    notice: str = ""
    alarm: bool = False
    """Whether the notice tells of something that went wrong."""
    config: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, view: ClientView) -> Standing:
        """The standing that a client's view tells of."""
        return cls(
            client_id=view.training_client_id,
            model_ref=view.model_ref,
            status=_status(view.status, paused=view.paused),
            step=view.step,
            reason=view.reason,
            config=view.config,
        )

    def with_view(self, view: ClientView) -> Standing:
        """The same client, seen again; a view older than the events, which are quicker, changes nothing."""
        if view.training_client_id != self.client_id or view.step < self.step:
            return self
        seen = Standing.of(view)
        still = self.is_training and seen.status in ("busy", "paused", "initializing")
        return replace(self, status=seen.status, step=seen.step, reason=seen.reason, is_training=still)

    def asked_to_train(self) -> Standing:
        """The same client, which has accepted a run that nobody has heard of yet."""
        return replace(self, status="busy") if self.status == "ready" else self

    def after(self, event: Event) -> Standing:
        """The standing once this event is known."""
        data = event.data
        if event.type == "status":
            status = _status(str(data.get("status")), paused=bool(data.get("paused")))
            if status == "ready" and self.is_training:
                status = "busy"
            step, reason = data.get("step", self.step), data.get("reason")
            still = self.is_training and status not in ENDED
            return replace(self, status=status, step=step, reason=reason, is_training=still)
        if event.type == "progress":
            in_run = data.get("done_steps") is not None
            return replace(
                self,
                status="busy" if in_run and self.status == "ready" else self.status,
                step=data.get("step", self.step),
                is_training=in_run,
                done_steps=data.get("done_steps"),
                total_steps=data.get("total_steps"),
                notice=self.notice if self.alarm else "",
            )
        if event.type == "operation":
            return self._after_operation(data)
        if event.type == "interrupted":
            return replace(self, notice=_interruption(data), alarm=True)
        return self

    def _after_operation(self, data: Mapping[str, Any]) -> Standing:
        operation, error = str(data.get("operation")), data.get("error") or {}
        after = self
        if operation == "train":
            status = "ready" if self.status == "busy" else self.status
            after = replace(self, status=status, is_training=False, done_steps=None, total_steps=None)
        if data.get("status") == "failed":
            told = str(error.get("message") or "no reason was given").rstrip(".")
            happened = "was refused" if error.get("code") in _REFUSALS else "failed"
            return replace(
                after, notice=f"{_NAMES.get(operation, operation)} {happened}: {told}.", alarm=True
            )
        if operation == "train" and data.get("status") == "completed":
            return replace(after, notice=f"The run is over, after {self.done_steps or 0} steps.", alarm=False)
        return after

    def actions(self) -> list[str]:
        """What can be asked of it now."""
        return list(_ACTIONS.get(self.status, ()))


_REFUSALS = ("DP_BUDGET_EXCEEDED", "PRIVACY_REFUSED", "NO_GRADIENT", "CONFLICT")
_NAMES = {
    "train": "Training",
    "forward_backward": "forward_backward",
    "save_state": "Saving",
    "load_state": "Loading",
    "audit": "Auditing",
    "evaluate": "Evaluating",
}
_ACTIONS = {
    "none": ("create",),
    "initializing": ("terminate",),
    "ready": ("train", "save", "load", "terminate"),
    "busy": ("pause", "stop", "terminate"),
    "paused": ("resume", "stop", "terminate"),
    "error": ("create", "terminate"),
    "terminated": ("create",),
}


def _status(status: str, *, paused: bool) -> str:
    return "paused" if paused and status not in ENDED else status


def _interruption(data: Mapping[str, Any]) -> str:
    lost = data.get("lost_steps") or 0
    again = f"; {lost} steps are taken again, their ε stays spent" if lost else ""
    return f"The worker was lost ({data.get('reason')}). Went on from step {data.get('resumed_from')}{again}."
