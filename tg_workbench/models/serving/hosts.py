"""A host: an opened model, and what it does with a question."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from tg_workbench.models.serving.frames import Frame

Tell = Callable[[Frame], Awaitable[None]]
"""What takes a piece of an answer that is not the last."""


class Host(Protocol):
    """Answers until it is closed."""

    async def answer(self, asked: Frame, tell: Tell) -> Frame:
        """The last frame of the answer; those before it are told. Raises WorkbenchError."""
        ...

    async def close(self) -> None:
        """Compute nothing any more."""
        ...
