"""The outbox keeps what is told with what made it true, and never takes what is private."""

from __future__ import annotations

import json
import math
from contextlib import suppress

import pytest
from sqlmodel import select

from tg_workbench.outbox import NEVER_TOLD, Notice, Outbox, WebhookEvent
from tg_workbench.storage import Database


def notices(database: Database) -> list[str]:
    with database.read() as session:
        return [notice.event for notice in session.exec(select(Notice))]


def test_what_is_stored_is_told(database: Database) -> None:
    with database.write() as session:
        Outbox(session).put("us", WebhookEvent.DEVICE_REGISTERED, {"device_id": "dev-1"})
    assert notices(database) == ["device.registered"]


def test_what_is_rolled_back_is_not_told(database: Database) -> None:
    with suppress(ZeroDivisionError), database.write() as session:
        Outbox(session).put("us", WebhookEvent.DEVICE_REGISTERED, {"device_id": "dev-1"})
        raise ZeroDivisionError
    assert notices(database) == []


@pytest.mark.parametrize("name", sorted(NEVER_TOLD))
def test_what_is_not_covered_by_epsilon_is_refused_however_deep(database: Database, name: str) -> None:
    with database.write() as session:
        for data in ({name: 1}, {"run": [{"last": {name: 1}}]}):
            with pytest.raises(ValueError, match="leave the machine"):
                Outbox(session).put("us", WebhookEvent.TRAINING_PROGRESS, data)
    assert notices(database) == []


def test_a_number_that_is_none_is_told_as_null(database: Database) -> None:
    spent = {"spent_epsilon": math.inf, "known": 1.5, "all": [math.nan, (-math.inf, 2)], "done": True}
    with database.write() as session:
        Outbox(session).put("us", WebhookEvent.TRAINING_COMPLETED, {"privacy": spent})
    with database.read() as session:
        (notice,) = session.exec(select(Notice))
    told = {"spent_epsilon": None, "known": 1.5, "all": [None, [None, 2]], "done": True}
    assert json.loads(notice.data, parse_constant=pytest.fail) == {"privacy": told}
