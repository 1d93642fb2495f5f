"""Logs are JSON, and hold neither secrets nor the texts of exceptions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
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
    assert (hello["component"], key["component"]) == ("ours", "theirs")
    assert key["event"] == "key [redacted] in a line"
    assert broke["error"] == "ValueError"
    assert "4711" not in json.dumps(broke)


def test_the_same_lines_are_in_the_journal(tmp_path: Path) -> None:
    script = SCRIPT.replace("configure()", f"configure(Path({str(tmp_path)!r}))")
    script = f"from pathlib import Path{script}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (tmp_path / "api.jsonl").read_text() == done.stderr


def test_what_uvicorn_says_of_websockets_is_left_out_for_it_holds_the_query() -> None:
    script = """
import logging
from tg_workbench.observability import logs
logs.configure()
logging.getLogger("uvicorn.error").info('%s - "WebSocket %s" [accepted]', "me", "/ws/x?token=opensesame")
logging.getLogger("uvicorn.error").info("Started")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "opensesame" not in done.stderr
    assert "Started" in done.stderr


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        ({"api_key": "anything"}, {"api_key": "[redacted]"}),
        ({"Authorization": "Bearer x"}, {"Authorization": "[redacted]"}),
        ({"url": "postgresql://me:secret@db/x"}, {"url": "postgresql://[redacted]@db/x"}),
        ({"text": "tml-tgw-abcdefghijk"}, {"text": "[redacted]"}),
        ({"text": "whsec_" + "A" * 32}, {"text": "[redacted]"}),
        ({"text": "tgr_" + "A" * 43}, {"text": "[redacted]"}),
        ({"text": "sha256=" + "a1" * 32}, {"text": "[redacted]"}),
        ({"text": "Authorization: Bearer abcdefgh.ij"}, {"text": "Authorization: Bearer [redacted]"}),
        ({"text": "tgw.bearer.abcdefghijk"}, {"text": "[redacted]"}),
        ({"sent": {"webhook-signature": "x"}}, {"sent": {"webhook-signature": "[redacted]"}}),
        ({"sent": ["tgw-abcdefghijk"]}, {"sent": ["[redacted]"]}),
        ({"step": 7, "route": "/x"}, {"step": 7, "route": "/x"}),
    ],
    ids=str,
)
def test_what_looks_like_a_secret_is_struck_out(record: dict[str, Any], shown: dict[str, Any]) -> None:
    assert redact(None, "", dict(record)) == shown
