"""Preparing: from a file as it was uploaded to one that training reads, with all that is known of it."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from tg_workbench.datasets.files.archives import Archive
from tg_workbench.datasets.files.bundles import CsvBundle
from tg_workbench.datasets.files.delimited import CsvTable
from tg_workbench.datasets.files.formats import format_of
from tg_workbench.datasets.files.frames import Table
from tg_workbench.datasets.files.images import prepare_images
from tg_workbench.datasets.files.limits import LIMITS, Limits
from tg_workbench.datasets.files.objects import ObjectsTable
from tg_workbench.datasets.files.parquet import ParquetTable
from tg_workbench.datasets.files.tables import prepare_table
from tg_workbench.datasets.files.texts import is_about_texts, prepare_texts
from tg_workbench.datasets.files.values import FileRequest, Prepared
from tg_workbench.errors import DatasetInvalid, InvalidRequest


def prepare(source: Path, request: FileRequest, into: Path, limits: Limits = LIMITS) -> Prepared:
    """Check `source`, describe it and write it to the file `into` in the engine's form.

    Raises DatasetInvalid, and then leaves nothing behind; InvalidRequest for a request that cannot be.
    Files in between lie beside `into` and are gone at the end.
    """
    if request.privacy not in ("protected", "public"):
        raise InvalidRequest("privacy must be 'protected' or 'public'")
    if source.stat().st_size > limits.file_bytes:
        raise DatasetInvalid(f"is larger than {limits.file_bytes:,} bytes")
    work = Path(tempfile.mkdtemp(prefix=".preparing-", dir=into.parent))
    written = work / "written"
    try:
        prepared = _prepared(source, request, written, limits)
        written.replace(into)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return replace(prepared, path=into)


def _prepared(source: Path, request: FileRequest, written: Path, limits: Limits) -> Prepared:
    file_format = format_of(source, request.file_name)
    if file_format == "zip":
        with Archive(source, limits) as archive:
            if not CsvBundle.fits(archive):
                return prepare_images(archive, request, written, limits)
            table: Table = CsvBundle(archive, written.parent, limits)
    elif file_format == "parquet":
        table = ParquetTable(source, limits)
    elif file_format == "csv":
        table = CsvTable(source, written.parent, limits)
    else:
        table = ObjectsTable(source, file_format, written.parent, limits)
    prepared = prepare_texts if is_about_texts(table, request) else prepare_table
    return prepared(table, file_format, request, written, limits)
