"""How far something is, and the bar that shows it: live in a notebook, one line in a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from typing import Any, Protocol

from tg_workbench.sdk.events import Event
from tg_workbench.sdk.values import PrivacyView

SHOWN_EVERY = 0.2
LINE_EVERY = 10.0
"""How often a log file, which cannot overwrite its last line, gets one."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One moment of a training run. The loss is not covered by ε."""

    state: str = "pending"
    step: int = 0
    """Of the training client, over all its runs."""
    done_steps: int = 0
    """Of this run."""
    total_steps: int | None = None
    loss: float | None = None
    privacy: PrivacyView | None = None
    note: str = ""

    def after(self, event: Event) -> Progress:
        """The progress once this event is known."""
        data = event.data
        if event.type == "progress" and data.get("done_steps") is not None:
            losses = [loss for loss in (data.get("points") or {}).get("loss", []) if loss is not None]
            return replace(
                self,
                state="running",
                step=data.get("step", self.step),
                done_steps=data["done_steps"],
                total_steps=data.get("total_steps"),
                loss=losses[-1] if losses else self.loss,
                privacy=event.privacy or self.privacy,
            )
        if event.type == "interrupted":
            went_on = f"the worker was lost; went on from step {data.get('resumed_from')}"
            return replace(self, note=went_on)
        if event.type == "status" and self.state in ("running", "paused"):
            return replace(self, state="paused" if data.get("paused") else "running")
        return self

    @property
    def fraction(self) -> float:
        """From 0 to 1; 0 while the total is unknown."""
        return min(1.0, self.done_steps / self.total_steps) if self.total_steps else 0.0

    def __str__(self) -> str:
        """One line: state, steps, loss, ε, and what went wrong if anything did."""
        total = "" if self.total_steps is None else f"/{self.total_steps}"
        parts = [self.state, f"{self.done_steps}{total} steps"]
        if self.loss is not None:
            parts.append(f"loss {self.loss:.4g}")
        if self.privacy is not None:
            parts.append(str(self.privacy))
        if self.note:
            parts.append(self.note)
        return " · ".join(parts)

    def as_html(self) -> str:
        """The same with a bar, in the notebook's own colours."""
        return html_of(self.fraction if self.total_steps or self.state != "running" else None, str(self))


def html_of(fraction: float | None, words: str) -> str:
    """A bar, from 0 to 1 or without an end in sight, and words beside it, in the notebook's own colours."""
    value = "" if fraction is None else f' value="{fraction:.4f}"'
    return (
        '<div style="display:flex;align-items:center;gap:.75em;font-variant-numeric:tabular-nums">'
        f'<progress max="1"{value} style="width:16em;accent-color:var(--jp-brand-color1,#1976d2)">'
        f"</progress><span>{escape(words)}</span></div>"
    )


class Moment(Protocol):
    """One moment of something that takes long. `str` of it is one line."""

    @property
    def fraction(self) -> float:
        """From 0 to 1."""

    def as_html(self) -> str:
        """The same line with a bar."""


class Bar(Protocol):
    """Something that shows progress."""

    def show(self, progress: Moment, *, last: bool = False) -> None:
        """Show this moment; `last` is shown however soon it comes."""


class NoBar:
    """Shows nothing."""

    def show(self, progress: Moment, *, last: bool = False) -> None:
        """Nothing to do."""


class TextBar:
    """One line that overwrites itself on a terminal, a line now and then in a file."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._every = SHOWN_EVERY if self._stream.isatty() else LINE_EVERY
        self._shown = -self._every
        self._width = 0

    def show(self, progress: Moment, *, last: bool = False) -> None:
        """Write the line, unless one was written just now."""
        at = time.monotonic()
        if not last and at - self._shown < self._every:
            return
        self._shown = at
        filled = round(20 * progress.fraction)
        line = f"[{'█' * filled}{'·' * (20 - filled)}] {progress}"
        if self._stream.isatty():
            padded, self._width = line.ljust(self._width), len(line)
            line = f"\r{padded}{chr(10) if last else ''}"
        else:
            line = f"{line}\n"
        self._stream.write(line)
        self._stream.flush()


class NotebookBar:
    """An output of the cell that started the run, updated while other cells run."""

    def __init__(self) -> None:
        from IPython.display import display

        self._show: Any = display
        self._handle: Any = None
        self._shown = 0.0
        self._cell = _cell()

    @property
    def here(self) -> bool:
        """Whether the running cell is the one that shows it."""
        return self._cell is not None and self._cell == _cell()

    def show(self, progress: Moment, *, last: bool = False) -> None:
        """Update the output, unless that was done just now."""
        at = time.monotonic()
        if not last and at - self._shown < SHOWN_EVERY:
            return
        self._shown = at
        if self._handle is None:
            self._handle = self._show(_bundle(progress), raw=True, display_id=True)
        else:
            self._handle.update(_bundle(progress), raw=True)


def bar_here(*, wanted: bool) -> Bar:
    """The bar that suits where this code runs."""
    if not wanted:
        return NoBar()
    return NotebookBar() if _cell() is not None else TextBar()


def _cell() -> int | None:
    """The number of the running cell; None outside a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return int(shell.execution_count) if shell is not None and hasattr(shell, "kernel") else None


def _bundle(progress: Moment) -> Mapping[str, str]:
    return {"text/plain": str(progress), "text/html": progress.as_html()}
