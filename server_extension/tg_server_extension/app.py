"""The extension as Jupyter Server sees it: what can be configured, and when what begins and ends."""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
import sys
from pathlib import Path
from typing import Any, cast

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join
from tornado.routing import Rule
from traitlets import Float, Unicode
from traitlets import List as ListOf

from tg_server_extension.api import Api
from tg_server_extension.proxy import ProxyHandler
from tg_server_extension.socket_folder import SocketFolder
from tg_server_extension.supervisor import Plan, Supervisor
from tg_server_extension.websocket import AsksForWebSocket, WebSocketProxy
from tg_workbench.errors import InvalidSetting
from tg_workbench.home import database_of
from tg_workbench.settings import Settings


def give_xsrf_cookie(handler: Any, **_page: Any) -> None:
    """Before a page is published: the cookie without which leaving it could not end its kernel."""
    _ = handler.xsrf_token


PUBLISHED = {
    "template": "tg",
    "theme": "system",
    "extension_allowlist": [
        "@jupyter-widgets/jupyterlab-manager",
        "@voila-dashboards/widgets-manager8",
        "anywidget",
        "jupyterlab-plotly",
    ],
    "prelaunch_hook": give_xsrf_cookie,
}
"""How Voila publishes notebooks here, unless whoever runs Jupyter chose otherwise: without the internet."""

JUPYTER_SECRETS = ("JUPYTER_TOKEN", "JUPYTER_TOKEN_FILE", "JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN")


class WorkbenchExtension(ExtensionApp):
    """Starts the TG Workbench API with Jupyter, keeps it running, and serves it under `{base_url}tg/`."""

    name = "tg_server_extension"
    description = __doc__ or ""

    command = ListOf(
        Unicode(),
        default_value=[sys.executable, "-P", "-m", "tg_workbench", "serve"],
        help="What runs the API. It is called with `--fd N --death-fd M`.",
    ).tag(config=True)
    start_seconds = Float(Plan.start_seconds, help="An API silent for so long is started again.").tag(
        config=True
    )
    outage_seconds = Float(Plan.outage_seconds, help="So long requests wait for an API that is down.").tag(
        config=True
    )
    grace_seconds = Float(Plan.grace_seconds, help="So long the API may take to stop.").tag(config=True)

    def initialize_settings(self) -> None:
        """Open the socket, and tell kernels of it before the first one starts."""
        server = cast(ServerApp, self.serverapp)
        self._folder = SocketFolder(Path(server.runtime_dir))
        atexit.register(self._folder.remove)  # for a Jupyter that ends before it has started
        self._api = Api(
            socket=self._folder.socket,
            key=f"tgw-{secrets.token_urlsafe(32)}",
            prefix=url_path_join(server.base_url, "tg/"),
            largest_body=_settings().max_body_bytes,
        )
        os.environ.update(TG_SOCKET=str(self._folder.socket), TG_API_KEY=self._api.key)
        for name, value in PUBLISHED.items():
            server.config.VoilaConfiguration.setdefault(name, value)

    def initialize_handlers(self) -> None:
        """Serve `{base_url}tg/…`, WebSockets first."""
        server = cast(ServerApp, self.serverapp)
        arguments = {"api": self._api}
        websockets = Rule(AsksForWebSocket(self._api.prefix), WebSocketProxy, arguments)
        server.web_app.add_handlers(".*$", [websockets])  # type: ignore[no-untyped-call]
        self.handlers.append((r"/tg(?:/.*)?", ProxyHandler, arguments))

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        """Jupyter's loop runs: start the API."""
        plan = Plan(
            command=tuple(self.command),
            start_seconds=self.start_seconds,
            outage_seconds=self.outage_seconds,
            grace_seconds=self.grace_seconds,
        )
        log_file = _settings().home / "logs" / "api.log"
        self._supervisor = Supervisor(plan, self._folder.listener, self._environment, log_file, self.log)
        self._supervisor.start()

    async def stop_extension(self) -> None:
        """Jupyter stops: end what is on its way, stop the API, leave nothing. Never raises."""
        for step in (self._api.close(), self._supervisor.stop()):
            for failure in await asyncio.gather(step, return_exceptions=True):
                if failure is not None:
                    self.log.error("The TG Workbench API was not stopped in order: %r", failure)
        self._folder.remove()

    def _environment(self) -> dict[str, str]:
        """What the API is told: where it lives, whom to trust, and nothing that opens Jupyter."""
        settings = Settings.from_environment()
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name not in JUPYTER_SECRETS}
        database = database_of(settings.home) or settings.home / "tgsp.db"
        return {
            "DATABASE_URL": f"sqlite:///{database}",
            # Whoever has a kernel reaches this machine's loopback without us, so webhooks may too.
            "TG_WEBHOOK_ALLOW_LOOPBACK": "false" if settings.production else "true",
            **environment,
            "TG_HOME": str(settings.home),
            "PYTHONSAFEPATH": "1",  # a random.py beside a notebook is not the API's
        }


def _settings() -> Settings:
    """The settings, or the defaults while they are unusable: the API's start says what is wrong with them."""
    try:
        return Settings.from_environment()
    except InvalidSetting:
        return Settings()
