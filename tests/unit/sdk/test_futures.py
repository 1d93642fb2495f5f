from __future__ import annotations

import asyncio
import time

import pytest

from tests.unit.sdk.resources.scripted_server import ScriptedServer, answer, hang_up, later
from tg_workbench.errors import BudgetExhausted, DeadlineExceeded, NoGradient, OperationCancelled
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.futures import Future
from tg_workbench.sdk.values import OptimStep

PENDING = {"future_id": "fut-1", "operation": "optim_step", "status": "pending"}
RUNNING = {**PENDING, "status": "running"}
DONE = {**PENDING, "status": "completed", "result": {"step": 7, "learning_rate": 0.1, "dp_metrics": None}}


def failed(code: str, **details: object) -> dict[str, object]:
    return {**PENDING, "status": "failed", "error": {"code": code, "message": "no", "details": details}}


@pytest.fixture
def future(connection: Connection) -> Future[OptimStep]:
    return Future(connection, PENDING, OptimStep.from_wire)


def test_a_result_is_waited_for(server: ScriptedServer, future: Future[OptimStep]) -> None:
    server.script = [answer(PENDING), hang_up, answer(RUNNING), answer(DONE)]
    assert future.result() == OptimStep(step=7, learning_rate=0.1)
    assert server.seen[0].path == "/api/v1/futures/fut-1?wait=40.000"


def test_a_final_answer_is_asked_for_once(server: ScriptedServer, future: Future[OptimStep]) -> None:
    server.script = [answer(DONE)]
    assert future.result() == future.result()
    assert future.done()
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (failed("NO_GRADIENT"), NoGradient),
        (failed("DP_BUDGET_EXCEEDED", spent_epsilon=3.0), BudgetExhausted),
        ({**PENDING, "status": "cancelled", "error": None}, OperationCancelled),
        ({**failed("FUTURE_CANCELLED"), "status": "cancelled"}, OperationCancelled),
    ],
)
def test_a_failure_is_raised_and_can_be_read(
    server: ScriptedServer, future: Future[OptimStep], record: object, kind: type[Exception]
) -> None:
    server.script = [answer(record)]
    with pytest.raises(kind):
        future.result()
    assert isinstance(future.exception(), kind)


def test_a_timeout_leaves_the_operation_running(server: ScriptedServer, future: Future[OptimStep]) -> None:
    server.script = [later(0.1, answer(RUNNING)), later(0.1, answer(RUNNING)), answer(DONE)]
    with pytest.raises(DeadlineExceeded, match="fut-1"):
        future.result(timeout=0.15)
    assert future.result().step == 7


async def _beats(future: Future[OptimStep]) -> tuple[OptimStep, int]:
    """Await a future and count how often the loop could do something else meanwhile."""
    count = 0

    async def beat() -> None:
        nonlocal count
        while True:
            await asyncio.sleep(0.01)
            count += 1

    task = asyncio.create_task(beat())
    result = await future
    task.cancel()
    return result, count


def test_awaiting_leaves_the_event_loop_free(server: ScriptedServer, future: Future[OptimStep]) -> None:
    server.script = [later(0.3, answer(DONE))]
    result, beats = asyncio.run(_beats(future))
    assert result.step == 7
    assert beats > 5


def test_a_cancelled_await_lets_the_program_end(server: ScriptedServer, future: Future[OptimStep]) -> None:
    server.script = [later(0.5, answer(RUNNING))]
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(_beats(future), 0.1))
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("success", [True, False])
def test_cancel_says_whether_it_came_in_time(
    server: ScriptedServer, future: Future[OptimStep], success: bool
) -> None:
    server.script = [answer({"success": success})]
    assert future.cancel() is success
    assert server.seen[0].path == "/api/v1/futures/fut-1/cancel"
