"""Rows: what a device learns from, and never sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

Rows = Mapping[str, NDArray[Any]]
"""`features` [rows, …] and `targets` [rows]: a device's own, which never leave it."""
