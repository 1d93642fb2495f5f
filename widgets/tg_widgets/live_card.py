"""A widget that shows what it sees of a workbench, and asks for what a page's buttons say.

Everything it asks it asks from threads, and only while a page shows it: showing it starts nothing but looks.
Without a workbench it says so and looks again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import traitlets

from tg_widgets.fields import sentence
from tg_widgets.watch import Watch
from tg_workbench.errors import CallFailed, NotFound, WorkbenchError
from tg_workbench.sdk import Campaign, Dataset, Model, Workbench
from tg_workbench.sdk.connection import Connection

LOOKING, CONNECTED, UNREACHABLE, GONE = "looking", "connected", "unreachable", "gone"
SECONDS_AFTER_A_FAILURE = 3.0
MOST_DONE_AT_ONCE = 8
_UNEXPECTED = "something unexpected went wrong; the kernel's log has the details"


class LiveCard(anywidget.AnyWidget):
    """What `JobsTable` and the cards have in common: looking, being asked, and saying what went wrong.

    A kind of card says what it looks at (`_look`), what of that its page may have (`_face`), and what its
    page may ask for (`_allows`, `_ask`).
    """

    shown = traitlets.Dict().tag(sync=True)
    """All that the page shows; `connection` is looking, connected, unreachable or gone."""

    def __init__(self, source: Workbench | Dataset | Model | Campaign | None = None, **traits: Any) -> None:
        """`source` is what leads to the workbench; None: the one this notebook runs on."""
        super().__init__(**traits)
        self._source = source
        self._lock = threading.RLock()
        self._connection, self._problem, self._error = LOOKING, "", ""
        self._doing: list[tuple[str, str]] = []
        self._views = 0  # on how many pages it is shown
        self._watch = Watch(self._take_a_look, f"tg-{type(self).__name__}")
        self.on_msg(self._hear)
        self._show()

    def close(self) -> None:
        """Stop looking and close the widget. What runs on the workbench runs on."""
        watch = getattr(self, "_watch", None)  # there is none when it was refused to be made
        if watch is not None:
            watch.close()
        super().close()

    # ------------------------------------------------------------------------- for each kind of card
    def _look(self, connection: Connection) -> float:
        """Look, keep what is seen, and say in how many seconds to look again; runs in a thread."""
        raise NotImplementedError

    def _face(self) -> Mapping[str, Any]:
        """What the page shows of what was seen."""
        raise NotImplementedError

    def _allows(self, action: str, values: Mapping[str, Any]) -> bool:
        """Whether the page may ask for this."""
        return False

    def _ask(self, action: str, values: Mapping[str, Any], connection: Connection) -> None:
        """Do what the page has asked for; runs in a thread."""

    # ------------------------------------------------------------------------- looks
    def _take_a_look(self) -> float:
        seconds, connection, problem = SECONDS_AFTER_A_FAILURE, UNREACHABLE, _UNEXPECTED
        try:
            reached = self._reached()
            reached.look("/health")  # asks once and fails at once, where other calls would be patient
            seconds, connection, problem = self._look(reached), CONNECTED, ""
        except NotFound as failure:
            connection, problem = GONE, str(failure)
        except WorkbenchError as failure:
            problem = str(failure)
        finally:
            with self._lock:
                self._connection, self._problem = connection, problem
            if not self._watch.is_closed:
                self._show()
        return seconds

    def _reached(self) -> Connection:
        """The connection. Raises CallFailed, saying how to start a workbench, when there is none."""
        if self._source is None:
            self._source = Workbench()
        connection: Connection | None = self._source._connection
        if connection is None:
            raise CallFailed("this comes from no workbench: wb.datasets[name] and wb.models[name] do")
        return connection

    def _show(self) -> None:
        with self._lock:
            self.shown = {
                "connection": self._connection,
                "problem": self._problem and sentence(self._problem),
                "error": self._error and sentence(self._error),
                "doing": [f"{action} {subject}".strip() for action, subject in self._doing],
                **self._face(),
            }

    # ------------------------------------------------------------------------- what is asked
    def _hear(self, _widget: object, content: Mapping[str, Any], buffers: Sequence[Any]) -> None:
        """Take in what a page says; returns at once."""
        action, values = content.get("action"), content.get("values")
        if action == "ready":
            self._views += 1
            self._watch.start()
        elif action == "gone":
            self._views = max(0, self._views - 1)
            if not self._views:
                self._watch.rest()
        elif action == "retry":
            self._watch.start()
            self._watch.look_now()
        elif action == "dismiss":
            self._error = ""
            self._show()
        elif isinstance(action, str):
            asked = dict(values) if isinstance(values, Mapping) else {}
            self._begin(action, {**asked, "buffers": list(buffers or ())})

    def _begin(self, action: str, values: Mapping[str, Any]) -> None:
        """Do it in a thread, unless it is being done already."""
        doing = (action, str(values.get("id") or ""))
        with self._lock:
            if doing in self._doing or len(self._doing) >= MOST_DONE_AT_ONCE:
                return
            if not self._allows(action, values):
                return
            self._doing.append(doing)
        name = f"tg-{type(self).__name__}-{action}"
        threading.Thread(target=self._do, args=(doing, values), name=name, daemon=True).start()

    def _do(self, doing: tuple[str, str], values: Mapping[str, Any]) -> None:
        self._error = ""
        self._show()
        error = _UNEXPECTED
        try:
            self._ask(doing[0], values, self._reached())
            error = ""
        except WorkbenchError as failure:
            error = str(failure)
        finally:
            with self._lock:
                self._doing.remove(doing)
                self._error = error
            self._show()
            self._watch.look_now()
