"""The few commands: serve, keys, rotate-keys, rotate-token-keys, migrate, openapi, doctor, audit, device.

Those that change something leave an entry in the audit log, like requests do.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tg_workbench import __version__
from tg_workbench.errors import InvalidSetting, WorkbenchError
from tg_workbench.home import ALL_BUT_OWNER
from tg_workbench.settings import Settings

if TYPE_CHECKING:
    from sqlmodel import Session

    from tg_workbench.storage import Database

Command = Callable[[argparse.Namespace, Settings], int]
SCOPES = ("read", "train", "datasets", "devices", "keys", "webhooks", "audit", "monitoring", "admin")
DEATH_SECONDS = 20.0
REST_SECONDS = 75
"""How long a connection may rest. Clients and proxies let go of it first (httpx after 5 s, nginx after 60 s):
if both did at the same time, a request would meet the end of its connection, and get no answer.
"""
MIGRATION_SECONDS = 30.0
AUDIT_ARGUMENTS = {
    "--database": "the database's file (that of DATABASE_URL)",
    "--public-key": "the public key's file, got when there was no doubt (that of TG_HOME, and its heads)",
    "--heads": "a folder of signed heads, such as a copy that was kept elsewhere (that of TG_HOME)",
    "--tenant": "whose log (everybody's)",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status is returned. What it writes, its user alone can read."""
    options = _parser().parse_args(arguments)
    os.umask(ALL_BUT_OWNER)
    command: Command = options.command
    try:
        return command(options, Settings.from_environment())
    except WorkbenchError as failure:
        sys.stderr.write(f"tg-workbench: {failure}\n")
        return 2


def serve(options: argparse.Namespace, settings: Settings) -> int:
    """Serve the API until it is asked to stop."""
    gc.disable()  # nothing of what is imported now is ever garbage: a fifth of the start is saved
    # structlog loads rich where it is installed, for colours that a log in JSON has not: 0.2 s and 5 MB.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # as the import system has it: not to be had
    import uvicorn

    from tg_workbench.app import create_app
    from tg_workbench.contracts.proxies import Proxies
    from tg_workbench.contracts.qflare.channels import LONGEST_MESSAGE
    from tg_workbench.contracts.visitors import is_loopback
    from tg_workbench.observability import logs

    local = options.fd is not None or options.socket is not None or is_loopback(options.host)
    if settings.auth_disabled and not local:
        raise InvalidSetting("TG_AUTH_DISABLED", "true", "unset unless --host is a loopback address")
    logs.configure(settings.home / "logs")
    app = create_app(settings)
    _migrate_apart(settings)
    config = uvicorn.Config(
        Proxies(app, settings.trusted_proxies) if settings.trusted_proxies else app,
        host=options.host,
        port=settings.port if options.port is None else options.port,
        fd=options.fd,
        uds=options.socket,
        access_log=False,  # ours says the route, never the query
        log_config=None,
        server_header=False,
        proxy_headers=False,  # ours knows Unix sockets
        timeout_keep_alive=REST_SECONDS,
        timeout_graceful_shutdown=2,
        ws="websockets-sansio",
        ws_max_size=LONGEST_MESSAGE,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        ws_per_message_deflate=False,  # messages are short, and a compressor each is memory
    )
    gc.freeze()
    gc.enable()
    if options.death_fd is not None:
        threading.Thread(target=_stop_with_owner, args=(options.death_fd,), daemon=True).start()
    _end_as_failed_when(lambda: app.state.cannot_open)
    with contextlib.suppress(KeyboardInterrupt):
        try:
            uvicorn.Server(config).run()
        except SystemExit:  # it has said why it could not start
            return 1
    return 0


def _end_as_failed_when(has_failed: Callable[[], bool]) -> None:
    """Have SIGTERM, which the server raises again once it has stopped, end a process that failed with 1."""

    def end(number: int, _frame: object) -> None:
        if has_failed():
            sys.exit(1)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    signal.signal(signal.SIGTERM, end)


def _migrate_apart(settings: Settings) -> None:
    """Have a child bring the tables up to date: the memory that takes, a tenth of the API's, goes with it.

    What goes wrong there, or takes too long, is done again, or said, when the app opens.
    """
    from tg_workbench.storage import Database

    try:
        child = os.fork()  # there is one thread yet, and no connection
    except OSError:
        return
    if child == 0:
        code = 1
        try:
            Database(settings.database_url, patience_seconds=1.0).migrate()
            code = 0
        finally:
            os._exit(code)
    deadline = time.monotonic() + MIGRATION_SECONDS
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
        time.sleep(0.01)


