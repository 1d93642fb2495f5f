"""Logs are JSON, and hold neither secrets nor the texts of exceptions."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tg_workbench.observability.logs import redact

SCRIPT = """
import logging, structlog
from tg_workbench.observability import logs
logs.configure()
structlog.get_logger("ours").info("hello", route="/x")
logging.getLogger("theirs").warning("key %s in a line", "tgw-" + "A" * 43)
try:
    raise ValueError("row of patient 4711")
except ValueError:
    logging.getLogger("theirs").exception("it broke")
"""


def lines() -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_every_line_is_json_without_secrets_or_texts_of_exceptions() -> None:
    hello, key, broke = lines()
    assert (hello["event"], hello["route"], hello["level"]) == ("hello", "/x", "info")
    assert key["event"] == "key [redacted] in a line"
    assert broke["error"] == "ValueError"
    assert "4711" not in json.dumps(broke)


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        ({"api_key": "anything"}, {"api_key": "[redacted]"}),
        ({"Authorization": "Bearer x"}, {"Authorization": "[redacted]"}),
        ({"url": "postgresql://me:secret@db/x"}, {"url": "postgresql://[redacted]@db/x"}),
        ({"text": "tml-tgw-abcdefghijk"}, {"text": "[redacted]"}),
        ({"step": 7, "route": "/x"}, {"step": 7, "route": "/x"}),
    ],
    ids=str,
)
def test_what_looks_like_a_secret_is_struck_out(record: dict[str, Any], shown: dict[str, Any]) -> None:
    assert redact(None, "", dict(record)) == shown
