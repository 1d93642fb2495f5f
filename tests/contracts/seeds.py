"""The documents of AITIP and the Deep Learning Platform: their JSON examples and their scripts."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

DOCUMENTS = Path(__file__).parent / "documents"


@cache
def text_of(document: str) -> str:
    """A document as it is."""
    return (DOCUMENTS / f"{document}.txt").read_text()


def section(document: str, heading: str) -> str:
    """What stands under a heading, up to the next one."""
    found = re.search(
        rf"^##+ {re.escape(heading)}\n(.*?)(?=^##+ |\Z)", text_of(document), re.DOTALL | re.MULTILINE
    )
    assert found is not None, heading
    return found[1]


def examples(document: str, heading: str) -> list[Any]:
    """Every JSON value under a heading, in order: of bodies in a request, and of answers."""
    blocks = re.findall(r"```(?:json|http)\n(.*?)```", section(document, heading), re.DOTALL)
    bodies = [block[block.index("{") :] for block in blocks if "{" in block and "}\n" in block]
    return [json.loads(body) for body in bodies]


def script(document: str, heading: str) -> str:
    """The program under a heading."""
    found = re.search(r"```(?:python|javascript)\n(.*?)```", section(document, heading), re.DOTALL)
    assert found is not None, heading
    return found[1]
