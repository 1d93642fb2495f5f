"""Where a training client stands, as its events tell it: what a panel shows, and which buttons it offers."""

from __future__ import annotations

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
        """The same client, seen again: what only events tell (the run) is kept."""
        seen = Standing.of(view)
        return replace(self, status=seen.status, step=seen.step, reason=seen.reason)

    def after(self, event: Event) -> Standing:
        """The standing once this event is known."""
        data = event.data
        if event.type == "status":
            status = _status(str(data.get("status")), paused=bool(data.get("paused")))
            step, reason = data.get("step", self.step), data.get("reason")
            still = self.is_training and status not in (*ENDED, "ready")
            return replace(self, status=status, step=step, reason=reason, is_training=still)
        if event.type == "progress":
            return replace(
                self,
                step=data.get("step", self.step),
                is_training=data.get("done_steps") is not None,
                done_steps=data.get("done_steps"),
                total_steps=data.get("total_steps"),
                notice=self.notice if self.alarm else "",
            )
        if event.type == "operation":
            return self._after_operation(str(data.get("operation")), data.get("status"), data.get("error"))
        if event.type == "interrupted":
            return replace(self, notice=_interruption(data), alarm=True)
        return self

    def _after_operation(self, operation: str, status: object, error: object) -> Standing:
        told = error.get("message") if isinstance(error, dict) else None
        run_ended = operation == "train"
        after = replace(self, is_training=False, done_steps=None, total_steps=None) if run_ended else self
        if status == "failed":
            notice = f"{_NAMES.get(operation, operation)} failed: {told or 'no reason was given'}."
            return replace(after, notice=notice, alarm=True)
        if run_ended and status == "completed":
            return replace(after, notice=f"The run is over, after {self.done_steps or 0} steps.", alarm=False)
        return after

    @property
    def has_ended(self) -> bool:
        """Whether it can never train again."""
        return self.status in ENDED

    def actions(self) -> list[str]:
        """What can be asked of it now."""
        return list(_ACTIONS.get(self.status, ()))


_NAMES = {
    "train": "Training",
    "forward_backward": "forward_backward",
    "save_state": "Saving",
    "load_state": "Loading",
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


def _interruption(data: Any) -> str:
    lost = data.get("lost_steps") or 0
    again = f"; {lost} steps are taken again, their ε stays spent" if lost else ""
    return f"The worker was lost ({data.get('reason')}). Went on from step {data.get('resumed_from')}{again}."
