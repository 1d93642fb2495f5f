from __future__ import annotations

import asyncio
import io
import re

import pytest

from tests.unit.sdk.resources.scripted_server import (
    ScriptedServer,
    answer,
    event,
    later,
    stream,
)
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.events import Event
from tg_workbench.sdk.progress import NoBar, Progress, TextBar
from tg_workbench.sdk.runs import TrainingRun

RECORD = {"future_id": "fut-2", "operation": "train", "status": "pending"}
PRIVACY = {
    "guarantee": "differential_privacy",
    "spent_epsilon": 1.5,
    "target_epsilon": 3.0,
    "mode": "sampled",
}


def progress(number: int, done: int, loss: float | None) -> bytes:
    points = {"step": [done], "loss": [loss], "epsilon": [1.5]}
    return event(
        number, "progress", points=points, step=done + 100, total_steps=10, done_steps=done, privacy=PRIVACY
    )


def ended(number: int, future_id: str, status: str = "completed") -> bytes:
    return event(number, "operation", future_id=future_id, operation="train", status=status, error=None)


def tell(server: ScriptedServer, *events: bytes, **future: object) -> None:
    """Events for the one who follows, the future for the one who waits."""
    server.routes = {
        "/events": stream(*events, hold=1.0),
        "/futures/": later(0.05, answer({**RECORD, **future})),
    }


def finished(run: TrainingRun) -> Progress:
    run._over.wait(5.0)
    return run.progress


def test_a_run_is_followed_to_its_end(server: ScriptedServer, connection: Connection) -> None:
    told = (progress(1, 4, 0.5), progress(2, 10, 0.25), ended(3, "fut-2"))
    tell(server, *told, status="completed", result={"steps_done": 10, "step": 110})
    run = TrainingRun(connection, "tc-1", RECORD, NoBar())
    end = finished(run)
    assert run.result().step == 110
    assert (end.done_steps, end.loss, end.fraction) == (10, 0.25, 1.0)
    assert str(end) == "completed · 10/10 steps · loss 0.25 · ε = 1.50 of 3.00 (sampled, per example)"


def test_an_earlier_run_is_not_taken_for_this_one(server: ScriptedServer, connection: Connection) -> None:
    told = (progress(1, 9, 0.1), ended(2, "fut-1"), ended(3, "fut-2"))
    tell(server, *told, status="completed", result={})
    end = finished(TrainingRun(connection, "tc-1", RECORD, NoBar()))
    assert (end.done_steps, end.loss) == (0, None)


@pytest.mark.parametrize(
    ("future", "words"),
    [
        ({"status": "completed", "result": {"stopped": True, "reason": "stopped"}}, "stopped · 4/10"),
        (
            {"status": "failed", "error": {"code": "WORKER_LOST", "message": "lost it"}},
            "failed · 4/10.*lost it",
        ),
        (
            {"status": "cancelled", "error": {"code": "FUTURE_CANCELLED", "message": "nope"}},
            "cancelled.*nope",
        ),
    ],
)
def test_the_bar_says_how_it_ended(
    server: ScriptedServer, connection: Connection, future: dict[str, object], words: str
) -> None:
    tell(server, progress(1, 4, 0.5), ended(2, "fut-2"), **future)
    run = TrainingRun(connection, "tc-1", RECORD, NoBar())
    finished(run)
    assert re.search(words, repr(run))


def test_a_run_is_awaited(server: ScriptedServer, connection: Connection) -> None:
    tell(server, status="completed", result={"step": 3})

    async def wait() -> int:
        return (await TrainingRun(connection, "tc-1", RECORD, NoBar())).step

    assert asyncio.run(wait()) == 3


def test_a_lost_worker_and_a_pause_are_said() -> None:
    running = Progress(state="running", done_steps=3, total_steps=10)
    lost = running.after(Event(1, "interrupted", data={"resumed_from": 2}))
    held = running.after(Event(2, "status", data={"paused": True, "status": "ready"}))
    assert "went on from step 2" in str(lost)
    assert held.state == "paused"


def test_a_log_file_gets_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    bar = TextBar()
    for done in range(5):
        bar.show(Progress(state="running", done_steps=done, total_steps=4))
    bar.show(Progress(state="completed", done_steps=4, total_steps=4), last=True)
    first, last = log.getvalue().splitlines()
    assert first.startswith("[····················] running · 0/4 steps")
    assert last.startswith("[████████████████████] completed · 4/4 steps")


def test_html_shows_no_markup_of_others() -> None:
    assert "<script>" not in Progress(note="<script>alert(1)</script>").as_html()
