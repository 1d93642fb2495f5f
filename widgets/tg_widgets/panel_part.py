"""A part of a training panel on the page: its bar (state, buttons) or its details (form, checkpoints).

It shows what the panel tells it and says what was asked for; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import traitlets

from tg_widgets import assets

Intent = Callable[[str, Mapping[str, Any]], None]


class PanelPart(anywidget.AnyWidget):
    """Shows `now` (what changes often) and `lists` (what changes rarely); hands each intent to `act`."""

    _esm = assets.script("panel_part")
    _css = assets.style("panel_part.css")

    part = traitlets.Enum(("bar", "details"), default_value="bar").tag(sync=True)
    now = traitlets.Dict().tag(sync=True)
    lists = traitlets.Dict().tag(sync=True)

    def __init__(self, part: str, act: Intent) -> None:
        self._act = act
        super().__init__(part=part)
        self.on_msg(self._hear)

    def _hear(self, _widget: object, content: Mapping[str, Any], _buffers: object) -> None:
        action, values = content.get("action"), content.get("values")
        if isinstance(action, str):
            self._act(action, values if isinstance(values, dict) else {})
