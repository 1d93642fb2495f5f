"""The dispatcher as the API sees it: a child process that is started, kept alive and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys

from tg_workbench.settings import Settings

STOP_SECONDS = 10.0
RESTART_SECONDS = 0.5


class DispatcherProcess:
    """Keeps `python -m tg_workbench dispatch` running for as long as this process lives.

    Its standard input is a pipe from here: when this process is killed, the dispatcher sees the end of it
    and goes, while the workers stay for the next one. When this process stops in order, so do they.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it and keep it started."""
        self._spawn()
        self._watch = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Stop it: every worker saves itself first."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        process = self._process
        if process is None:
            return
        process.terminate()
        for _ in range(int(STOP_SECONDS / 0.02)):
            if process.poll() is not None:
                return
            await asyncio.sleep(0.02)
        process.kill()

    def _spawn(self) -> None:
        environment = {
            **os.environ,
            "TG_HOME": str(self.settings.home),
            "DATABASE_URL": self.settings.database_url,
            "TG_MAX_WORKERS": str(self.settings.max_workers),
            "TG_MAX_JOBS": str(self.settings.max_jobs),
            "TG_MAX_INFERENCE_WORKERS": str(self.settings.max_inference_workers),
            "TG_WORKER_IDLE_SECONDS": str(int(self.settings.worker_idle_seconds)),
        }
        environment.pop("TG_API_KEY", None)  # the dispatcher and the workers authenticate nobody
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tg_workbench", "dispatch"],
            stdin=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RESTART_SECONDS)
            if self._process is not None and self._process.poll() is not None:
                self._spawn()
