"""Moments: times that a caller names, as the workbench is asked about them."""

from __future__ import annotations

from datetime import datetime

Moment = datetime | str
"""A datetime (one without a zone is UTC, as on the workbench), or ISO 8601 text."""


def as_iso(moment: Moment | None) -> str | None:
    """ISO 8601, or None for none."""
    return moment.isoformat() if isinstance(moment, datetime) else moment
