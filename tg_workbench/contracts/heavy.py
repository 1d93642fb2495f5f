"""Heavy work: what a large body takes is done in threads, so that probes, feeds and other callers go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.requests import Request

from tg_workbench.contracts.premises import premises_of

SMALL_BYTES = 256 << 10
T = TypeVar("T")


async def off_loop(request: Request, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function of a request's body; for a large body in a thread, and not many at a time."""
    if len(await request.body()) < SMALL_BYTES:
        return function(*arguments)
    async with premises_of(request).heavy:
        return await asyncio.to_thread(function, *arguments)
