"""What is told outside of a run: that it began, each tenth of it, and how it ended.

A stopped run, and one whose budget is spent, completes: its model is as good as its last step. `accuracy` is
null, for a run measures none; and nothing of a raw loss, a batch or an error's text is in any of them.
"""

from __future__ import annotations

from typing import Any

from sqlmodel import Session

from tg_workbench.outbox import Outbox, WebhookEvent
from tg_workbench.training.tables import Operation, TrainingClient

TENTHS = 10
_PRIVACY = ("guarantee", "mode", "unit", "target_epsilon", "delta", "spent_epsilon")


def tell_start(session: Session, run: Operation, total_steps: int) -> None:
    """The run takes its first step next."""
    _put(session, run, WebhookEvent.TRAINING_STARTED, status="running", total_steps=total_steps)


def tell_progress(session: Session, run: Operation, percent: int, **how: Any) -> None:
    """Another tenth is done."""
    _put(session, run, WebhookEvent.TRAINING_PROGRESS, status="running", progress=percent, **how)


def tell_end(session: Session, run: Operation, status: str, record: dict[str, Any] | None) -> None:
    """The run is over; `record` is its result, or its error. Cancelled before it began, it was none."""
    record = record or {}
    if status == "completed":
        stopped, reason = record["stopped"], record["reason"]
        _put(
            session,
            run,
            WebhookEvent.TRAINING_COMPLETED,
            status="stopped" if stopped else "completed",
            reason=reason if reason in (None, "stopped") else "budget_exhausted",
            step=record["step"],
            steps_done=record["steps_done"],
            accuracy=None,
            privacy={name: record["privacy"].get(name) for name in _PRIVACY},
        )
    elif status == "failed" or run.progress is not None:
        _put(session, run, WebhookEvent.TRAINING_FAILED, status=status, error=record.get("type"))


def _put(session: Session, run: Operation, event: WebhookEvent, **data: Any) -> None:
    client = session.get_one(TrainingClient, run.client_id)
    known = {"job_id": run.id, "model_id": client.id, "dataset_id": client.dataset_id}
    Outbox(session).put(client.tenant_id, event, known | data, owner_id=client.owner_id)
