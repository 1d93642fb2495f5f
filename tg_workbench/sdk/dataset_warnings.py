"""Warnings: what was found in a file that is taken all the same, told where Python tells of such things."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable

PACKAGE = "tg_workbench"


class DatasetWarning(UserWarning):
    """Something in an uploaded file that its owner may not expect: a column that is left out, say.

    Of a protected dataset it is for the owner alone: it is not covered by ε.
    """


def warn_of(name: str, found: Iterable[str]) -> None:
    """Warn of everything that was found in the file of a dataset, at the line that called the workbench."""
    for text in found:
        warnings.warn(f"{name}: {text}", DatasetWarning, stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """How far above whoever asks the first line of somebody else is, as `warnings.warn` counts."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
        frame, level = frame.f_back, level + 1
    return level
