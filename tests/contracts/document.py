"""The TG-Tinker document, taken apart: its routes, its JSON examples and its tables."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEXT = (Path(__file__).parent / "documents" / "tg_tinker.txt").read_text()

EXAMPLE = re.compile(r"\*\*Response(?: \((\d+)\))?\*\*:\n```json\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One documented answer."""

    method: str
    path: str
    status: int
    body: dict[str, Any]


def routes() -> list[tuple[str, str]]:
    """Every `METHOD /path` that has a heading."""
    return re.findall(r"^#+ (GET|POST|PUT|DELETE) (\S+)$", TEXT, re.MULTILINE)


def examples() -> list[Example]:
    """Every JSON example, with the route and the status it belongs to."""
    found: list[Example] = []
    for section in re.split(r"^#+ ", TEXT, flags=re.MULTILINE):
        heading = re.match(r"(GET|POST|PUT|DELETE) (\S+)\n", section)
        for status, text in re.findall(
            r"\*\*Response(?: \((\d+)\))?\*\*:\n```json\n(.*?)```", section, re.DOTALL
        ):
            assert heading is not None
            found.append(Example(heading[1], heading[2], int(status or 200), json.loads(text)))
    return found


def headers() -> dict[str, str]:
    """The table of security headers, HSTS included."""
    table = TEXT[TEXT.index("### Headers") : TEXT.index("### CORS")]
    return dict(re.findall(r"^\| ([A-Z][\w-]*-[\w-]+) \| (.+?) \|$", table, re.MULTILINE))


def variables() -> dict[str, str]:
    """The table of environment variables and their defaults."""
    table = TEXT[TEXT.index("## Environment Variables") : TEXT.index("## Running")]
    return dict(re.findall(r"^\| ([A-Z][A-Z_]+) \| .+? \| (.+?) \|$", table, re.MULTILINE))


def pages() -> list[str]:
    """The documentation pages."""
    return re.findall(r"^- .+: `(/\S+)`$", TEXT, re.MULTILINE)
