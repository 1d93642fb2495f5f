"""Checks: files that are only looked at. Of none of them anything stays, neither a file nor a row.

A check lives in a folder of its own until it is answered: the file, what was said of it, the answer.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tg_workbench.datasets.specs import FileSpec
from tg_workbench.storage import Blobs

PREFIX = "validation-"
ASKED = "asked.json"
_ID = re.compile(rf"{PREFIX}[0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}")


class Check:
    """One file that is looked at, by the id of the work."""

    def __init__(self, blobs: Blobs, work_id: str) -> None:
        if not _ID.fullmatch(work_id):
            raise ValueError("a check is named by an id of ours")
        self.work_id = work_id
        self.folder = blobs.folder / "checks" / work_id
        self.file = self.folder / "file"

    @classmethod
    @contextmanager
    def begun(cls, blobs: Blobs, spec: FileSpec) -> Iterator[Check]:
        """A new one, gone when the block ends. Put the file at `file`."""
        check = cls(blobs, f"{PREFIX}{uuid.uuid4()}")
        check.folder.mkdir(parents=True, mode=0o700)
        try:
            with (check.folder / ASKED).open("w") as asked:
                fcntl.flock(asked, fcntl.LOCK_EX)  # for as long as somebody waits for the answer
                asked.write(json.dumps(spec.as_json()))
                asked.flush()
                yield check
        finally:
            shutil.rmtree(check.folder, ignore_errors=True)

    @property
    def spec(self) -> FileSpec:
        """What was said of the file."""
        return FileSpec.from_json(json.loads((self.folder / ASKED).read_text()))

    def answer(self, told: dict[str, Any]) -> None:
        """Say what was found, whole or not at all."""
        half = self.folder / "answer.new"
        half.write_text(json.dumps(told))
        half.replace(self.folder / "answer.json")

    def answered(self) -> dict[str, Any] | None:
        """What was found; None as long as nothing was."""
        path = self.folder / "answer.json"
        told: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
        return told


def sweep_checks(blobs: Blobs) -> None:
    """Remove what nobody waits for any more, because who did was killed."""
    for folder in (blobs.folder / "checks").glob(f"{PREFIX}*"):
        with suppress(OSError), (folder / ASKED).open("rb") as asked:
            fcntl.flock(asked, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
