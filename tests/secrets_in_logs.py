"""The scan of every log that a test run leaves: none holds a secret, a token or a password.

Each server of the suite is looked at as it stops, so what any test does is covered: nothing has to be asked
for. Passwords of test users contain `PASSWORD_MARK`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

PASSWORD_MARK = "horse-battery"
SECRETS = {
    "an API key": r"tgw-[A-Za-z0-9_-]{43}",
    "a signed token": r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.",
    "a refresh token, an invitation or an application's secret": r"tg[rio]_[A-Za-z0-9_-]{43}",
    "a webhook's secret": r"whsec_[A-Za-z0-9+/=_-]{16,}",
    "a password's hash": r"\$argon2",
    "a password": PASSWORD_MARK,
    "a private key": r"PRIVATE KEY",
    "a credential": r"(?i)\bauthorization['\"]?\s*[:=]",
}


def found_in(files: Iterable[Path]) -> list[str]:
    """What should not be there, and in which file; the secret itself is not repeated."""
    found = []
    for file in files:
        text = file.read_text(errors="replace") if file.is_file() else ""
        found += [f"{what} in {file.name}" for what, form in SECRETS.items() if re.search(form, text)]
    return found
