"""The front end of each widget: one script and one style sheet, put together from the files beside this one.

A widget's script may not import another (it reaches the browser as text), so what they share comes first.
Everything is shipped with the package: no widget asks the network for anything.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent


@cache
def script(widget: str, *vendored: str) -> str:
    """The ES module of a widget: vendored libraries, the shared part, then its own."""
    names = [*(f"static/{name}" for name in vendored), "static/shared.js", f"{widget}.js"]
    return "\n".join(_read(name) for name in names)


@cache
def style(*sheets: str) -> str:
    """The style sheet of a widget: the shared look, then its own sheets from `static/`."""
    return "\n".join(_read(f"static/{name}") for name in ("theme.css", *sheets))


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
