"""The zygote as the dispatcher sees it: started once, asked to fork, listened to for exits."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tg_workbench.execution.work import Assignment

MOST_LOG_BYTES = 5_000_000
FORK_SECONDS = 20.0


class Zygote:
    """A child process that forks workers.

    Started again when it has died; ready once it has imported everything.
    """

    def __init__(self, logs: Path, entry_points: dict[str, str], on_exit: Callable[[], None]) -> None:
        self.logs = logs
        self.entry_points = entry_points
        self.on_exit = on_exit
        self.exits: dict[int, str] = {}  # pid → how it ended, until the dispatcher takes note
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._started: dict[tuple[str, int], int] = {}
        self._news = threading.Condition()

    def is_ready(self) -> bool:
        """Whether it can fork now. Asking starts it when it is not running."""
        if self._process is None or self._process.poll() is not None:
            self._launch()
        return self._ready

    def fork(self, assignment: Assignment) -> int:
        """Start a worker and return its process id. Raises RuntimeError when the zygote does not answer."""
        process, key = self._process, (assignment.work_id, assignment.epoch)
        if process is None or process.stdin is None:
            raise RuntimeError("the zygote was not started")
        with self._news:
            process.stdin.write((assignment.as_line() + "\n").encode())
            process.stdin.flush()
            self._news.wait_for(lambda: key in self._started or process.poll() is not None, FORK_SECONDS)
            if key not in self._started:
                process.kill()
                raise RuntimeError("the zygote did not fork; see logs/workers.log in TG_HOME")
            return self._started.pop(key)

    def trim_log(self) -> None:
        """Put a long log aside. Copied and cut, because living workers go on writing at its end."""
        log = self._log
        if log.exists() and log.stat().st_size > MOST_LOG_BYTES:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)

    def close(self) -> None:
        """End the zygote. The workers it forked live on."""
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _launch(self) -> None:
        self._ready = False
        command = [sys.executable, "-P", "-m", "tg_workbench.execution.zygote"]
        command += [f"{kind}={path}" for kind, path in self.entry_points.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module, words of our own
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    @property
    def _log(self) -> Path:
        self.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self.logs / "workers.log"

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        for line in process.stdout or ():
            message = json.loads(line)
            with self._news:
                if "ready" in message:
                    self._ready = True
                elif "started" in message:
                    self._started[message["started"], message["epoch"]] = message["pid"]
                elif "exited" in message:
                    self.exits[message["exited"]] = message["how"]
                self._news.notify_all()
            if "started" not in message:
                self.on_exit()
        with self._news:
            self._news.notify_all()
