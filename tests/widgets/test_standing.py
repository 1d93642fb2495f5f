from __future__ import annotations

from typing import Any

from tg_widgets.standing import Standing

from tg_workbench.sdk.events import Event
from tg_workbench.sdk.values import ClientView


def told(standing: Standing, *events: tuple[str, dict[str, Any]]) -> Standing:
    for number, (kind, data) in enumerate(events, start=1):
        standing = standing.after(Event(number, kind, data=data))
    return standing


READY = Standing(client_id="tc-1", model_ref="mlp", status="ready")
PROGRESS = ("progress", {"step": 5, "done_steps": 5, "total_steps": 20})


def test_progress_of_a_run_makes_a_client_busy() -> None:
    standing = told(READY, PROGRESS)
    assert (standing.status, standing.is_training, standing.done_steps) == ("busy", True, 5)
    assert "pause" in standing.actions()
    assert "save" not in standing.actions()


def test_the_end_of_a_run_makes_it_ready_and_is_told() -> None:
    standing = told(READY, PROGRESS, ("operation", {"operation": "train", "status": "completed"}))
    assert (standing.status, standing.is_training) == ("ready", False)
    assert standing.notice == "The run is over, after 5 steps."
    assert "train" in standing.actions()


def test_a_pause_offers_to_resume_and_a_resumed_run_is_busy_again() -> None:
    paused = told(READY, PROGRESS, ("status", {"status": "ready", "paused": True, "step": 5}))
    assert paused.status == "paused"
    assert "resume" in paused.actions()
    resumed = told(paused, ("status", {"status": "ready", "paused": False, "step": 5}))
    assert resumed.status == "busy"


def test_a_refused_operation_says_why() -> None:
    error = {"code": "DP_BUDGET_EXCEEDED", "message": "the privacy budget of this run is spent"}
    standing = told(READY, ("operation", {"operation": "train", "status": "failed", "error": error}))
    assert standing.notice == "Training was refused: the privacy budget of this run is spent."
    assert standing.alarm


def test_a_lost_worker_is_told_and_stays_told_while_the_run_goes_on() -> None:
    lost = {"reason": "killed", "step": 9, "resumed_from": 4, "lost_steps": 5}
    standing = told(READY, PROGRESS, ("interrupted", lost), PROGRESS)
    assert "Went on from step 4; 5 steps are taken again, their ε stays spent." in standing.notice


def test_a_client_that_ended_can_only_be_replaced() -> None:
    standing = told(READY, PROGRESS, ("status", {"status": "terminated", "step": 5}))
    assert standing.actions() == ["create"]
    assert not standing.is_training


def test_a_view_older_than_the_events_changes_nothing() -> None:
    standing = told(READY, PROGRESS)
    assert standing.with_view(ClientView("tc-1", "mlp", "ready", step=3)) == standing
    assert standing.with_view(ClientView("tc-2", "mlp", "error", step=9)) == standing
    assert standing.with_view(ClientView("tc-1", "mlp", "busy", step=7)).step == 7
