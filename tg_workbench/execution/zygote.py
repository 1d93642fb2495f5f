"""The zygote: a process that has imported what workers need and forks them in milliseconds.

It reads one assignment per line (JSON) on standard input and answers one line per start and per exit. It
never runs a tensor operation itself: a thread pool does not survive a fork. Its children lead their own
sessions, so they outlive it; when its input ends, it goes.

Usage: `python -m tg_workbench.execution.zygote KIND=MODULE:FUNCTION …`
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable

from tg_workbench.execution.work import Assignment

Run = Callable[[Assignment], None]
NICENESS = 10
"""Of a worker whose module says no other."""


def main(arguments: list[str]) -> None:
    """Preload, then fork on request until the input ends."""
    runs = {kind: _function(path) for kind, _, path in (argument.partition("=") for argument in arguments)}
    gc.collect()
    gc.freeze()  # keeps the collector from touching, and so copying, pages shared with the children
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # "make room", which a child that has just begun leaves be
    _say({"ready": True})
    pending = b""
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _report_exits()
        if 0 in ready:
            chunk = os.read(0, 65536)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                _fork(Assignment.from_line(line.decode()), runs)


def _fork(assignment: Assignment, runs: dict[str, Run]) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run = runs[assignment.kind]
            _become_worker(getattr(sys.modules[run.__module__], "NICENESS", NICENESS))
            run(assignment)
            code = 0
        except BaseException:  # noqa: BLE001 - the last line of a forked child: nothing may unwind into the zygote
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _say({"started": assignment.work_id, "epoch": assignment.epoch, "pid": pid})


def _become_worker(niceness: int) -> None:
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.nice(niceness)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)


def _report_exits() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say({"exited": pid, "how": describe_exit(os.waitstatus_to_exitcode(status))})


def describe_exit(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"ended with code {code}"


def _say(message: dict[str, object]) -> None:
    data = (json.dumps(message) + "\n").encode()
    try:
        os.write(1, data)
    except BrokenPipeError:
        sys.exit(0)


def _function(path: str) -> Run:
    module, _, name = path.partition(":")
    loaded = importlib.import_module(module)
    if preload := getattr(loaded, "preload", None):
        preload()
    function: Run = getattr(loaded, name)
    return function


if __name__ == "__main__":
    main(sys.argv[1:])
