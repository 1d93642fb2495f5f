"""What would keep a workbench from working, and what to do about it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from tg_workbench.crypto.keyring import Keyring
from tg_workbench.errors import DatabaseTooNew, InvalidSetting, WorkbenchError
from tg_workbench.execution import run_folder
from tg_workbench.settings import Settings
from tg_workbench.storage import Database

LEAST_FREE_BYTES = 2_000_000_000
TORCH_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. When it is not well, `says` tells what to do."""

    what: str
    well: bool
    says: str


def examine(settings: Settings) -> list[Finding]:
    """Everything that is worth a look."""
    looks: list[Callable[[Settings], Finding]] = [_home, _sockets, _disk, _keys, _database, _torch]
    return [look(settings) for look in looks]


def _home(settings: Settings) -> Finding:
    home = settings.home
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = home / ".doctor"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as failure:
        says = f"{home} cannot be written ({failure.strerror}); set TG_HOME to a folder of yours"
        return Finding("home", False, says)
    if home.stat().st_mode & 0o077:
        return Finding("home", False, f"others can look into {home}; run: chmod 700 '{home}'")
    return Finding("home", True, str(home))


def _sockets(settings: Settings) -> Finding:
    try:
        return Finding("sockets", True, str(run_folder(settings.home)))
    except (OSError, WorkbenchError) as failure:
        return Finding("sockets", False, f"{failure}; set TG_HOME to a folder of yours")


def _disk(settings: Settings) -> Finding:
    folder = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    says = f"{free / 1e9:.1f} GB free"
    if free < LEAST_FREE_BYTES:
        return Finding("disk", False, f"{says}; checkpoints need room: free some, or move TG_HOME")
    return Finding("disk", True, says)


def _keys(settings: Settings) -> Finding:
    try:
        keyring = Keyring.open(settings.home)
    except (WorkbenchError, OSError) as failure:
        return Finding("keys", False, str(failure))
    return Finding("keys", True, f"{len(keyring.keys)} key-encryption key(s); keep a copy apart from backups")


def _database(settings: Settings) -> Finding:
    try:
        settings.make_home()
        database = Database(settings.database_url)
        database.migrate()
        database.ping()
    except (DatabaseTooNew, InvalidSetting) as failure:
        return Finding("database", False, str(failure))
    except (WorkbenchError, SQLAlchemyError, OSError) as failure:
        return Finding("database", False, f"no answer ({type(failure).__name__}); check DATABASE_URL")
    return Finding("database", True, str(database.path))


def _torch(_settings: Settings) -> Finding:
    """In a process of its own: what breaks there must not break here."""
    command = [sys.executable, "-c", "import torch; print(torch.__version__)"]
    try:
        answer = subprocess.run(  # noqa: S603 - our own interpreter, words of our own
            command, capture_output=True, text=True, timeout=TORCH_SECONDS, check=True
        )
    except (subprocess.SubprocessError, OSError):
        return Finding("torch", False, "cannot be imported: pip install --force-reinstall torch")
    return Finding("torch", True, answer.stdout.strip())
