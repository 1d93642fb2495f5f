"""Capabilities: what a machine has, as a device says when it is let in."""

from __future__ import annotations

import os
from typing import Any

import psutil


def own_capabilities() -> dict[str, Any]:
    """What this machine has: cores, memory and storage in GB."""
    memory = psutil.virtual_memory().total / 1e9
    return {
        "cpu_cores": os.cpu_count() or 1,
        "memory_gb": round(memory, 1),
        "storage_gb": round(psutil.disk_usage("/").total / 1e9, 1),
    }
