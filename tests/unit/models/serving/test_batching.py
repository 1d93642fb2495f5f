"""Many callers are answered by one run, each with its own rows."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from tg_workbench.errors import ModelBusy, ModelFailed
from tg_workbench.models.serving import batching
from tg_workbench.models.serving.batching import Batcher

Array = np.ndarray[Any, Any]


class Network:
    """Doubles numbers, and remembers how many rows it was run on each time."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.may_run = threading.Event()
        self.may_run.set()

    def __call__(self, rows: Array) -> Array:
        self.may_run.wait(5)
        self.runs.append(len(rows))
        if (rows < 0).any():
            raise ModelFailed("a negative number")
        return rows * 2


@pytest.fixture
def network() -> Network:
    return Network()


def rows(number: float, count: int = 1) -> Array:
    return np.full((count, 2), number, np.float32)


def test_callers_who_come_while_it_runs_are_answered_together(network: Network) -> None:
    async def go() -> list[Array]:
        batcher = Batcher(network)
        network.may_run.clear()
        first = asyncio.create_task(batcher.ask(rows(0)))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(batcher.ask(rows(number, number))) for number in range(1, 6)]
        await asyncio.sleep(0.05)
        network.may_run.set()
        answers = await asyncio.gather(first, *others)
        await batcher.close()
        return answers

    answers = asyncio.run(go())
    for number, answer in enumerate(answers):
        np.testing.assert_array_equal(answer, rows(2 * number, max(1, number)))
    assert network.runs == [1, 15]


def test_a_question_that_fails_fails_alone(network: Network) -> None:
    async def go() -> list[Any]:
        batcher = Batcher(network)
        network.may_run.clear()
        asked = [asyncio.create_task(batcher.ask(rows(number))) for number in (0, 1, -1, 2)]
        await asyncio.sleep(0.05)
        network.may_run.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        await batcher.close()
        return answers

    answers = asyncio.run(go())
    assert [type(answer).__name__ for answer in answers] == ["ndarray", "ndarray", "ModelFailed", "ndarray"]


def test_a_long_question_is_computed_in_pieces(network: Network) -> None:
    async def go() -> Array:
        batcher = Batcher(network, most_rows=4)
        answer = await batcher.ask(np.arange(20, dtype=np.float32).reshape(10, 2))
        await batcher.close()
        return answer

    np.testing.assert_array_equal(asyncio.run(go()), 2 * np.arange(20).reshape(10, 2))
    assert network.runs == [4, 4, 2]


def test_whoever_has_gone_is_not_computed_for(network: Network) -> None:
    async def go() -> None:
        batcher = Batcher(network)
        network.may_run.clear()
        first = asyncio.create_task(batcher.ask(rows(0)))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(batcher.ask(rows(1, 100)))
        await asyncio.sleep(0.05)
        gone.cancel()
        network.may_run.set()
        await first
        await batcher.ask(rows(2))
        await batcher.close()

    asyncio.run(go())
    assert network.runs == [1, 1]


def test_a_queue_has_an_end(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MOST_WAITING", 10)

    async def go() -> None:
        batcher = Batcher(network)
        with pytest.raises(ModelBusy):
            await batcher.ask(rows(0, 11))
        await batcher.close()

    asyncio.run(go())
