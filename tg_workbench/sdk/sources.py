"""What can be handed over as a dataset (a file, a folder of images, a table), as one file on disk."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tg_workbench.errors import InvalidBatch
from tg_workbench.sdk.frames import is_frame, write_parquet

FORMATS = (".csv", ".json", ".jsonl", ".ndjson", ".parquet", ".zip")
GIVE = (
    "give a path, a DataFrame, or a name with features and targets, or input_ids, or texts; "
    "one of these kinds"
)
FOLDER_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every entry of a zip of ours, so that the same folder gives the same bytes."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that is ready to be sent, and what it is called."""

    path: Path
    name: str

    @property
    def stem(self) -> str:
        """Its name without what says its format: what a dataset is called when nobody says."""
        return Path(self.name).stem

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self.path.stat().st_size

    def digest(self) -> str:
        """Its SHA-256, in hexadecimal."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def source_file(source: Any) -> Iterator[SourceFile]:
    """`source` as a file; one that had to be written is gone when the block ends.

    Raises InvalidBatch, and FileNotFoundError for a path that leads nowhere.
    """
    if is_frame(source):
        with tempfile.TemporaryDirectory(prefix="tgw-") as folder:
            path = Path(folder) / "table.parquet"
            write_parquet(source, path)
            yield SourceFile(path, path.name)
        return
    path = path_of(source)
    if path.is_dir():
        with tempfile.TemporaryDirectory(prefix="tgw-") as folder:
            archive = Path(folder) / "images.zip"
            zip_folder(path, archive)
            yield SourceFile(archive, f"{path.resolve().name}.zip")
        return
    if path.suffix.lower() not in FORMATS:
        raise InvalidBatch(f"{path.name} is none of {', '.join(FORMATS)}: these can be uploaded")
    if not path.stat().st_size:
        raise InvalidBatch(f"{path.name} is empty")
    yield SourceFile(path, path.name)


def path_of(source: Any) -> Path:
    """Where a file or a folder is. Raises InvalidBatch, FileNotFoundError."""
    if not isinstance(source, str | Path):
        raise InvalidBatch(GIVE if source is None else f"a {type(source).__name__} is no dataset: {GIVE}")
    path = Path(source).expanduser()
    if path.exists():
        return path
    if isinstance(source, str) and path.name == source and not path.suffix:
        raise InvalidBatch(f"there is no file {source}; {GIVE}")
    raise FileNotFoundError(f"there is no file {source}")


def zip_folder(folder: Path, archive: Path) -> None:
    """Write a folder of class folders as a zip, file by file, uncompressed as images are already.

    What is hidden stays out. Raises InvalidBatch for a link, which may lead anywhere, and for a folder of
    nothing.
    """
    count = 0
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if any(part.startswith(".") for part in name.parts):
                continue
            if path.is_symlink():
                raise InvalidBatch(f"{name} is a link: put the file itself into the folder")
            if path.is_file():
                with path.open("rb") as file, target.open(_entry(name.as_posix()), "w") as entry:
                    while piece := file.read(1 << 20):
                        entry.write(piece)
                count += 1
    if not count:
        raise InvalidBatch(
            f"the folder {folder.name} holds no files: images lie in one folder for each class"
        )


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, FOLDER_DATE)
