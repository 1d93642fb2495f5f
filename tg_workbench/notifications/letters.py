"""Letters: how a notification reads as an e-mail: the event, ids, states and ε, and nothing else.

What may stand in one is a list, not what is left after leaving things out: e-mail is stored by others for
years.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

from tg_workbench.notifications.tables import Mail

TOLD = (
    *("job_id", "model_id", "dataset_id", "alert_id", "subject", "rule", "state", "severity", "status"),
    *("reason", "progress", "step", "steps_done", "total_steps", "value", "threshold"),
)
PRIVACY = ("guarantee", "mode", "unit", "spent_epsilon", "target_epsilon", "delta")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
"""Ids and states look like this; a sentence does not."""


def letter(mail: Mail, sender: str, address: str) -> EmailMessage:
    """The e-mail that tells `address` of something."""
    data: dict[str, Any] = json.loads(mail.data)
    privacy = data.get("privacy")
    lines = [f"event: {mail.kind}", f"time: {_time(mail.at)}", *_lines(data, TOLD)]
    if isinstance(privacy, dict):
        lines += _lines(privacy, PRIVACY)
    message = EmailMessage()
    message["From"] = sender
    message["To"] = address
    message["Subject"] = f"[TG Workbench] {mail.kind}"
    message["Message-ID"] = f"<{mail.id}@{sender.rpartition('@')[2]}>"
    message["Date"] = datetime.fromtimestamp(mail.at, UTC)
    message["Auto-Submitted"] = "auto-generated"
    why = (
        "You get this because your notification preferences say so; the workbench is where they are changed."
    )
    message.set_content("\n".join([*lines, "", why, ""]))
    return message


def _lines(data: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    return [f"{name}: {data[name]}" for name in names if _is_plain(data.get(name))]


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return _WORD.fullmatch(value) is not None
    return isinstance(value, int | float)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
