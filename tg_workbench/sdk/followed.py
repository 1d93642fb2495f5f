"""What goes on at the workbench by itself, to its end: waited for, awaited, or shown as a bar that moves."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from typing import Any, Generic, Protocol, Self, TypeVar

from tg_workbench.errors import CallFailed, DeadlineExceeded, WorkbenchError
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.progress import Bar, Moment, NoBar, NotebookBar, bar_here

LOOK_EVERY_SECONDS = 0.3


class Seen(Protocol):
    """How it stood at one moment."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it."""

    @property
    def moment(self) -> Moment:
        """How far it was."""


View = TypeVar("View", bound=Seen)


class Followed(ABC, Generic[View]):
    """A handle to it. `view` is the last that was told, and `refresh` asks."""

    def __init__(self, connection: Connection, view: View) -> None:
        self._connection = connection
        self._view = view
        self._bar: Bar | None = None

    @property
    def id(self) -> str:
        """Its id: keep it, and it is found again by it."""
        return self._view.id

    @property
    def name(self) -> str:
        """What it is called."""
        return self._view.name

    @property
    def view(self) -> View:
        """The last view taken; asks nobody."""
        return self._view

    @abstractmethod
    def refresh(self) -> View:
        """Ask the workbench how it stands."""

    @abstractmethod
    def _goes_on(self) -> DeadlineExceeded:
        """What whoever waits for some time only is told."""

    @abstractmethod
    def _require_good_end(self) -> None:
        """Raises what a bad end is told by."""

    # ------------------------------------------------------------------------- how it waits
    def wait(self, timeout: float | None = None, *, progress: bool = True) -> Self:
        """Wait for its end, with a bar, and return it. Raises DeadlineExceeded after `timeout` seconds."""
        for pause in self._until_over(self._bar_of(wanted=progress), timeout):
            time.sleep(pause)
            self.refresh()
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        """The same while the kernel stays free."""
        return self._ended().__await__()

    async def _ended(self) -> Self:
        for pause in self._until_over(self._bar_of(wanted=True), None):
            await asyncio.sleep(pause)
            await self._connection.off_loop(self.refresh)
        return self

    def _bar_of(self, *, wanted: bool) -> Bar:
        """The bar that the running cell shows already, or a new one: a cell shows a thing once."""
        if not wanted:
            return NoBar()
        if not (isinstance(self._bar, NotebookBar) and self._bar.here):
            self._bar = bar_here(wanted=True)
        return self._bar

    def _until_over(self, bar: Bar, timeout: float | None) -> Iterator[float]:
        """Pauses before each look; ends when it is over. Raises what `wait` does."""
        deadline = None if timeout is None else time.monotonic() + timeout
        yield 0.0
        pause = 0.05
        while not self.view.is_over:
            bar.show(self.view.moment)
            if deadline is not None and time.monotonic() >= deadline:
                raise self._goes_on()
            yield pause
            pause = min(LOOK_EVERY_SECONDS, 1.5 * pause)
        bar.show(self.view.moment, last=True)
        self._require_good_end()

    def _ipython_display_(self) -> None:
        """As the last line of a cell: a bar that moves on while other cells run."""
        if isinstance(self._bar, NotebookBar) and self._bar.here:
            return
        self._bar = bar_here(wanted=True)
        self._bar.show(self.view.moment, last=True)
        name = f"tg-{type(self).__name__.lower()}-bar"
        threading.Thread(target=self._show_on, args=(self._bar,), name=name, daemon=True).start()

    def _show_on(self, bar: Bar) -> None:
        """Move a bar until the end, through restarts of the API; what is gone ends it."""
        while not self.view.is_over:
            time.sleep(LOOK_EVERY_SECONDS)
            try:
                self.refresh()
            except CallFailed:
                continue
            except WorkbenchError:
                return
            bar.show(self.view.moment, last=self.view.is_over)
