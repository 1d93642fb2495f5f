"""Those who watch that no request leaves the machine see one that does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.conftest import Watchman
from tests.widgets.lab import Lab, Visit

ELSEWHERE = "192.0.2.1"  # kept for documentation: nobody is there
LEAVE = f"import socket; socket.create_connection(('{ELSEWHERE}', 9), timeout=0.1)"


def test_a_process_that_leaves_is_seen(tmp_path: Path) -> None:
    watchman = Watchman(tmp_path)
    subprocess.run([sys.executable, "-c", LEAVE], env={**os.environ, **watchman.environ}, capture_output=True)
    assert any(ELSEWHERE in line for line in watchman.saw)


def test_a_page_that_leaves_is_seen_and_held_back(lab: Lab, browser: Browser) -> None:
    visit = Visit(browser, origin=f"127.0.0.1:{lab.port}")
    visit.open(lab.url("login"))
    answer = visit.page.evaluate(f"fetch('http://{ELSEWHERE}/').catch(() => 'held back')")
    with visit.page.expect_event("websocket"):
        visit.page.evaluate(f"void new WebSocket('ws://{ELSEWHERE}/')")
    for _ in range(100):  # the page may say that it opened one before the watchman does
        if len(visit.outside) == 2:
            break
        visit.page.wait_for_timeout(50)
    assert answer == "held back"
    assert visit.outside == [f"http://{ELSEWHERE}/", f"ws://{ELSEWHERE}/"]
    visit.close()
