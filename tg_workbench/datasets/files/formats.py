"""Formats: what a file is, decided from its content and its name, which have to agree."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from tg_workbench.errors import DatasetInvalid

BY_ENDING = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".zip": "zip",
}
SAID = {
    "csv": "CSV",
    "json": "JSON",
    "jsonl": "JSON Lines",
    "parquet": "Parquet",
    "zip": "a ZIP archive",
}
OTHERS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"7z\xbc\xaf": "7-Zip",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"Rar!": "RAR",
    b"%PDF": "PDF",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"\xd0\xcf\x11\xe0": "an old office document",
    b"ARROW1": "Arrow",
    b"\x89HDF": "HDF5",
    b"\x93NUMPY": "NumPy",
    b"SQLite": "SQLite",
}
BOMS = {
    b"\xff\xfe\x00\x00": "utf-32-le",
    b"\x00\x00\xfe\xff": "utf-32-be",
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
LOOK_BYTES = 1 << 16


def format_of(source: Path, file_name: str) -> str:
    """csv, json, jsonl, parquet or zip. Raises DatasetInvalid."""
    with source.open("rb") as file:
        head = file.read(LOOK_BYTES)
    if not head.strip():
        raise DatasetInvalid("is empty")
    found = _content(head)
    ending = PurePosixPath(file_name.replace("\\", "/")).suffix.lower()
    if not ending:
        return found
    named = BY_ENDING.get(ending)
    if named is None:
        raise DatasetInvalid(f"its name must end in one of {', '.join(BY_ENDING)}")
    is_json = {found, named} == {"json", "jsonl"}  # .json is what many call their lines of JSON
    if named != found and not is_json:
        raise DatasetInvalid(f"its name says {SAID[named]}, its content is {SAID[found]}")
    return found


def bom_of(head: bytes) -> tuple[int, str]:
    """How many bytes of a byte order mark come first, and the encoding; UTF-8 without one."""
    return next(((len(mark), name) for mark, name in BOMS.items() if head.startswith(mark)), (0, "utf-8"))


def _content(head: bytes) -> str:
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(b"PAR1"):
        return "parquet"
    for magic, name in OTHERS.items():
        if head.startswith(magic):
            raise DatasetInvalid(
                f"is {name}; upload CSV, JSON, JSON Lines, Parquet or a ZIP archive of images or CSVs"
            )
    mark, encoding = bom_of(head)
    text = head[mark:].decode(encoding, errors="replace").lstrip()
    if text.startswith("["):
        return "json"
    if not text.startswith("{"):
        return "csv"
    return "jsonl" if _is_lines(text) else "json"


def _is_lines(text: str) -> bool:
    """Whether the first line alone is an object that holds a row, not the whole table."""
    line, _, rest = text.partition("\n")
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return rest.lstrip().startswith('{"') and line.rstrip().endswith("}")  # a broken line among lines
    if not isinstance(told, dict) or any(isinstance(value, list) for value in told.values()):
        return False
    is_columns = bool(told) and all(isinstance(value, dict) for value in told.values())
    return bool(rest.strip()) or not is_columns  # one object of objects is what pandas writes
