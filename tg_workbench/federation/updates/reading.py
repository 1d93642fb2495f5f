"""An update out of the bytes that a device sent: checked in full before anybody adds it to anything."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from tg_workbench.errors import UpdateInvalid
from tg_workbench.federation.strategies.mean import length
from tg_workbench.federation.strategies.strategy import Update
from tg_workbench.federation.updates.compression import decoded
from tg_workbench.federation.updates.headers import check_head, header_length
from tg_workbench.federation.updates.layout import Layout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tg_workbench.federation.strategies.strategy import Vector

LONGEST = 1e12
"""Whatever the round's own bound is. Sums, and sums of squares, of so long updates are numbers still, so one
device cannot end a round for all others by numbers that overflow together."""


def read_update(
    source: bytes | Path,
    layout: Layout,
    *,
    most_norm: float = math.inf,
    weight: float = 1.0,
    control: bool = False,
) -> Update:
    """The update in these bytes, or in this file, which is mapped and not read as a whole.

    `layout` is the model's; with `control`, SCAFFOLD's control variate is expected behind it. Raises
    UpdateInvalid for anything but finite float32 numbers of that layout, no longer than `most_norm`, and than
    anything is that was learned.
    """
    whole = layout.with_control() if control else layout
    content = _bytes_of(source)
    head = check_head(_first(content), len(content), whole)
    vector = decoded(content[head.data_start :], head, whole)
    delta, variate = vector[: layout.size], vector[layout.size :] if control else None
    if not _checked_length(delta) <= most_norm:
        raise UpdateInvalid("this update is longer than the bound of the round")
    if variate is not None:
        _checked_length(variate)
    return Update(delta, weight, control=variate)


def _checked_length(vector: Vector) -> float:
    """How long a vector is. Raises UpdateInvalid if a number is NaN or infinite, or if it is too long."""
    found = length(vector)
    if not math.isfinite(found):
        raise UpdateInvalid("this update holds numbers that are not finite")
    if found > LONGEST:
        raise UpdateInvalid(f"this update is longer than {LONGEST:g}: nothing that is learned is")
    return found


def _bytes_of(source: bytes | Path) -> NDArray[np.uint8]:
    import numpy as np

    if isinstance(source, Path):
        if source.stat().st_size < 8:
            raise UpdateInvalid("this is no safetensors file: it ends before its header")
        return np.memmap(source, dtype=np.uint8, mode="r")
    return np.frombuffer(source, dtype=np.uint8)


def _first(content: NDArray[np.uint8]) -> bytes:
    return content[: header_length(content[:8].tobytes())].tobytes()
