"""A real Jupyter Server in its own process, with the extension and a backend of our choice."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

BACKEND = Path(__file__).parent / "resources" / "backend.py"
OTHERS = ("jupyterlab", "jupyter_lsp", "jupyter_server_terminals", "notebook_shim", "voila.server_extension")
START_SECONDS = 60.0


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What the condition says once it is true of the world; fails when it never is."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"never came true: {condition}"
        time.sleep(0.02)
    return value


def listening_port(process: subprocess.Popen[bytes], runtime: Path, log: Path) -> int:
    """The port of a Jupyter Server that was started, once it takes connections.

    Jupyter writes its `jpserver-*.json` before its event loop runs and binds the port only then: who reads
    the file in between is refused. Raises `AssertionError` when it ends, with the end of its log, or when it
    does not listen in time.
    """

    def listening() -> int | None:
        assert process.poll() is None, log.read_text(errors="replace")[-4000:]
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError, ConnectionRefusedError):
            port = int(json.loads((runtime / f"jpserver-{process.pid}.json").read_text())["port"])
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return port
        return None

    return int(wait_until(listening, START_SECONDS))


class Jupyter:
    """One running Jupyter Server: its own home, runtime folder and token."""

    def __init__(
        self,
        *,
        base_url: str = "/",
        command: list[str] | None = None,
        extension: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        runtime: Path | None = None,
        **environ: str,
    ) -> None:
        """Start it, and wait until it answers."""
        enabled = {**dict.fromkeys(OTHERS, False), "tg_server_extension": True}
        self.home = Path(tempfile.mkdtemp(prefix="tgj-"))
        self.runtime = runtime or self.home / "runtime"
        self.token = secrets.token_hex(16)
        self.base_url = base_url
        self.log = self.home / "jupyter.log"
        command = [sys.executable, str(BACKEND)] if command is None else command
        config = {
            "ServerApp": {"jpserver_extensions": enabled, **(server or {})},
            "WorkbenchExtension": {**(extension or {}), **({"command": command} if command else {})},
        }
        (self.home / "config.json").write_text(json.dumps(config))
        self.process = self._spawn(environ)
        self.port = listening_port(self.process, self.runtime, self.log)

    def _spawn(self, environ: dict[str, str]) -> subprocess.Popen[bytes]:
        variables = {
            "HOME": str(self.home),
            "JUPYTER_RUNTIME_DIR": str(self.runtime),
            "JUPYTER_CONFIG_DIR": str(self.home / "config"),
            "JUPYTER_DATA_DIR": str(self.home / "data"),
            "JUPYTER_TOKEN": self.token,
            "TG_HOME": str(self.home / "workbench"),
            **environ,
        }
        options = [f"--ServerApp.base_url={self.base_url}", "--port=0", "--allow-root"]
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "jupyter_server", f"--config={self.home / 'config.json'}", *options],
                env={**os.environ, **variables},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    # ------------------------------------------------------------------------------- ways in
    @property
    def url(self) -> str:
        """Where the API is served."""
        return f"http://127.0.0.1:{self.port}{self.base_url}tg"

    @property
    def authorization(self) -> dict[str, str]:
        """Jupyter's token, as a header."""
        return {"Authorization": f"token {self.token}"}

    def client(self, **headers: str) -> httpx.Client:
        """A client that is logged in by token."""
        return httpx.Client(base_url=self.url, headers={**self.authorization, **headers}, timeout=60)

    def browser(self) -> httpx.Client:
        """A client that is logged in by cookie, as a browser is after the login page."""
        client = httpx.Client(base_url=self.url, timeout=60)
        client.get(f"http://127.0.0.1:{self.port}{self.base_url}tree?token={self.token}")
        client.get(f"http://127.0.0.1:{self.port}{self.base_url}login")  # sets the XSRF cookie
        assert "_xsrf" in client.cookies
        return client

    def connect(self) -> socket.socket:
        """A bare TCP connection, for requests that no client would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def head(self, start: str, *lines: str) -> bytes:
        """The head of a request by somebody with the token, line by line as given."""
        own = [f"{start} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", f"Authorization: token {self.token}"]
        return "\r\n".join([*own, *lines, "", ""]).encode("latin1")

    def send(self, request: bytes) -> bytes:
        """Everything that is answered to these bytes on one connection, until it closes."""
        with self.connect() as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    # ------------------------------------------------------------------------------- what it did to the world
    @property
    def api_socket(self) -> Path:
        """The API's socket."""
        (found,) = self.socket_folders
        return found / "api.sock"

    @property
    def socket_folders(self) -> list[Path]:
        """Every socket folder in its runtime folder."""
        return list(self.runtime.glob("*tg-workbench-*"))

    def seen(self) -> dict[str, Any]:
        """What the backend has noted."""
        with self.client() as client:
            return dict(client.get("/seen").json())

    def backend(self) -> psutil.Process:
        """The API's process, once there is one: it starts beside Jupyter, not before it."""

        def found() -> list[psutil.Process]:
            children = psutil.Process(self.process.pid).children()
            with contextlib.suppress(psutil.Error):  # one that ends while it is looked at
                return [child for child in children if "--death-fd" in child.cmdline()]
            return []

        (api,) = wait_until(found)
        return api

    def forget_peak(self) -> int:
        """Start over with `peak_memory`; returns what it holds now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.peak_memory

    @property
    def peak_memory(self) -> int:
        """The most memory it has held, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def said(self, words: str) -> bool:
        """Whether its log has these words."""
        return words in self.log.read_text(errors="replace")

    # ------------------------------------------------------------------------------- ways out
    def terminate(self) -> int:
        """Ask it to stop, and wait for it."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def remove(self) -> None:
        """Stop it somehow, and leave nothing."""
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.process.pid).children(recursive=True)
            if self.process.poll() is None:
                self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
            for process in [psutil.Process(self.process.pid), *family]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


@contextlib.contextmanager
def running_jupyter(**options: Any) -> Iterator[Jupyter]:
    """A Jupyter Server for the length of a block."""
    jupyter = Jupyter(**options)
    try:
        yield jupyter
    finally:
        jupyter.remove()


def in_threads(count: int, act: Callable[[int], None]) -> None:
    """Do something many times at once; the first failure is raised."""
    failures: list[BaseException] = []

    def attempt(number: int) -> None:
        try:
            act(number)
        except BaseException as failure:  # noqa: BLE001
            failures.append(failure)

    threads = [threading.Thread(target=attempt, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
