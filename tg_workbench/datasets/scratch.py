"""Scratch: where a worker keeps what it makes of a file, until it is a dataset's rows or comes to nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

from sqlmodel import Session

from tg_workbench.execution import Work
from tg_workbench.execution.work import LifeLock
from tg_workbench.storage import Blobs


def scratch_of(blobs: Blobs, work_id: str) -> Path:
    """The folder of one work, beside the blobs: what is in it becomes one without being copied."""
    return blobs.folder / "scratch" / work_id


def sweep_scratch(session: Session, blobs: Blobs, folder: Path) -> None:
    """Remove what a worker has left that was killed and gets no next one, as its dataset was deleted.

    `folder` is where workers hold their locks.
    """
    for left in (blobs.folder / "scratch").glob("*"):
        work = session.get(Work, left.name)
        if (work is None or not work.wanted) and not LifeLock(folder, left.name).is_held():
            shutil.rmtree(left, ignore_errors=True)
