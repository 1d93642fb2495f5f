"""What `tg-workbench device …` does: let a device in, have it learn, say how it stands. Prints no secret."""

from __future__ import annotations

import sys
from argparse import Namespace
from importlib import import_module
from pathlib import Path

from tg_workbench.device.device import Device
from tg_workbench.device.row_files import rows_in
from tg_workbench.device.taking_part import TookPart

LONGEST_TOKEN = 1000
STATUS_PATIENCE = 5.0
TYPED = "-"
"""For a token that is not to be seen among the machine's processes."""


def enroll(options: Namespace) -> int:
    """Make keys in the folder and have them certified."""
    token = sys.stdin.readline(LONGEST_TOKEN) if options.token == TYPED else options.token
    device = Device.enroll(
        token.strip(),
        options.organization,
        options.url,
        folder=options.folder,
        name=options.name,
        kind=options.type,
        socket=options.socket,
    )
    sys.stdout.write(f"{device.id} of {device.organization_id} lives in {options.folder} now.\n")
    device.close()
    return 0


def run(options: Namespace) -> int:
    """Take part in one round after another; each leaves a line."""
    rows = rows_in(Path(options.rows), options.target)
    evaluation = None if options.evaluation is None else rows_in(Path(options.evaluation), options.target)
    import_module("tg_workbench.device.learning")  # torch: now, and not while a round waits for it
    device = Device(options.folder)
    sys.stdout.write(f"{device.id} has {len(rows['targets'])} rows, and waits for rounds.\n")
    try:
        took = device.learn(
            rows,
            evaluation=evaluation,
            rounds=options.rounds,
            idle=options.idle or None,
            on_round=_tell,
        )
    finally:
        device.close()
    sys.stdout.write(f"It took part in {len(took)} round{'' if len(took) == 1 else 's'}.\n")
    return 0


def status(options: Namespace) -> int:
    """Say who lives in the folder, and how the workbench sees it."""
    device = Device(options.folder, patience=STATUS_PATIENCE)
    sys.stdout.write(f"device        {device.id}\norganization  {device.organization_id}\n")
    sys.stdout.flush()
    try:
        told = device.heartbeat()
    finally:
        device.close()
    due = "new keys are due" if told["rotate_keys"] else "good"
    sys.stdout.write(
        f"status        {told['status']}\n"
        f"keys          {told['key_version']}, {due} until {told['rotate_by']}\n"
        f"rounds        {', '.join(each['id'] for each in told['rounds']) or 'none to join now'}\n"
    )
    return 0


def _tell(took: TookPart) -> None:
    sys.stdout.write(f"{took}\n")
    sys.stdout.flush()