def _stop_with_owner(fd: int) -> None:
    """Wait for the end of a pipe that nobody writes to, then stop in order; by force if that takes long."""
    while os.read(fd, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(DEATH_SECONDS)
    os._exit(1)


def dispatch(options: argparse.Namespace, settings: Settings) -> int:
    """Start and watch workers; a child of `serve`."""
    from tg_workbench.datasets import work_kinds as of_datasets
    from tg_workbench.execution.dispatcher import dispatch as run
    from tg_workbench.federation.rounds import work_kinds as of_federation
    from tg_workbench.models.serving import work_kinds as of_models
    from tg_workbench.observability import logs
    from tg_workbench.training import work_kinds as of_training

    logs.configure(settings.home / "logs", "dispatcher")
    kinds = (of_training, of_datasets, of_models, of_federation)
    run(settings, tuple(kind for room in kinds for kind in room(settings)))
    return 0


def create_key(options: argparse.Namespace, settings: Settings) -> int:
    """Issue an API key for the local principal; the key alone is the last line."""
    from tg_workbench.identity import LOCAL_PRINCIPAL, ApiKeys

    database = _opened(settings)
    with _recorded(database, settings, "command.create_key") as session:
        key, secret = ApiKeys(session).issue(LOCAL_PRINCIPAL, options.name, options.scopes)
        sys.stdout.write(
            f"{key.id} may {', '.join(key.scopes)} in the workbench whose database is {database.path}.\n"
            f"Keep the key: it is shown only now.\n{secret}\n"
        )
    return 0


def rotate_keys(options: argparse.Namespace, settings: Settings) -> int:
    """Put a new key-encryption key in front and wrap every data key with it; clients may go on training."""
    from tg_workbench.crypto import Keyring
    from tg_workbench.security import DataKeys

    database = _opened(settings)
    # its lock also keeps two rotations from losing a key
    with _recorded(database, settings, "command.rotate_keys") as session:
        keyring = Keyring.rotate(settings.home)
        wrapped = DataKeys(session, keyring).rewrap()
    sys.stdout.write(
        f"{wrapped} data key(s) are wrapped with {keyring.newest[0]} now. Older keys stay beside it, for\n"
        f"copies of the database made before. Copy {settings.home / 'keys'} again, and keep that apart.\n"
    )
    return 0


def rotate_token_keys(options: argparse.Namespace, settings: Settings) -> int:
    """Sign access tokens with a new key from now on; those that are out stay good until they end."""
    from tg_workbench.crypto import Keyring
    from tg_workbench.crypto.keyring import SIGNING_FILE

    database = _opened(settings)
    with _recorded(database, settings, "command.rotate_token_keys"):
        newest, _ = Keyring.rotate(settings.home, SIGNING_FILE).newest
    sys.stdout.write(f"Access tokens are signed with {newest} now.\n")
    return 0


def _opened(settings: Settings) -> Database:
    """The database of a command, with its tables up to date. Raises InvalidSetting, DatabaseUnavailable."""
    from tg_workbench.storage import Database

    settings.make_home()
    database = Database(settings.database_url)
    database.migrate()
    return database


@contextlib.contextmanager
def _recorded(database: Database, settings: Settings, action: str) -> Iterator[Session]:
    """A durable transaction of a command, with its entry in the audit log, signed at once."""
    from tg_workbench.identity import LOCAL_PRINCIPAL, ApiKey
    from tg_workbench.identity.gifts import gift_of
    from tg_workbench.observability import logs
    from tg_workbench.security import AuditLog, Deed
    from tg_workbench.storage.database import made_in

    logs.configure()
    audit = AuditLog(database, settings.make_home())
    actor = LOCAL_PRINCIPAL.id
    with database.write(durable=True) as session:
        yield session
        session.flush()
        made = [row for row in made_in(session) if isinstance(row, ApiKey)]
        deed = Deed(
            tenant_id=actor,
            action=action,
            outcome="done",
            actor_kind="command",
            actor_id=actor,
            object_kind="api_key" if made else None,
            object_id=made[0].id if made else None,
            reason=gift_of(made),
        )
        audit.record(session, deed)
    audit.settle()


def verify_audit(options: argparse.Namespace, settings: Settings) -> int:
    """Verify the audit log, offline: 0 when it holds, 1 and the first broken entry when it does not."""
    from tg_workbench.security.audit.reports import report

    return report(settings, sys.stdout, options.database, options.public_key, options.heads)


def export_audit(options: argparse.Namespace, settings: Settings) -> int:
    """Write the audit log as JSON Lines: its entries in order, then the signed heads, then the public key."""
    from tg_workbench.security.audit.reports import export

    return export(settings, sys.stdout, options.database, options.tenant)


def show_audit_key(options: argparse.Namespace, settings: Settings) -> int:
    """Print the public key of the audit log, to be kept by whoever will verify it."""
    from tg_workbench.crypto.signatures import SigningKey

    sys.stdout.write(SigningKey.open(settings.home).public.pem.decode())
    return 0


def migrate(options: argparse.Namespace, settings: Settings) -> int:
    """Bring the database's tables up to date."""
    _opened(settings)
    sys.stdout.write("the database is up to date\n")
    return 0


def openapi(options: argparse.Namespace, settings: Settings) -> int:
    """Print the OpenAPI document."""
    from tg_workbench.app import create_app

    sys.stdout.write(json.dumps(create_app(settings).openapi(), indent=2, ensure_ascii=False) + "\n")
    return 0


def doctor(options: argparse.Namespace, settings: Settings) -> int:
    """Look for what would keep the workbench from working, and say what to do."""
    from tg_workbench.observability.doctor import examine

    findings = examine(settings)
    for finding in findings:
        sys.stdout.write(f"{'ok' if finding.well else 'NO':<4}{finding.what}: {finding.says}\n")
    return 0 if all(finding.well for finding in findings) else 1


def enroll_device(options: argparse.Namespace, settings: Settings) -> int:
    """Make this machine a device: its keys are made in a folder, and never leave it."""
    from tg_workbench.device import commands

    return commands.enroll(options)


def run_device(options: argparse.Namespace, settings: Settings) -> int:
    """Learn from rows in a file, in one round after another."""
    from tg_workbench.device import commands

    try:
        return commands.run(options)
    except KeyboardInterrupt:
        return 130


def show_device(options: argparse.Namespace, settings: Settings) -> int:
    """Say which device lives in a folder, and how the workbench sees it."""
    from tg_workbench.device import commands

    return commands.status(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tg-workbench", description="Train on data you may not leak.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, **more: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=more.get("help", command.__doc__))
        sub.set_defaults(command=command)
        return sub

    serving = add("serve", serve)
    serving.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    serving.add_argument("--port", type=int, help="port to listen on (PORT, or 8000)")
    serving.add_argument("--socket", help="Unix socket to listen on instead")
    serving.add_argument("--fd", type=int, help="listening Unix socket that was handed over")
    serving.add_argument("--death-fd", type=int, help="pipe whose end means: stop")
    add("dispatch", dispatch)
    keys = commands.add_parser("keys", help="Manage API keys.").add_subparsers(
        required=True, metavar="ACTION"
    )
    creating = keys.add_parser("create", help=create_key.__doc__)
    creating.set_defaults(command=create_key)
    creating.add_argument("--name", required=True, help="what the key is for")
    creating.add_argument(
        "--scopes",
        nargs="+",
        choices=SCOPES,
        default=list(SCOPES),
        metavar="SCOPE",
        help=f"what it may do, of {', '.join(SCOPES)} (all of it)",
    )
    add("rotate-keys", rotate_keys)
    add("rotate-token-keys", rotate_token_keys)
    add("migrate", migrate)
    add("openapi", openapi)
    add("doctor", doctor)
    _add_audit(commands)
    _add_device(commands)
    return parser


def _add_audit(commands: Any) -> None:
    actions = commands.add_parser("audit", help="Verify or export the audit log.").add_subparsers(
        required=True, metavar="ACTION"
    )
    named: dict[str, tuple[Command, tuple[str, ...]]] = {
        "verify": (verify_audit, ("--database", "--public-key", "--heads")),
        "export": (export_audit, ("--database", "--tenant")),
        "public-key": (show_audit_key, ()),
    }
    for name, (command, arguments) in named.items():
        action = actions.add_parser(name, help=command.__doc__)
        action.set_defaults(command=command)
        for argument in arguments:
            action.add_argument(argument, help=AUDIT_ARGUMENTS[argument])


def _add_device(commands: Any) -> None:
    actions = commands.add_parser("device", help="Be a device that learns with its own rows.").add_subparsers(
        required=True, metavar="ACTION"
    )

    def add(name: str, command: Command) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(name, help=command.__doc__)
        action.set_defaults(command=command)
        action.add_argument("--folder", required=True, help="where the device's keys lie")
        return action

    enrolling = add("enroll", enroll_device)
    enrolling.add_argument(
        "--token",
        required=True,
        help="the enrolment token; - reads it from standard input",
    )
    enrolling.add_argument("--organization", required=True, help="the organisation that it was issued for")
    enrolling.add_argument("--url", help="where the workbench answers, https://… (TG_BASE_URL)")
    enrolling.add_argument("--socket", help="the Unix socket it answers on instead")
    enrolling.add_argument("--name", help="what to call the device (this machine's name)")
    enrolling.add_argument("--type", default="computer", help="what it is (computer)")
    running = add("run", run_device)
    running.add_argument("--rows", required=True, help="an .npz with features and targets, or a .csv")
    running.add_argument("--target", help="the column of a .csv that is learned")
    running.add_argument("--evaluation", help="rows to measure on and not to learn from, as --rows")
    running.add_argument("--rounds", type=_rounds, help="after how many rounds to end")
    running.add_argument(
        "--idle", type=_idle, default=60.0, help="end when no round came for so many seconds (60); 0: never"
    )
    running.add_argument(
        "--only-masked",
        action="store_true",
        help="take part only in rounds with secure aggregation, whatever the workbench asks",
    )
    running.add_argument(
        "--least-devices",
        type=_rounds,
        help="and only where at least so many devices mask their updates against one another (3)",
    )
    add("status", show_device)


def _rounds(text: str) -> int:
    """How many rounds are asked for. argparse says which argument it was."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError("give a whole number, 1 or more; leave it out for all there are")
    return int(text)


def _idle(text: str) -> float:
    """For how many seconds to wait."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError("give seconds, 0 or more; 0 is to wait for ever")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
