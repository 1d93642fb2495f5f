"""A training run: steps that the workbench takes by itself, followed from here.

It goes on when this kernel ends. `TrainingClient.attach` and its events find it again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Any

from tg_workbench.errors import WorkbenchError
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.events import ENDED, FOREVER, Event, EventStream, Subscription
from tg_workbench.sdk.futures import Future
from tg_workbench.sdk.progress import Bar, NotebookBar, Progress, bar_here
from tg_workbench.sdk.values import ClientView, TrainResult

Listener = Callable[[Progress], object]


class TrainingRun:
    """One `train`: `run.progress` now, `run.result()` or `await run` at its end, `run.stop()` before it."""

    def __init__(self, connection: Connection, client_id: str, record: Mapping[str, Any], bar: Bar) -> None:
        self.client_id = client_id
        self.future: Future[TrainResult] = Future(connection, record, TrainResult.from_wire)
        self._connection = connection
        self._bar = bar
        self._progress = Progress(total_steps=record.get("total_steps"))
        self._over = threading.Event()
        bar.show(self._progress, last=True)
        stream = EventStream(connection, client_id, record.get("after_event", 0), patience=FOREVER)
        self._subscription = Subscription(stream, self._follow)

    @property
    def id(self) -> str:
        """The id of its future."""
        return self.future.id

    @property
    def progress(self) -> Progress:
        """Where it stands, as far as its events have told; asks nobody."""
        return self._progress

    @property
    def status(self) -> str:
        """pending, running, completed, failed or cancelled."""
        return self.future.status

    def done(self) -> bool:
        """Whether it is over, well or not."""
        return self.future.done()

    def result(self, timeout: float | None = None) -> TrainResult:
        """Wait for its end.

        Raises BudgetExhausted when not one step was allowed, DeadlineExceeded after `timeout` seconds, and
        what else it failed with.
        """
        result = self.future.result(timeout)
        self._over.wait(1.0)  # so that the bar's last picture comes before what is printed next
        return result

    def stop(self) -> ClientView:
        """End it at the next step border. Its client stays usable and what it learned stays."""
        answer = self._connection.post(f"/workbench/v1/training_clients/{self.client_id}/stop")
        return ClientView.from_wire(answer)

    def __await__(self) -> Generator[Any, None, TrainResult]:
        """Wait for its end while the kernel stays free. Raises what `result` does."""
        return self._ended().__await__()

    async def _ended(self) -> TrainResult:
        result = await self.future
        await self._connection.off_loop(lambda: self._over.wait(1.0))
        return result

    def _follow(self, event: Event) -> None:
        """Take one event in. Those of an earlier run end with that run's own `operation` event."""
        if event.type == "operation" and event.data.get("operation") == "train":
            if event.data.get("future_id") != self.id:
                self._progress = Progress()
                return
            self._end()
            return
        self._progress = self._progress.after(event)
        self._bar.show(self._progress)
        if event.type == "status" and event.data.get("status") in ENDED:
            self._end()

    def _end(self) -> None:
        failure: WorkbenchError | None = self.future.exception(timeout=30.0)
        state, note = self.future.status, self._progress.note
        if failure is not None:
            note = str(failure)
        elif (result := self.future.result()).stopped:
            state, note = "stopped", result.reason or note
        self._progress = replace(self._progress, state=state, note=note)
        self._bar.show(self._progress, last=True)
        self._over.set()
        self._subscription.close()

    def __repr__(self) -> str:
        """Where it stands; asks nobody."""
        return f"<TrainingRun {self._progress}>"

    def _ipython_display_(self) -> None:
        """As the last line of a cell: the bar that this cell shows already, or a new one that moves on."""
        if isinstance(self._bar, NotebookBar) and self._bar.here:
            return
        self._bar = bar_here(wanted=True)
        self._bar.show(self._progress, last=True)
