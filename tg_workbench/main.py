"""The ASGI application that `uvicorn tg_workbench.main:app` names, set up by this process's environment.

Standalone it listens where its server says. Behind a public address set TG_ENVIRONMENT=production.
"""

from __future__ import annotations

import os

from tg_workbench.app import create_app
from tg_workbench.home import ALL_BUT_OWNER
from tg_workbench.observability import logs
from tg_workbench.settings import Settings

os.umask(ALL_BUT_OWNER)
_settings = Settings.from_environment()
logs.configure(_settings.home / "logs")
app = create_app(_settings)
