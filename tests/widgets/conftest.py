"""What the widget tests start from: a wire that can be read, a real JupyterLab, a real browser."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import comm
import pytest
from comm.base_comm import BaseComm
from playwright.sync_api import Browser

from tests.widgets.lab import Lab, running_chromium


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


class Wire:
    """Every message the widgets of a test send to their page, and a page that reads curves from them."""

    def __init__(self) -> None:
        self.comms: dict[str, BaseComm] = {}
        self.messages: list[tuple[str, dict[str, Any], list[bytes]]] = []

    def comm(self, **options: Any) -> BaseComm:
        """A comm that writes to this wire; takes the place of a kernel's."""
        wire = self

        class WiredComm(BaseComm):
            def publish_msg(
                self,
                msg_type: str,
                data: Any = None,
                metadata: Any = None,
                buffers: Any = None,
                **keys: Any,
            ) -> None:
                if msg_type == "comm_msg":
                    wire.messages.append((self.comm_id, data, list(buffers or [])))

        made = WiredComm(**options)
        self.comms[made.comm_id] = made
        return made

    def say(self, widget: Any, content: dict[str, Any]) -> None:
        """The page sends a custom message to a widget."""
        data = {"method": "custom", "content": content}
        widget.comm.handle_msg({"content": {"data": data}, "buffers": []})

    def sent(self, widget: Any) -> list[tuple[dict[str, Any], list[bytes]]]:
        """The custom messages a widget has sent."""
        return [
            (data["content"], buffers)
            for comm_id, data, buffers in self.messages
            if comm_id == widget.comm.comm_id and data.get("method") == "custom"
        ]

    def drawn(self, curve: Any, name: str = "loss") -> list[tuple[float, float]]:
        """The points a page that listened from the start would draw."""
        points: list[tuple[float, float]] = []
        for content, buffers in self.sent(curve):
            if content["type"] == "replay":
                points = []
            if name in content["series"]:
                at = 2 * content["series"].index(name)
                points += zip(array("d", buffers[at]), array("d", buffers[at + 1]), strict=True)
        return points


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    """A wire in place of a kernel's."""
    wire = Wire()
    monkeypatch.setattr(comm, "create_comm", wire.comm)
    return wire


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    """A JupyterLab with the whole product in it."""
    lab = Lab()
    yield lab
    lab.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. It is closed with the module, for no other event loop can run beside Playwright's."""
    with running_chromium() as browser:
        yield browser
