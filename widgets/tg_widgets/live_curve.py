"""A live plot of numbers that arrive one by one: loss, ε, accuracy, over steps.

Points are sent as binary and appended; the kernel keeps a history of bounded size and hands it to every page
that opens the curve, so a reload, a second view or a Voila page shows all of it. `append` may be called from
any thread, as often as you like: points travel at most ten times a second, and the last ones always arrive.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import anywidget
import traitlets

from tg_widgets import assets
from tg_widgets.history import History
from tg_widgets.pace import Pace


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a curve: the name used to append to it, and how it is shown.

    `round_up` is for what must never look smaller than it is, such as ε.
    """

    name: str
    label: str = ""
    axis: Literal["left", "right"] = "left"
    digits: int = 4
    round_up: bool = False


class LiveCurve(anywidget.AnyWidget):
    """Named series over a common x, drawn as they grow.

    `note` is a short warning shown beside the title, such as "raw loss: not covered by ε".
    """

    _esm = assets.script("live_curve", "uplot/uPlot.iife.min.js")
    _css = assets.style("uplot/uPlot.min.css", "live_curve.css")

    title = traitlets.Unicode().tag(sync=True)
    x_label = traitlets.Unicode("step").tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)
    empty_text = traitlets.Unicode("Nothing has been measured yet.").tag(sync=True)
    log_scale = traitlets.Bool(False).tag(sync=True)
    smoothing = traitlets.Float(0.0, min=0.0, max=0.99).tag(sync=True)
    height = traitlets.Int(280, min=120).tag(sync=True)
    marks = traitlets.List(traitlets.Dict()).tag(sync=True)
    series = traitlets.List(traitlets.Dict(), read_only=True).tag(sync=True)

    def __init__(
        self, series: Sequence[Series | str] = ("loss",), *, capacity: int = 8192, **traits: Any
    ) -> None:
        """A curve of these series, each of which keeps about `capacity` points."""
        lines = [Series(one) if isinstance(one, str) else one for one in series]
        self._capacity = capacity
        self._histories = {line.name: History(capacity) for line in lines}
        self._unsent = {line.name: (array("d"), array("d")) for line in lines}
        self._sent_since_replay = 0
        self._replay_due = False
        self._is_watched = False
        self._lock = threading.RLock()
        self._pace = Pace(self._flush)
        super().__init__(**traits)
        self.set_trait("series", [asdict(line) for line in lines])
        self.on_msg(self._hear)

    def append(self, name: str, x: float | Iterable[float], y: float | Iterable[float]) -> None:
        """Add one point or many to the series `name`.

        An x at or before the last one means the run went back: the points from there on are replaced.
        """
        if name not in self._histories:
            raise ValueError(f"this curve has no series {name!r}; it has {', '.join(self._histories)}")
        xs, ys = array("d", _as_numbers(x)), array("d", _as_numbers(y))
        with self._lock:
            self._replay_due |= self._histories[name].extend(xs, ys)
            self._unsent[name][0].extend(xs)
            self._unsent[name][1].extend(ys)
        self._pace.ask()

    def clear(self) -> None:
        """Forget all points."""
        with self._lock:
            for history in self._histories.values():
                history.clear()
            self.marks = []
            self._replay_due = True
        self._pace.ask()

    def points(self, name: str) -> list[tuple[float, float]]:
        """The points that are kept of the series `name`."""
        with self._lock:
            return list(self._histories[name])

    def close(self) -> None:
        """Close the comm and stop sending."""
        self._is_watched = False
        self._pace.stop()
        super().close()

    # ------------------------------------------------------------------------- what the page is told
    def _hear(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        if content.get("type") == "ready":
            self._is_watched = self._replay_due = True
            self._pace.now()

    def _flush(self) -> None:
        with self._lock:
            if self._is_watched and (self._replay_due or self._page_holds_too_much()):
                self._post("replay", {name: history.columns() for name, history in self._histories.items()})
                self._sent_since_replay = 0
                self._replay_due = False
            elif self._is_watched:
                self._post("append", {name: columns for name, columns in self._unsent.items() if columns[0]})
                self._sent_since_replay += max(len(xs) for xs, _ in self._unsent.values())
            self._forget_unsent()

    def _page_holds_too_much(self) -> bool:
        thinned = any(history.is_thinned for history in self._histories.values())
        return thinned and self._sent_since_replay > self._capacity

    def _post(self, kind: str, columns: dict[str, tuple[array[float], array[float]]]) -> None:
        if columns or kind == "replay":
            buffers = [column.tobytes() for pair in columns.values() for column in pair]
            self.send({"type": kind, "series": list(columns)}, buffers)

    def _forget_unsent(self) -> None:
        for pair in self._unsent.values():
            for column in pair:
                del column[:]


def _as_numbers(values: float | Iterable[float]) -> Iterable[float]:
    return values if isinstance(values, Iterable) else (values,)
