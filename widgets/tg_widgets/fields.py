"""What a field of a form means: numbers, or an error that names the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tg_workbench.errors import InvalidRequest


def positive(values: Mapping[str, Any], name: str, label: str) -> float:
    """The number of a field. Raises InvalidRequest unless it is above zero."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise InvalidRequest(f"{label} must be a number above zero")
    return float(value)


def whole(values: Mapping[str, Any], name: str, label: str) -> int:
    """The whole number of a field. Raises InvalidRequest unless it is one, and above zero."""
    value = positive(values, name, label)
    if not value.is_integer():
        raise InvalidRequest(f"{label} must be a whole number")
    return int(value)


def sentence(text: str) -> str:
    """The text with a capital letter in front and an end."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", "…")) else ".")
