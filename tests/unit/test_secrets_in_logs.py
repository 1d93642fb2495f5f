"""The scan of the suite's logs finds what it looks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.secrets_in_logs import SECRETS, found_in
from tg_workbench.crypto import tokens

LINES = {
    "an API key": f"asked with {tokens.new_api_key()}",
    "a signed token": "asked with eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1c3ItMSJ9.c2lnbmF0dXJl",
    "a refresh token, an invitation or an application's secret": f"goes on with tgr_{'A' * 43}",
    "a webhook's secret": "signs with whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "a password's hash": "stored $argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA",
    "a password": "signed in with correct-horse-battery-staple",
    "a private key": "-----BEGIN PRIVATE KEY-----",
    "a credential": "{'Authorization': 'Basic dGd3OnRndw=='}",
}


@pytest.mark.parametrize("what", SECRETS)
def test_the_scan_sees_it(what: str, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text(f"the workbench is up\n{LINES[what]}\n")
    assert found_in([log]) == [f"{what} in server.log"]


def test_the_scan_lets_an_ordinary_log_be(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text('{"event": "request", "route": "/api/v1/auth/login", "status": 401}\n')
    assert found_in([log, tmp_path / "none.log"]) == []
