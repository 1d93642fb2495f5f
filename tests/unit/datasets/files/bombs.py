"""Archives made to do harm: each would cost time, memory or a file somewhere else, if it were believed."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable

HEADER = "a,y\n1,0\n2,1\n"
Bomb = Callable[[], bytes]


def archive(files: Iterable[tuple[str | zipfile.ZipInfo, bytes]]) -> bytes:
    """A plain archive of these files."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files:
            file.writestr(name, content)
    return data.getvalue()


def directory(entries: list[bytes], before: bytes, told: int | None = None) -> bytes:
    """An archive of hand-made directory entries after hand-made content."""
    body = b"".join(entries)
    count = min(len(entries), 0xFFFF) if told is None else told
    return before + body + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(body), len(before), 0)


def entry(name: bytes, *, packed: int, size: int, crc: int = 0, at: int = 0, method: int = 8) -> bytes:
    """One entry of a directory."""
    head = (b"PK\1\2", 20, 20, 0, method, 0, 0, crc, packed, size, len(name), 0, 0, 0, 0, 0, at)
    return struct.pack("<4s6H3L5H2L", *head) + name


def local(name: bytes, content: bytes, *, size: int, crc: int = 0) -> bytes:
    """One file, deflated, with whatever size is claimed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    head = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(packed), size, len(name), 0)
    return head + name + packed


def inflating() -> bytes:
    """200 MB of nothing."""
    return archive([("a.csv", b"a,y\n" + bytes(200_000_000))])


def lying() -> bytes:
    """100 MB that say they are 12 bytes."""
    content = local(b"a.csv", bytes(100_000_000), size=12)
    return directory([entry(b"a.csv", packed=len(content) - 35, size=12)], content)


def overlapping() -> bytes:
    """One file of 10 kB that a thousand entries share."""
    content = local(b"a.csv", bytes(10_000), size=10_000)
    names = (f"{number:05}.csv".encode() for number in range(1_000))
    return directory([entry(name, packed=len(content) - 35, size=10_000) for name in names], content)


def crowded(told: int | None = None) -> bytes:
    """100,000 entries."""
    content = local(b"a.csv", HEADER.encode(), size=12)
    names = (f"{number}/a.png".encode() for number in range(100_000))
    return directory([entry(name, packed=20, size=12) for name in names], content, told)


def linked() -> bytes:
    """A symbolic link to a file of the machine."""
    link = zipfile.ZipInfo("a.csv")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return archive([(link, b"/etc/passwd")])


def matryoshka() -> bytes:
    """Archives in archives in archives."""
    data = archive([("a.csv", HEADER.encode())])
    for _ in range(3):
        data = archive([(f"{number}.zip", data) for number in range(16)])
    return data


def huge_image() -> bytes:
    """An image of 60,000 × 60,000 pixels in a few bytes."""
    head = b"IHDR" + struct.pack(">2L5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(1_000_000), 9)
    parts = (
        struct.pack(">L", len(part) - 4) + part + struct.pack(">L", zlib.crc32(part)) for part in (head, body)
    )
    image = b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    return archive([("cat/a.png", image), ("dog/b.png", image)])


def named(*names: str) -> Bomb:
    """An archive of small files with these names."""

    def made() -> bytes:
        return archive([(name, HEADER.encode()) for name in names])

    return made


BOMBS: dict[str, tuple[Bomb, str]] = {
    "a ratio": (inflating, "a ZIP bomb"),
    "a lie about the size": (lying, "damaged inside the archive"),
    "overlapping files": (overlapping, "overlap"),
    "100,000 entries": (crowded, "more than 75,000 entries"),
    "100,000 entries that say they are one": (lambda: crowded(1), "more than 75,000 entries"),
    "a link": (linked, "is a link"),
    "archives in archives": (matryoshka, "an archive inside the archive"),
    "a huge image": (huge_image, "larger than 1,024 pixels|far too large"),
    "a way up": (named("../a.csv"), "leads out of the archive"),
    "a hidden way up": (named("x/../../a.csv"), "leads out of the archive"),
    "a place of its own": (named("/etc/cron.d/a.csv"), "leads out of the archive"),
    "a drive": (named("C:/a.csv"), "leads out of the archive"),
    "a backslash": (named("..\\a.csv"), "leads out of the archive"),
    "one name twice": (named("a.csv", "A.csv"), "is there twice"),
    "an unprintable name": (named("a\x1b.csv"), "not printable"),
    "no file": (named(), "without a file in it"),
}
