"""What an entry may hold, whose log it is in, and how many refusals are told of one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tg_workbench.errors import WorkbenchError
from tg_workbench.security import AuditEntries, AuditLog, AuditQuery, Deed
from tg_workbench.security.audit.refusals import ONE_BY_ONE, WINDOW_SECONDS, Refusals
from tg_workbench.storage import Database

DEED = Deed(tenant_id="us", action="a.b", outcome="done", actor_kind="user", actor_id="alice")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[AuditLog]:
    """A log without entries."""
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    database.migrate()
    yield AuditLog(database, tmp_path)
    database.close()


@pytest.mark.parametrize(
    "text", ["", "two words", "a\nb", "a\0", "ä", '{"row": 1}', "x" * 129, "a%0d", "jane@example.org"]
)
@pytest.mark.parametrize("field", ["tenant_id", "action", "actor_id", "object_id", "reason", "request_id"])
def test_an_entry_holds_no_text_of_a_callers(field: str, text: str) -> None:
    with pytest.raises(ValueError, match="nothing else"):
        replace(DEED, **{field: text})  # type: ignore[arg-type]  # any of the texts


def test_a_tenant_sees_its_own_log_only(log: AuditLog) -> None:
    for tenant_id in ("us", "them", "us"):
        log.note(replace(DEED, tenant_id=tenant_id))
    with log.database.read() as session:
        entries = AuditEntries(session)
        page, total = entries.list_page("us", AuditQuery())
        assert [(entry.tenant_id, entry.number) for entry in page] == [("us", 2), ("us", 1)]
        assert (total, entries.list_page("nobody", AuditQuery())) == (2, ([], 0))


def test_an_entry_is_rolled_back_with_the_change_it_tells_of(log: AuditLog) -> None:
    def change() -> None:
        with log.database.write() as session:
            log.record(session, DEED)
            raise WorkbenchError

    with pytest.raises(WorkbenchError):
        change()
    with log.database.read() as session:
        assert AuditEntries(session).newest("us") is None


def test_a_flood_of_refusals_is_told_of_in_few_entries() -> None:
    clock = [0.0]
    refusals = Refusals(lambda: clock[0])
    told = [refusals.admit(replace(DEED, outcome="refused")) for _ in range(10_000)]
    assert sum(told) == ONE_BY_ONE
    assert refusals.over() == []
    clock[0] = WINDOW_SECONDS
    (summary,) = refusals.over()
    assert (summary.count, summary.tenant_id, summary.outcome) == (10_000 - ONE_BY_ONE, "us", "refused")
    assert refusals.over(now=True) == []
    assert refusals.admit(DEED), "a new minute begins"


def test_a_flood_of_one_actor_does_not_hide_what_another_was_refused() -> None:
    refusals = Refusals()
    stranger = replace(DEED, actor_id=None, actor_kind="unknown", outcome="refused")
    for _ in range(ONE_BY_ONE + 3):
        refusals.admit(stranger)
        refusals.admit(replace(DEED, outcome="failed"))
    assert refusals.admit(replace(DEED, outcome="refused"))
    assert not refusals.admit(stranger)
    told = [(deed.action, deed.outcome, deed.actor_id, deed.count) for deed in refusals.over(now=True)]
    assert told == [("door.refused_more", "refused", None, 4), ("door.failed_more", "failed", "alice", 3)]


def test_what_is_noted_soon_is_written_when_the_log_is_settled(log: AuditLog) -> None:
    for _ in range(ONE_BY_ONE + 5):
        log.note_soon(replace(DEED, outcome="refused"))
    with log.database.read() as session:
        assert AuditEntries(session).is_empty()
    log.settle(closing=True)
    with log.database.read() as session:
        page, total = AuditEntries(session).list_page("us", AuditQuery())
    assert (total, page[0].count) == (ONE_BY_ONE + 1, 5)


def test_a_flood_at_one_tenant_does_not_silence_another() -> None:
    refusals = Refusals()
    for _ in range(ONE_BY_ONE + 1):
        refusals.admit(DEED)
    assert refusals.admit(replace(DEED, tenant_id="them"))
