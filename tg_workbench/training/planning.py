"""Asking what a run would cost, from a process that holds no NumPy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any

from tg_workbench.errors import DeadlineExceeded, InvalidRequest

LONGEST_SECONDS = 60.0
_COMMAND = (sys.executable, "-P", "-m", "tg_workbench.privacy.planner")


async def ask_planner(question: dict[str, Any]) -> dict[str, Any]:
    """The planner's answer (`privacy.planner.Answer`). Raises InvalidRequest, DeadlineExceeded."""
    process = await asyncio.create_subprocess_exec(
        *_COMMAND, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(json.dumps(question).encode()), LONGEST_SECONDS)
    except TimeoutError:
        raise DeadlineExceeded("", "this plan takes too long to compute: ask for fewer steps") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    answer: dict[str, Any] = json.loads(said)
    if "error" in answer:
        raise InvalidRequest(answer["error"])
    return answer
