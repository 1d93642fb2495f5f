"""A real JupyterLab in its own process, with a workbench and Voila in it; and what a person sees of it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import nbformat.v4 as notebooks
import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from tests.server_extension.jupyter import START_SECONDS, listening_port

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

_KERNEL_IS_IDLE = """() =>
  window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === "idle"
"""  # before that, "run all" would ask the person for a kernel

_COUNT_COLOURED = """async (png) => {
  const picture = await createImageBitmap(await (await fetch("data:image/png;base64," + png)).blob());
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, picture.width, picture.height);
  let coloured = 0, light = 0;
  for (let i = 0; i < data.length; i += 4) {
    const colours = data.subarray(i, i + 3);
    const [low, high] = [Math.min(...colours), Math.max(...colours)];
    if (high - low > 60) coloured++;
    light += (low + high) / 2;
  }
  return [coloured, light / (data.length / 4) / 255];
}"""


@contextlib.contextmanager
def running_chromium() -> Iterator[Browser]:
    """The machine's Chromium, without a window."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert found, f"none of {', '.join(BROWSERS)} is on PATH: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=BROWSER_OPTIONS)
        yield browser
        browser.close()


class Lab:
    """One JupyterLab with a home of its own; its notebooks lie in `root`."""

    def __init__(self, **environ: str) -> None:
        """Start it, and wait until it answers; `environ` joins its environment."""
        self.home = Path(tempfile.mkdtemp(prefix="tgl-"))
        self.root = self.home / "notebooks"
        self.root.mkdir()
        self.token = secrets.token_hex(16)
        self._log = self.home / "jupyter.log"
        runtime = self.home / "runtime"
        variables = {
            "HOME": str(self.home),
            "JUPYTER_RUNTIME_DIR": str(runtime),
            "JUPYTER_CONFIG_DIR": str(self.home / "config"),
            "JUPYTER_DATA_DIR": str(self.home / "data"),
            "JUPYTERLAB_SETTINGS_DIR": str(self.home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self.home / "workspaces"),
            "JUPYTER_TOKEN": self.token,
            "TG_HOME": str(self.home / "workbench"),
        }
        options = ["--allow-root", "--no-browser", "--port=0", "--LabApp.expose_app_in_browser=True"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={self.root}", *options],
                env={**os.environ, **variables, **environ},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.port = listening_port(self._process, runtime, self._log)

    @property
    def log(self) -> str:
        """The end of what Jupyter has logged."""
        return self._log.read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        """Stop it with all it started, and remove its home."""
        family = psutil.Process(self._process.pid).children(recursive=True)
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        for process in [self._process, *family]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def write(self, name: str, *cells: str, **metadata: Any) -> None:
        """Write a notebook of code cells; one that starts with # is prose."""
        notebook = notebooks.new_notebook(
            cells=[
                notebooks.new_markdown_cell(cell) if cell.startswith("# ") else notebooks.new_code_cell(cell)
                for cell in cells
            ],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
            | metadata,
        )
        (self.root / name).write_text(json.dumps(notebook))

    def api(self) -> psutil.Process:
        """The process of the workbench's API."""
        children = psutil.Process(self._process.pid).children()
        (api,) = [child for child in children if "--death-fd" in child.cmdline()]
        return api

    def kernels(self) -> set[str]:
        """The kernels that run."""
        answer = httpx.get(self.url("api/kernels"), timeout=30)
        return {kernel["id"] for kernel in answer.json()}

    def notebook(self, name: str) -> str:
        """The address of a notebook in JupyterLab, whose kernel has been started and answers.

        A page that starts it by itself may hold a list of kernels from before, and then takes the new one
        for dead: JupyterLab's race, which a slow machine loses.
        """
        asked = {"path": name, "name": name, "type": "notebook", "kernel": {"name": "python3"}}
        answer = httpx.post(self.url("api/sessions"), json=asked, timeout=60).raise_for_status()
        kernel_id = answer.json()["kernel"]["id"]
        client = BlockingKernelClient()
        client.load_connection_file(str(self.home / "runtime" / f"kernel-{kernel_id}.json"))
        client.start_channels(hb=False)  # a heart that has not begun to beat within a second counts as dead
        try:
            client.wait_for_ready(timeout=START_SECONDS)
        finally:
            client.stop_channels()
        return self.url(f"lab/tree/{name}?reset")

    def url(self, path: str) -> str:
        """An address of this server that needs no login."""
        return f"http://127.0.0.1:{self.port}/{path}{'&' if '?' in path else '?'}token={self.token}"


class Visit:
    """One visit of a person: a page of a fresh browser profile that can reach this machine only.

    `outside` are the requests for anything else; with an `origin`, for anything but that.
    """

    def __init__(
        self, browser: Browser, *, scheme: Any = "light", origin: str = "127.0.0.1:", **options: Any
    ) -> None:
        self._ours = (f"http://{origin}", f"ws://{origin}", "data:", "blob:", "about:")
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.received_bytes = 0
        looks = {"color_scheme": scheme, "viewport": {"width": 1240, "height": 1000}, **options}
        self._context = browser.new_context(**looks)
        self._context.route("**/*", self._route)
        self.page: Page = self._context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("websocket", self._listen)

    def _route(self, route: Any) -> None:
        if self._is_ours(route.request.url):
            route.continue_()
        else:
            route.abort()

    def _listen(self, socket: Any) -> None:
        self._is_ours(socket.url)
        socket.on("framereceived", self._count)

    def _is_ours(self, url: str) -> bool:
        is_ours = url.startswith(self._ours)
        if not is_ours:
            self.outside.append(url)
        return is_ours

    def _count(self, frame: str | bytes) -> None:
        self.received_bytes += len(frame)

    def open(self, url: str) -> None:
        """Go there."""
        self.page.goto(url, timeout=90_000)

    def leave(self) -> None:
        """Go elsewhere. What a page sends at its end would be held back by our watch over its requests."""
        self._context.unroute_all()
        self.page.goto("about:blank")

    def run_all(self) -> None:
        """Run all cells of the notebook that is open in Lab."""
        self.page.wait_for_function(_KERNEL_IS_IDLE, timeout=60_000)
        self.page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")

    def picture(self, part: Locator) -> tuple[int, float]:
        """What is truly seen of a part of the page: its coloured pixels, and how light it is (0 to 1)."""
        png = base64.b64encode(part.screenshot()).decode()
        coloured, light = self.page.evaluate(_COUNT_COLOURED, png)
        return int(coloured), float(light)

    def sees(self, part: Locator, fits: Callable[[int, float], bool], seconds: float = 20.0) -> None:
        """Wait until its coloured pixels and its lightness fit: what is drawn comes bit by bit."""
        deadline = time.monotonic() + seconds
        while not fits(*(seen := self.picture(part))):
            assert time.monotonic() < deadline, f"coloured pixels and lightness: {seen}"
            self.page.wait_for_timeout(100)

    def close(self) -> None:
        """Leave."""
        self._context.close()
