from __future__ import annotations

from tests.unit.sdk.resources.scripted_server import ScriptedServer, answer
from tg_workbench import Workbench

TOLD = {"notification_id": "ntf-1", "event": "training.completed", "data": {"job_id": "job-1"}, "at": "now"}


def test_notifications_are_read_and_preferred(server: ScriptedServer, workbench: Workbench) -> None:
    preferences = answer({"preferences": {"training.completed": ["email"]}, "email_available": True})
    read = answer({**TOLD, "read_at": "later"})
    server.script = [
        answer({"notifications": [TOLD]}),
        read,
        answer({"read": 3}),
        answer({"success": True}),
        preferences,
    ]
    (told,) = workbench.notifications.list(unread=True)
    assert str(told) == "now training.completed job_id=job-1 (new)"
    assert workbench.notifications.read(told).read_at == "later"
    assert workbench.notifications.read_all() == 3
    chosen = workbench.notifications.prefer({"training.completed": ("email",)})
    assert chosen == {"training.completed": ["email"]}
    assert "unread=true" in server.seen[0].path
    assert server.seen[3].json == {"preferences": {"training.completed": ["email"]}}
