"""Dynamic batching: what many callers ask at a time is answered by one run of the network, and split again.

A caller who is alone never waits. Where the last run answered several, the next one waits a moment for the
others to come back. A run that fails is done again for each caller alone, so only who caused it hears of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from tg_workbench.errors import ModelBusy, WorkbenchError

Array = np.ndarray[Any, Any]
WAIT_SECONDS = 0.002
MOST_ROWS = 256
"""Rows of one run."""
MOST_WAITING = 200_000
"""Rows that may wait at a time, of all callers."""


@dataclass(slots=True)
class _Asked:
    """One caller's rows, and where the answer goes."""

    features: Array
    answer: asyncio.Future[Array]


class Batcher:
    """Runs a function of [rows, …] → [rows, …] for many callers, in one thread."""

    def __init__(self, run: Callable[[Array], Array], most_rows: int = MOST_ROWS) -> None:
        self._run = run
        self._most_rows = most_rows
        self._thread = ThreadPoolExecutor(1, "network")
        self._queue: deque[_Asked] = deque()
        self._rows = 0
        self._news = asyncio.Event()
        self._several = 1
        self._work: asyncio.Task[None] | None = None

    async def ask(self, features: Array) -> Array:
        """The network's answer for these rows; whoever is cancelled is not computed for. Raises ModelBusy."""
        if self._rows + len(features) > MOST_WAITING:
            raise ModelBusy
        if self._work is None:
            self._work = asyncio.create_task(self._serve())
        asked = _Asked(features, asyncio.get_running_loop().create_future())
        self._queue.append(asked)
        self._rows += len(features)
        self._news.set()
        return await asked.answer

    async def close(self) -> None:
        """Let nobody be computed for any more."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _serve(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._several > 1 and len(self._queue) < self._several:
                await self._gather()
            while batch := self._next_batch():
                self._several = len(batch)
                await self._answer(batch)

    async def _gather(self) -> None:
        """Wait for as many callers as there were last time, but not for long."""
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        while len(self._queue) < self._several and self._rows < self._most_rows:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return
            try:
                await asyncio.wait_for(self._news.wait(), left)
            except TimeoutError:
                return
            self._news.clear()

    def _next_batch(self) -> list[_Asked]:
        """Whoever comes next, and who fits in beside them."""
        batch: list[_Asked] = []
        rows = 0
        while self._queue and (not batch or rows + len(self._queue[0].features) <= self._most_rows):
            asked = self._queue.popleft()
            self._rows -= len(asked.features)
            if not asked.answer.done():  # else its caller has gone
                batch.append(asked)
                rows += len(asked.features)
        return batch

    async def _answer(self, batch: list[_Asked]) -> None:
        together = batch[0].features
        if len(batch) > 1:
            together = np.concatenate([asked.features for asked in batch])
        try:
            scores = await self._computed(together)
        except WorkbenchError as failure:
            if len(batch) == 1:
                _fail(batch[0], failure)
                return
            for asked in batch:
                await self._answer([asked])
            return
        first = 0
        for asked in batch:
            last = first + len(asked.features)
            if not asked.answer.done():
                asked.answer.set_result(scores[first:last])
            first = last

    async def _computed(self, features: Array) -> Array:
        """In pieces of at most `most_rows`."""
        loop = asyncio.get_running_loop()
        pieces = range(0, len(features), self._most_rows)
        scores = [
            await loop.run_in_executor(self._thread, self._run, features[at : at + self._most_rows])
            for at in pieces
        ]
        return scores[0] if len(scores) == 1 else np.concatenate(scores)


def _fail(asked: _Asked, failure: WorkbenchError) -> None:
    if not asked.answer.done():
        asked.answer.set_exception(failure)
