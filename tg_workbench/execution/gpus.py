"""How many GPUs this machine has, asked of the driver's files: the API never loads CUDA, nor torch."""

from __future__ import annotations

import os
from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia/gpus")


def count_gpus() -> int:
    """The GPUs that a worker started here would see."""
    try:
        found = len(list(_DRIVER.iterdir()))
    except OSError:
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    named = [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    return min(found, len(named))
