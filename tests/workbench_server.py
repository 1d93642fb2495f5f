"""A real workbench API in its own process: the `workbench_server` fixture, and the one for notebooks.

It runs as the Jupyter server extension runs it: the parent owns a Unix socket in a private folder and hands
it over as a file descriptor, so what is asked while the API restarts waits in the socket's queue; and the end
of a pipe tells it when the parent is gone, so a killed test run leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.secrets_in_logs import found_in

START_SECONDS = 60.0
STOP_SECONDS = 20.0


class WorkbenchServer:
    """One running API with a home, a database, a socket and a key of its own."""

    def __init__(self, **variables: str) -> None:
        """Start it and wait until it is ready; `variables` join its environment."""
        self.home = Path(tempfile.mkdtemp(prefix="tgw-"))
        self.socket = self.home / "api.sock"
        self.api_key = f"tgw-{secrets.token_urlsafe(32)}"
        self.database_url = f"sqlite:///{self.home / 'tgsp.db'}"
        self.log = self.home / "server.log"
        self._variables = variables
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket))
        self._listener.listen(128)
        self._lifeline = os.pipe()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The API process; after `kill`, the one that was killed."""
        assert self._process is not None, "the server was never started"
        return self._process.pid

    @property
    def environment(self) -> dict[str, str]:
        """What a kernel or a script needs to find this workbench."""
        return {"TG_SOCKET": str(self.socket), "TG_API_KEY": self.api_key}

    def client(self, *, timeout: float = 60.0) -> httpx.Client:
        """A plain HTTP client, signed in with the key."""
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket)),
            base_url="http://workbench",
            headers={"Authorization": f"Bearer {self.api_key}"},
            timeout=timeout,
        )

    def start(self) -> None:
        """Start the process on the socket and wait until it answers that it is ready."""
        variables = {
            "TG_HOME": str(self.home),
            "DATABASE_URL": self.database_url,
            "TG_API_KEY": self.api_key,
            **self._variables,
        }
        fd, life = self._listener.fileno(), self._lifeline[0]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tg_workbench", "serve", "--fd", str(fd), "--death-fd", str(life)],
                pass_fds=[fd, life],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **variables},
                cwd=self.home,
                start_new_session=True,
            )
        self._wait_until_ready(self._process)

    def kill(self) -> None:
        """`kill -9` the API process; its workers live on, and nothing but `restart` starts it again."""
        assert self._process is not None, "the server was never started"
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Stop the API in order if it still runs, then start it again on the same socket, home and key."""
        self._terminate()
        self.start()

    def stop(self) -> None:
        """Stop it and everything it started, and remove its home; its logs must hold no secret."""
        self._terminate()
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._listener.close()
        for end in self._lifeline:
            os.close(end)
        told = found_in([self.log, *self.home.glob("logs/*")])
        shutil.rmtree(self.home, ignore_errors=True)
        assert told == [], "secrets in the logs"

    def processes(self) -> list[psutil.Process]:
        """Every living process of this workbench (API, dispatcher, workers): they share its `TG_HOME`."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return bool(process.environ().get("TG_HOME") == str(self.home))
        except psutil.Error:
            return False

    def _terminate(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        with self.client(timeout=5.0) as client:
            while process.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/ready").status_code == 200:
                        return
                time.sleep(0.05)
        tail = self.log.read_text(errors="replace")[-4000:]
        raise RuntimeError(f"the workbench did not get ready (exit status {process.poll()}):\n{tail}")


@pytest.fixture(scope="session")
def workbench_server() -> Iterator[WorkbenchServer]:
    """A running workbench, shared by the session: tests that kill it start it again before they end."""
    server = WorkbenchServer()
    yield server
    server.stop()


# Fixtures do not reach notebook items, so these hooks give each notebook a workbench: started at the first
# one, named in the environment only while a notebook runs, and stopped with the session.

_notebook_server = pytest.StashKey[WorkbenchServer]()
_own_home = os.environ.get("TG_HOME", "")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before a notebook: a workbench its kernel will find."""
    if item.path.suffix == ".ipynb":
        server = _started(item.config)
        os.environ.update(server.environment, TG_HOME=str(server.home))


def _started(config: pytest.Config) -> WorkbenchServer:
    """The workbench of the notebooks, set up as Jupyter does it."""
    if _notebook_server not in config.stash:
        config.stash[_notebook_server] = WorkbenchServer(TG_WEBHOOK_ALLOW_LOOPBACK="true")
    return config.stash[_notebook_server]


@pytest.fixture
def notebook_server(pytestconfig: pytest.Config) -> WorkbenchServer:
    """The workbench of the notebooks, for a test about them: what it leaves there they will find."""
    return _started(pytestconfig)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """After a notebook: no other test finds that workbench."""
    if item.path.suffix == ".ipynb":
        os.environ.pop("TG_SOCKET", None)
        os.environ.pop("TG_API_KEY", None)
        os.environ["TG_HOME"] = _own_home


def pytest_unconfigure(config: pytest.Config) -> None:
    """At the end: stop the notebooks' workbench, if one was started."""
    server = config.stash.get(_notebook_server, None)
    if server is not None:
        server.stop()
