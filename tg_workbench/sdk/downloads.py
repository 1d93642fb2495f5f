"""Files that come as a zip, put into a folder."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from tg_workbench.errors import CallFailed


def unpacked(content: bytes, folder: Path) -> Path:
    """Write the files of an archive into `folder`, each under its bare name, and over none that is there.

    Raises CallFailed for what is no archive, FileExistsError.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile as failure:
        raise CallFailed("this address answers, but not with the files that were asked for") from failure
    with archive:
        targets = {name: folder / Path(name).name for name in archive.namelist()}
        for target in targets.values():
            if target.exists():
                raise FileExistsError(f"{target} is there already: name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        for name, target in targets.items():
            target.write_bytes(archive.read(name))
    return folder
