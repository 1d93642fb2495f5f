"""What `tg-workbench device …` does: let a device in, have it learn, say how it stands. Prints no secret."""

from __future__ import annotations

import logging
import os
import sys
from argparse import Namespace
from importlib import import_module
from pathlib import Path

from tg_workbench.device.device import Device
from tg_workbench.device.diary import Diary
from tg_workbench.device.row_files import rows_in
from tg_workbench.device.rows import Rows
from tg_workbench.device.taking_part import TookPart
from tg_workbench.device.terms import Terms
from tg_workbench.errors import CallFailed, UpdateRejected
from tg_workbench.federation.updates.secure_aggregation import LEAST_DEVICES

log = logging.getLogger("tg_workbench.device")
LONGEST_TOKEN = 1000
SHORT_PATIENCE = 5.0
"""Where somebody waits for the answer."""
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
    """Take part in one round after another; each thing that changes leaves a line."""
    rows = rows_in(Path(options.rows), options.target)
    evaluation = None if options.evaluation is None else rows_in(Path(options.evaluation), options.target)
    import_module("tg_workbench.device.learning")  # torch: now, and not while a round waits for it
    diary = Diary()
    terms = Terms(options.only_masked, options.least_devices or LEAST_DEVICES)
    device = Device(options.folder, terms=terms, on_call=diary.called)
    log.setLevel(logging.INFO)
    log.addHandler(diary)
    try:
        took = Learning(device, rows, evaluation, diary).go(options.rounds, options.idle or None)
    finally:
        log.removeHandler(diary)
        device.close()
    diary.say(f"It took part in {took} round{'' if took == 1 else 's'}.")
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


class Learning:
    """What `run` does once all is ready: it counts the rounds, and goes on where it waits for ever."""

    def __init__(self, device: Device, rows: Rows, evaluation: Rows | None, diary: Diary) -> None:
        self.device = device
        self.rows = rows
        self.evaluation = evaluation
        self.diary = diary
        self.took = 0
        self._is_known = False

    def go(self, rounds: int | None, idle: float | None) -> int:
        """In how many rounds it took part. What ends one that waits for ever is said, and it goes on.

        Raises what `Device.learn` does; with `idle=None` neither UpdateRejected nor that nobody answers.
        """
        while True:
            try:
                self._greet()
                left = None if rounds is None else rounds - self.took
                self.device.learn(
                    self.rows, evaluation=self.evaluation, rounds=left, idle=idle, on_round=self._count
                )
            except UpdateRejected as rejected:
                if idle is not None:
                    raise
                self.diary.say(str(rejected))
            except CallFailed as failure:
                if idle is not None or failure.status is not None:
                    raise
                self.diary.is_away(failure)
            else:
                return self.took

    def _greet(self) -> None:
        """Say who waits for whom, once the workbench has answered: then there is something to wait for."""
        if self._is_known:
            return
        device = self.device
        device.heartbeat()
        who, count = f"{device.id} of {device.organization_id}", len(self.rows["targets"])
        self.diary.say(f"{who} has {count} rows, and waits for rounds of the workbench at {device.address}")
        self._is_known = True

    def _count(self, part: TookPart) -> None:
        self.took += 1
        self.diary.say(str(part))
