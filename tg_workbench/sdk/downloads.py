"""Files that come from the workbench: unpacked into a folder, or written to disk as they arrive."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import IO

from tg_workbench.errors import CallFailed, WorkbenchError
from tg_workbench.sdk.connection import AWAY, DOWNLOAD_SECONDS, Call, Connection, Query, error_of
from tg_workbench.sdk.patience import Patience
from tg_workbench.sdk.wire import Answer, WireBroken

NOT_THERE = 416
PART = 206


def unpacked(content: bytes | IO[bytes], folder: Path) -> Path:
    """Write the files of an archive into `folder`, each under its bare name, and over none that is there.

    Raises CallFailed for what is no archive, FileExistsError.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(content) if isinstance(content, bytes) else content)
    except zipfile.BadZipFile as failure:
        raise CallFailed("this address answers, but not with the files that were asked for") from failure
    with archive:
        targets = {name: folder / Path(name).name for name in archive.namelist()}
        for target in targets.values():
            if target.exists():
                raise FileExistsError(f"{target} is there already: name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        for name, target in targets.items():
            with archive.open(name) as entry, target.open("xb") as file:
                while piece := entry.read(1 << 20):
                    file.write(piece)
    return folder


class Download:
    """A file that is written to disk as it comes, and on from where it was whenever the line breaks.

    What has come lies in a file of its own beside the target, so that it goes on there in another process
    too, and the target is whole or not there. `tag` is what that file is known by: one content, one tag.
    """

    def __init__(self, connection: Connection, path: str, tag: str) -> None:
        self._connection = connection
        self._path = path
        self._tag = tag

    def to(self, target: Path) -> Path:
        """Write it. Raises FileExistsError, what the answer tells of, and CallFailed."""
        if target.exists():
            raise FileExistsError(f"{target} is there already: name another file")
        part = target.with_name(f".{target.name}.{self._tag}.part")
        patience = Patience(self._connection.patience)
        while True:
            failure: WorkbenchError
            try:
                self._go_on(part, patience)
                break
            except WireBroken as broken:
                failure = self._connection.unreachable(broken)
            patience.wait_after(failure)
        part.rename(target)
        return target

    def _go_on(self, part: Path, patience: Patience) -> None:
        """Fetch what is missing. Raises WireBroken when it is still not all."""
        have = part.stat().st_size if part.exists() else 0
        headers = {"Accept": "*/*", **({"Range": f"bytes={have}-"} if have else {})}
        answer = self._connection.open(
            Call("GET", self._path, headers=headers, answer_seconds=DOWNLOAD_SECONDS)
        )
        try:
            if answer.status_code == NOT_THERE and have == _whole(answer):
                return
            if answer.status_code >= 300:
                answer.read()
                if answer.status_code in AWAY:
                    raise WireBroken(str(error_of(answer)))
                raise error_of(answer)
            self._take(answer, part, have if answer.status_code == PART else 0, patience)
        finally:
            answer.close()

    def _take(self, answer: Answer, part: Path, have: int, patience: Patience) -> None:
        expected = answer.header("Content-Length")
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            for piece in answer.pieces():
                patience.restore()
                file.write(piece)
            if expected is not None and file.tell() - have != int(expected):
                raise WireBroken("the file broke off")


def fetch_archive(connection: Connection, path: str, folder: Path, query: Query) -> Path:
    """Fetch a zip and write its files into `folder`, through the disk: the largest takes no more memory.

    Raises what the answer tells of, CallFailed, FileExistsError.
    """
    with tempfile.TemporaryFile(prefix="tgw-") as spool:

        def take(answer: Answer) -> None:
            spool.seek(0)
            spool.truncate()
            spool.writelines(answer.pieces())

        connection.stream(path, query, take)
        spool.seek(0)
        return unpacked(spool, folder)


def _whole(answer: Answer) -> int | None:
    """How long the file is, as a refused range tells."""
    told = (answer.header("Content-Range") or "").rpartition("/")[2]
    return int(told) if told.isdecimal() else None
