"""Keeps the API running for as long as Jupyter runs, and not a moment longer.

The child gets the listening socket and a death pipe by file descriptor. It starts with Jupyter, is started
again when it ends for whatever reason, and goes when Jupyter goes: asked first, then killed with its group.
If Jupyter itself is killed, the pipe's end tells the child.

**Pitfalls.** The socket accepts connections whether or not a child lives: being connected proves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tg_server_extension.outage import outage
from tg_server_extension.problem import Problem
from tg_workbench.errors import WorkbenchError

LOG_BYTES = 10 * 1024 * 1024
TAIL_BYTES = 2000
LOOK_SECONDS = 5.0
STEADY_SECONDS = 2.0  # who was up for so long is started again at once


@dataclass(frozen=True)
class Plan:
    """What is run, and how long to wait for what."""

    command: tuple[str, ...]
    """`--fd N --death-fd M` is appended to it."""
    start_seconds: float = 60.0
    """A child that has not answered for so long, at its start or later, is killed and started again."""
    outage_seconds: float = 20.0
    """Requests wait this long for an API that is down; after that they are told so."""
    grace_seconds: float = 20.0
    """How long the child may take to stop before it is killed."""
    longest_pause: float = 10.0
    """The longest pause between two attempts to start it."""


class Supervisor:
    """One API process after another on the same socket."""

    def __init__(
        self,
        plan: Plan,
        listener: socket.socket,
        environment: Callable[[], Mapping[str, str]],
        log_file: Path,
        log: logging.Logger,
    ) -> None:
        """Nothing runs before `start`. `environment` is asked before each attempt of a child."""
        self._plan = plan
        self._listener = listener
        self._environment = environment
        self._log_file = log_file
        self._log = log
        self._process: Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._death_pipe = os.pipe()
        self._reason = ""

    def start(self) -> None:
        """Start the API and keep it running. Returns at once."""
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ask the API to stop, wait for it, and kill what is left of it."""
        if self._keeper is None:
            return
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        if self._process is not None:
            await self._end(self._process, self._plan.grace_seconds)
        for end in self._death_pipe:
            os.close(end)
        self._keeper = None

    # ------------------------------------------------------------------------------- one child after another
    async def _keep(self) -> None:
        pause, down_since = 0.0, time.monotonic()
        while True:
            came_up = await self._run_once()
            if came_up is not None:
                down_since = time.monotonic()
            lasted = came_up is not None and time.monotonic() - came_up > STEADY_SECONDS
            pause = 0.0 if lasted else min(self._plan.longest_pause, max(0.25, pause * 2))
            self._log.error("The TG Workbench API %s Starting it again in %.2f s.", self._reason, pause)
            await self._rest(pause, down_since + self._plan.outage_seconds)

    async def _run_once(self) -> float | None:
        """Run one child to its end. Returns when it first answered, if it ever did."""
        began = time.monotonic()
        try:
            process = self._process = await self._spawn()
        except (OSError, WorkbenchError) as error:
            self._reason = f"could not be started: {error}."
            return None
        came_up = await self._wait_until_up(process)
        if came_up is not None:
            self._log.info("The TG Workbench API is up after %.1f s (pid %d).", came_up - began, process.pid)
            await self._wait_until_silent(process)
        is_silent = process.returncode is None
        if is_silent:
            await self._end(process, 1.0)
        status = await process.wait()
        self._process = None
        how = (
            f"did not answer in {self._plan.start_seconds:.0f} s"
            if is_silent
            else f"ended with status {status}"
        )
        self._reason = f"{how}. {self._tail()}"
        return came_up

    async def _rest(self, pause: float, deadline: float) -> None:
        quiet = min(pause, max(0.0, deadline - time.monotonic()))
        await asyncio.sleep(quiet)
        if quiet < pause:
            message = (
                f"The TG Workbench API is not running: it {self._reason} "
                "It is started again every few seconds; if this stays, restart Jupyter."
            )
            async with outage(self._listener, Problem(503, "SERVICE_UNAVAILABLE", message)):
                await asyncio.sleep(pause - quiet)

    # ------------------------------------------------------------------------------- one child
    async def _spawn(self) -> Process:
        fds = (self._listener.fileno(), self._death_pipe[0])
        environment = dict(self._environment())
        self._log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._log_file.exists() and self._log_file.stat().st_size > LOG_BYTES:
            self._log_file.replace(self._log_file.with_suffix(".log.1"))
        with self._log_file.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self._plan.command,
                *("--fd", str(fds[0]), "--death-fd", str(fds[1])),
                pass_fds=fds,
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
                env=environment,
                start_new_session=True,
            )

    async def _wait_until_up(self, process: Process) -> float | None:
        """When the child first answered; None if it ended or took too long."""
        probe = asyncio.create_task(self._probe())
        ended = asyncio.create_task(process.wait())
        try:
            done, _ = await asyncio.wait(
                {probe, ended}, timeout=self._plan.start_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:  # also when Jupyter stops meanwhile: a probe on its way would end in a loop that is closed
            await _let_go(probe, ended)
        return time.monotonic() if probe in done and ended not in done else None

    async def _wait_until_silent(self, process: Process) -> None:
        """Return when the child has ended, or lives but has not answered for long."""
        ended = asyncio.create_task(process.wait())
        silence = self._plan.start_seconds
        heard = time.monotonic()
        probe: asyncio.Task[None] | None = None
        try:
            while time.monotonic() - heard < silence:
                await asyncio.wait({ended}, timeout=min(LOOK_SECONDS, silence / 4))
                probe = asyncio.create_task(self._probe())
                # Of a child that ended the probe hears nothing for long, and nobody need wait for that.
                await asyncio.wait({ended, probe}, timeout=silence / 4, return_when=asyncio.FIRST_COMPLETED)
                if probe.done():
                    heard = time.monotonic()
                await _let_go(probe)
                if ended.done():
                    return
        finally:
            await _let_go(ended, *(() if probe is None else (probe,)))

    async def _probe(self) -> None:
        connector = aiohttp.UnixConnector(self._listener.getsockname())
        async with aiohttp.ClientSession(connector=connector) as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get("http://workbench/live"):
                        return
                await asyncio.sleep(0.1)

    async def _end(self, process: Process, grace: float) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace)
        except TimeoutError:
            self._log.warning("The TG Workbench API did not stop in %.0f s and is killed.", grace)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)

    def _tail(self) -> str:
        """The last thing it said, and where the rest is."""
        with contextlib.suppress(OSError), self._log_file.open("rb") as log:
            log.seek(max(0, self._log_file.stat().st_size - TAIL_BYTES))
            lines = log.read().decode(errors="replace").split("\n")
            said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
            return f"Its last words: {said} (log: {self._log_file})."
        return f"Its log cannot be read: {self._log_file}."


async def _let_go(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what is still on its way, and wait until it has left."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
