"""Preparing: from a file as it was uploaded to one that training reads, with all that is known of it."""

from __future__ import annotations

from pathlib import Path

from tg_workbench.datasets.files.limits import LIMITS, Limits
from tg_workbench.datasets.files.values import FileRequest, Prepared


def prepare(source: Path, request: FileRequest, into: Path, limits: Limits = LIMITS) -> Prepared:
    """Check `source`, describe it and write it to the file `into` in the engine's form.

    Raises DatasetInvalid, and then leaves nothing behind; InvalidRequest for a request that cannot be.
    Files in between lie beside `into` and are gone at the end.
    """
    raise NotImplementedError
