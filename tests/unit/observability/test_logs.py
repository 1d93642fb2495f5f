"""Logs are JSON, and hold neither secrets nor the texts of exceptions."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tg_workbench.observability.allowance import MOST_LINES
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
        ({"x": b"tgw-abcdefghijk"}, {"x": "[redacted]"}),
        ({"x": {"tgw-abcdefghijk"}}, {"x": ["[redacted]"]}),
        ({"x": ValueError("row 4711")}, {"x": "ValueError"}),
        ({"x": {"tgw-abcdefghijk": 1}}, {"x": {"[redacted]": 1}}),
        ({"x": "TGW-ABCDEFGHIJK"}, {"x": "[redacted]"}),
        ({"x": httpx.URL("http://u:hunter2@host/")}, {"x": "http://[redacted]@host/"}),
        ({"x": "redis://:hunter2@host:6379/0"}, {"x": "redis://[redacted]@host:6379/0"}),
        ({"x": "https://hunter2@host/x"}, {"x": "https://[redacted]@host/x"}),
        ({"x": "https://u:p@hunter2@host/x"}, {"x": "https://[redacted]@host/x"}),
        ({"x": "postgres://u:a/hunter2@host/x"}, {"x": "postgres://[redacted]@host/x"}),
        ({"x": "https://host/x?token=hunter2"}, {"x": "https://host/x?token=[redacted]"}),
        (
            {"x": "https://host/x?access_token=hunter2&y=1"},
            {"x": "https://host/x?access_token=[redacted]&y=1"},
        ),
        ({"x": "Bearer  hunter2hunter2"}, {"x": "Bearer  [redacted]"}),
        ({"x": "X-API-Key: hunter2"}, {"x": "X-API-Key: [redacted]"}),
        ({"x": "password=hunter2 for me"}, {"x": "password=[redacted] for me"}),
        ({"x": '{"password": "hunter 2", "a": 1}'}, {"x": '{"password": "[redacted]", "a": 1}'}),
        ({"x": r'"{\"token\": \"hunter2\", 1}"'}, {"x": r'"{\"token\": \"[redacted]\", 1}"'}),
        ({"x": "{'pwd': \"hunter'2\"}"}, {"x": "{'pwd': \"[redacted]\"}"}),
        ({"passwords": ["x"], "tokens": "x"}, {"passwords": "[redacted]", "tokens": "[redacted]"}),
        ({"secret_key": "x", "passwd": "x"}, {"secret_key": "[redacted]", "passwd": "[redacted]"}),
        (
            {"pwd": "x", "client_secret_basic": "x"},
            {"pwd": "[redacted]", "client_secret_basic": "[redacted]"},
        ),
        (
            {"x": "listens on unix socket /tmp/tgw-a1b2c3d4/api.sock (Press CTRL+C to quit)"},
            {"x": "listens on unix socket /tmp/tgw-a1b2c3d4/api.sock (Press CTRL+C to quit)"},
        ),
        (
            {"x": "http://127.0.0.1:8000 step: 7, at=x.py:3"},
            {"x": "http://127.0.0.1:8000 step: 7, at=x.py:3"},
        ),
    ],
    ids=str,
)
def test_what_looks_like_a_secret_is_struck_out(record: dict[str, Any], shown: dict[str, Any]) -> None:
    assert redact(None, "", dict(record)) == shown


def test_redaction_is_bounded_however_long_the_text_is() -> None:
    text = "://" * 100_000 + "token" * 100_000 + "Bearer " * 100_000
    began = time.process_time()
    (shown,) = redact(None, "", {"x": text}).values()
    assert len(shown) < 10_000
    assert time.process_time() - began < 0.5


def test_no_line_raises_whatever_it_holds() -> None:
    script = """
import logging, structlog
from tg_workbench.observability import logs
logs.configure()
class Unsayable:
    def __str__(self): raise ZeroDivisionError("hunter2")
    __repr__ = __str__
endless = {}
endless["endless"] = endless
ours, theirs = structlog.get_logger("ours"), logging.getLogger("theirs")
ours.info("one", x=Unsayable())
ours.info("two", x=endless)
theirs.error("three %d", "hunter2")
theirs.error("four %s", ValueError("hunter2"))
ours.info("five", **{"x": {1: {2: {3: object()}}}, "y": float("nan"), "z": "\\ud800"})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    lost = "a line could not be written"
    assert [line["event"] for line in lines] == [lost, "two", lost, "four ValueError", "five"]
    assert [line["component"] for line in lines] == ["ours", "ours", "theirs", "theirs", "ours"]
    assert "hunter2" not in done.stderr


def test_what_is_no_http_fills_no_log() -> None:
    script = """
import logging
from tg_workbench.observability import logs
logs.configure()
for _ in range(500):
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
logging.getLogger("uvicorn.error").error("the server has trouble of its own")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert len(lines) == MOST_LINES + 1
    assert "trouble" in lines[-1]
