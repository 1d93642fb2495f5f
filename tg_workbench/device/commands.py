"""What `tg-workbench device …` does: let a device in, have it learn, say how it stands. Prints no secret."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from importlib import import_module
from pathlib import Path

from tg_workbench.device.device import PATIENCE_SECONDS, Device
from tg_workbench.device.row_files import rows_in
from tg_workbench.device.rows import Rows
from tg_workbench.device.taking_part import TookPart
from tg_workbench.errors import CallFailed

LONGEST_TOKEN = 1000
SHORT_PATIENCE = 5.0
"""Where somebody waits for the answer, or where it is tried again anyway."""
ADDRESSES = ("TG_SOCKET", "TG_BASE_URL", "TG_TINKER_BASE_URL")
TYPED = "-"
"""For a token that is not to be seen among the machine's processes."""


def enroll(options: Namespace) -> int:
    """Make keys in the folder and have them certified."""
    if not (options.url or options.socket or any(map(os.environ.get, ADDRESSES))):
        raise CallFailed("say with --url where the workbench answers, https://…, as for a browser")
    token = sys.stdin.readline(LONGEST_TOKEN) if options.token == TYPED else options.token
    device = Device.enroll(
        token.strip(),
        options.organization,
        options.url,
        folder=options.folder,
        name=options.name,
        kind=options.type,
        socket=options.socket,
        patience=SHORT_PATIENCE,
    )
    sys.stdout.write(f"{device.id} of {device.organization_id} lives in {options.folder} now.\n")
    device.close()
    return 0


def run(options: Namespace) -> int:
    """Take part in one round after another; each leaves a line."""
    rows = rows_in(Path(options.rows), options.target)
    evaluation = None if options.evaluation is None else rows_in(Path(options.evaluation), options.target)
    import_module("tg_workbench.device.learning")  # torch: now, and not while a round waits for it
    device = Device(options.folder, patience=PATIENCE_SECONDS if options.idle else SHORT_PATIENCE)
    sys.stdout.write(f"{device.id} has {len(rows['targets'])} rows, and waits for rounds.\n")
    sys.stdout.flush()
    try:
        took = _learn(device, rows, evaluation, options)
    finally:
        device.close()
    sys.stdout.write(f"It took part in {took} round{'' if took == 1 else 's'}.\n")
    return 0


def status(options: Namespace) -> int:
    """Say who lives in the folder, and how the workbench sees it."""
    device = Device(options.folder, patience=SHORT_PATIENCE)
    sys.stdout.write(f"device        {device.id}\norganization  {device.organization_id}\n")
    sys.stdout.flush()
    try:
        told = device.heartbeat()
    finally:
        device.close()
    good = f"good until {told['rotate_by']}"
    keys = "were due for new ones: they are changed now" if told["rotate_keys"] else good
    sys.stdout.write(
        f"status        {told['status']}\n"
        f"keys          {told['key_version']}, {keys}\n"
        f"rounds        {', '.join(each['id'] for each in told['rounds']) or 'none to join now'}\n"
    )
    return 0


def _learn(device: Device, rows: Rows, evaluation: Rows | None, options: Namespace) -> int:
    """In how many rounds it took part. One that waits for ever waits for the workbench, too."""
    took, is_away = 0, False

    def tell(part: TookPart) -> None:
        nonlocal took, is_away
        took, is_away = took + 1, False
        sys.stdout.write(f"{part}\n")
        sys.stdout.flush()

    while True:
        left = None if options.rounds is None else options.rounds - took
        try:
            device.learn(rows, evaluation=evaluation, rounds=left, idle=options.idle or None, on_round=tell)
        except CallFailed as failure:
            if options.idle or failure.status is not None:
                raise
            if not is_away:
                sys.stderr.write(f"tg-workbench: {failure}. It is tried again.\n")
                sys.stderr.flush()
            is_away = True
        else:
            return took
