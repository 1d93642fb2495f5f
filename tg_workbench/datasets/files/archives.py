"""Archives: a ZIP file that is not believed.

Its directory is checked before anything is unpacked, and what is unpacked is counted. Nothing is ever written
under a name from inside it.
"""

from __future__ import annotations

import lzma
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Self

from tg_workbench.datasets.files.limits import Limits
from tg_workbench.errors import DatasetInvalid

END = struct.Struct("<4s4H2LH")
END_64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR_64 = struct.Struct("<4sLQL")
ENTRY = struct.Struct("<4s4B4HL2L5H2L")
LOCAL_BYTES = 30
PIECE_BYTES = 1 << 16
ARCHIVES = {".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".tar", ".rar", ".zst", ".jar", ".whl"}
LITTER = {".ds_store", "thumbs.db", "desktop.ini"}
BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, OSError, ValueError)
ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True)
class Entry:
    """One file in an archive."""

    name: str
    size: int
    info: zipfile.ZipInfo

    @property
    def path(self) -> PurePosixPath:
        """Its name as a path; used to understand it, never to write."""
        return PurePosixPath(self.name)


class Archive:
    """A ZIP file whose directory was checked. Raises DatasetInvalid for one that is not to be trusted."""

    def __init__(self, source: Path, limits: Limits) -> None:
        self._limits = limits
        check_directory(source, limits)
        try:
            self._zip = zipfile.ZipFile(source)
        except BROKEN as failure:
            raise DatasetInvalid("is a ZIP archive whose directory is damaged") from failure
        try:
            self.entries = tuple(self._checked(source))
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, entry: Entry, most: int) -> bytes:
        """All of one file. Raises DatasetInvalid when it is larger than `most`, or damaged."""
        if entry.size > most:
            raise DatasetInvalid(f"is larger than {most:,} bytes", f"file {entry.name}")
        return b"".join(self.pieces(entry))

    def pieces(self, entry: Entry) -> Iterator[bytes]:
        """One file in pieces; what comes out is counted, whatever the directory says."""
        left = entry.size
        try:
            with self._zip.open(entry.info) as file:
                while piece := file.read(PIECE_BYTES):
                    left -= len(piece)
                    if left < 0:
                        break
                    yield piece
        except BROKEN as failure:
            raise DatasetInvalid("is damaged inside the archive", f"file {entry.name}") from failure
        if left:
            raise DatasetInvalid("has another size than the archive says", f"file {entry.name}")

    def _checked(self, source: Path) -> Iterator[Entry]:
        infos = self._zip.infolist()
        self._check_sizes(infos, source.stat().st_size)
        self._check_places(infos)
        seen: set[str] = set()
        for number, info in enumerate(infos, 1):
            name = _checked_name(info, f"entry {number}")
            key = unicodedata.normalize("NFC", name).casefold()
            if key in seen:
                raise DatasetInvalid("is there twice", f"file {name}")
            seen.add(key)
            if info.is_dir() or _is_litter(PurePosixPath(name)):
                continue
            if PurePosixPath(name).suffix.lower() in ARCHIVES:
                raise DatasetInvalid("is an archive inside the archive: unpack it first", f"file {name}")
            yield Entry(name, info.file_size, info)

    def _check_sizes(self, infos: list[zipfile.ZipInfo], packed: int) -> None:
        limits, total = self._limits, sum(info.file_size for info in infos)
        if total > limits.decoded_bytes:
            raise DatasetInvalid(f"would unpack to more than {limits.decoded_bytes:,} bytes")
        if total > limits.ratio_from_bytes and total > packed * limits.ratio:
            raise DatasetInvalid(f"would unpack to more than {limits.ratio} times its size: a ZIP bomb")

    def _check_places(self, infos: list[zipfile.ZipInfo]) -> None:
        """No two files may share bytes, nor a file with the directory: small bombs are made so."""
        end = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            if info.header_offset < end:
                raise DatasetInvalid("holds files that overlap: a ZIP bomb")
            end = info.header_offset + LOCAL_BYTES + info.compress_size
        if end > self._zip.start_dir:
            raise DatasetInvalid("holds files that overlap its directory")


def _checked_name(info: zipfile.ZipInfo, where: str) -> str:
    """The entry's name, if it is one of a plain file or folder below the archive's root."""
    name = info.orig_filename
    if not name or len(name) > 512 or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise DatasetInvalid("has a name that is empty, too long or not printable", where)
    if "\\" in name or name.startswith("/") or ":" in name.split("/")[0] or ".." in name.split("/"):
        raise DatasetInvalid("has a name that leads out of the archive", where)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DatasetInvalid("is a link or a device, not a file", f"file {name}")
    if info.flag_bits & ENCRYPTED:
        raise DatasetInvalid("is encrypted", f"file {name}")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DatasetInvalid("is packed by a method that is not taken: use deflate", f"file {name}")
    return name


def _is_litter(path: PurePosixPath) -> bool:
    return "__MACOSX" in path.parts or path.name.lower() in LITTER


# ---------------------------------------------------------------------------------------- directory
def check_directory(source: Path, limits: Limits) -> None:
    """Walk the directory without keeping it, and count: what the end of the archive says of it may be a lie.

    Source: APPNOTE.TXT 6.3.10, sections 4.3.12 to 4.3.16.
    """
    with source.open("rb") as file:
        size, offset = _end_of(file)
        if size > limits.directory_bytes:
            raise DatasetInvalid(f"has a directory of more than {limits.directory_bytes:,} bytes")
        file.seek(offset)
        directory = file.read(size)
    at = count = 0
    while at + ENTRY.size <= len(directory) and directory[at : at + 4] == b"PK\x01\x02":
        count += 1
        if count > limits.entries:
            raise DatasetInvalid(f"holds more than {limits.entries:,} entries")
        name, extra, comment = struct.unpack_from("<3H", directory, at + 28)
        at += ENTRY.size + name + extra + comment
    if at != len(directory):
        raise DatasetInvalid("is a ZIP archive whose directory is damaged")
    if not count:
        raise DatasetInvalid("is an archive without a file in it")


def _end_of(file: IO[bytes]) -> tuple[int, int]:
    """Size and place of the directory, from the record at the end."""
    length = file.seek(0, 2)
    tail_at = max(0, length - END.size - 0xFFFF)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + END.size > len(tail):
        raise DatasetInvalid("is a ZIP archive that is cut off")
    size = END.unpack_from(tail, at)[5]
    end = tail_at + at
    if at >= LOCATOR_64.size and tail[at - LOCATOR_64.size : at][:4] == b"PK\x06\x07":
        place = end - LOCATOR_64.size - END_64.size
        file.seek(max(0, place))
        record = file.read(END_64.size)
        if len(record) < END_64.size or record[:4] != b"PK\x06\x06":
            raise DatasetInvalid("is a ZIP archive whose directory is damaged")
        size, end = END_64.unpack(record)[8], place
    if size > end:
        raise DatasetInvalid("is a ZIP archive whose directory is damaged")
    return size, end - size
