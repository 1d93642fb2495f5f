"""What is done to the audit log behind the workbench's back is found, and the first broken entry is named.

The attacker here may write the database, and put back older copies of it; what they lack is the signing key.
Each attack re-computes hashes where that helps them.
"""

# ruff: noqa: S608  (the statements are the attacks)

from __future__ import annotations

import base64
import contextlib
import io
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tg_workbench.crypto.signatures import SigningKey
from tg_workbench.identity import LOCAL_PRINCIPAL, ApiKeys, Organizations
from tg_workbench.security import HEADS, AuditEntries, AuditLog, AuditQuery, Deed, Verdict, verify
from tg_workbench.security.audit.chain import FIELDS, GENESIS, encode, hash_of
from tg_workbench.security.audit.reports import export
from tg_workbench.settings import Settings
from tg_workbench.storage import Database

ENTRIES = 7
COLUMNS = (*FIELDS, "hash")
DEED = Deed(
    tenant_id="us",
    action="workbench.register_dataset",
    outcome="done",
    actor_kind="api_key",
    actor_id="alice",
    credential_id="key-1",
    object_kind="dataset",
    object_id="ds-1",
    request_id="req-00000000",
    address="192.0.2.1",
)


@dataclass(frozen=True)
class Place:
    """A workbench's home with a log of two tenants, signed."""

    home: Path

    @property
    def file(self) -> Path:
        return self.home / "tgsp.db"

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home, database_url=f"sqlite:///{self.file}")

    @property
    def heads(self) -> Path:
        return self.home / HEADS

    def head_file(self, tenant_id: str) -> Path:
        return self.heads / f"{sha256(tenant_id.encode()).hexdigest()[:32]}.json"

    @contextlib.contextmanager
    def log(self) -> Iterator[AuditLog]:
        """The log as a process has it that starts now."""
        database = Database(self.settings.database_url)
        database.migrate()
        log = AuditLog(database, self.home)
        yield log
        database.close()

    def write(self, count: int, tenant_id: str = "us", *, signed: bool = True) -> None:
        with self.log() as log:
            for number in range(count):
                log.note(replace(DEED, tenant_id=tenant_id, object_id=f"ds-{number}"))
            if signed:
                log.settle()

    def verdict(self, *, as_outsider: bool = False) -> Verdict:
        """What verifying says; an outsider has the public key and the heads, and no more."""
        with self.log() as log:
            if as_outsider:
                return verify(log.database, log.key.public, files=log.files)
            return verify(log.database, key=log.key, files=log.files)

    def first_break(self, *, as_outsider: bool = False) -> tuple[str, int | None]:
        """The tenant and the number of what was found; nothing found is a failure."""
        verdict = self.verdict(as_outsider=as_outsider)
        assert not verdict.holds, "it was not found"
        return verdict.breaks[0].tenant_id, verdict.breaks[0].number

    def tamper(self, *statements: str) -> None:
        """SQL by somebody who has taken away the fence."""
        with contextlib.closing(sqlite3.connect(self.file)) as connection, connection:
            for verb in ("update", "delete"):
                connection.execute(f"DROP TRIGGER IF EXISTS audit_entries_refuse_{verb}")
            for statement in statements:
                assert connection.execute(statement).rowcount != 0, statement

    def entry(self, number: int) -> dict[str, Any]:
        with contextlib.closing(sqlite3.connect(self.file)) as connection:
            query = f"SELECT {', '.join(COLUMNS)} FROM audit_entries WHERE tenant_id='us' AND number=?"
            return dict(zip(COLUMNS, connection.execute(query, (number,)).fetchone(), strict=True))

    def rewrite(self, number: int, **changes: Any) -> None:
        """Change an entry and hash it, and all that follow, again: all that can be done without the key."""
        previous = self.entry(number - 1)["hash"] if number > 1 else GENESIS
        for place in range(number, ENTRIES + 1):
            entry = {**self.entry(place), **(changes if place == number else {}), "previous": previous}
            previous = entry["hash"] = hash_of(entry)
            columns = ", ".join(f"{name}=:{name}" for name in COLUMNS)
            with contextlib.closing(sqlite3.connect(self.file)) as connection, connection:
                connection.execute("DROP TRIGGER IF EXISTS audit_entries_refuse_update")
                where = f"tenant_id='us' AND number={place}"
                connection.execute(f"UPDATE audit_entries SET {columns} WHERE {where}", entry)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """What every test starts from a copy of."""
    place = Place(tmp_path_factory.mktemp("signed"))
    place.write(ENTRIES)
    place.write(3, "them")
    return place


@pytest.fixture
def place(signed: Place, tmp_path: Path) -> Place:
    """A signed log to be tampered with."""
    return copy_of(signed, tmp_path / "home")


def copy_of(place: Place, home: Path) -> Place:
    shutil.copytree(place.home, home)
    return Place(home)


@pytest.mark.parametrize("as_outsider", [False, True])
def test_an_untouched_log_holds(place: Place, as_outsider: bool) -> None:
    verdict = place.verdict(as_outsider=as_outsider)
    assert (verdict.holds, verdict.entries, verdict.tenants, verdict.unsigned) == (True, ENTRIES + 3, 2, 0)


@pytest.mark.parametrize("verb", ["UPDATE audit_entries SET outcome='failed'", "DELETE FROM audit_entries"])
def test_no_statement_changes_or_removes_an_entry(place: Place, verb: str) -> None:
    connection = sqlite3.connect(place.file)
    with contextlib.closing(connection), pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(verb)


# ----------------------------------------------------------------------------- editing
@pytest.mark.parametrize("number", [1, 4, ENTRIES])
@pytest.mark.parametrize("column", [name for name in COLUMNS if name not in ("tenant_id", "number")])
def test_an_edit_of_any_column_of_any_entry_is_found(place: Place, column: str, number: int) -> None:
    changed = f"{column} + 1" if column in ("at", "count") else f"coalesce({column}, '') || 'x'"
    place.tamper(f"UPDATE audit_entries SET {column}={changed} WHERE tenant_id='us' AND number={number}")
    assert place.first_break() == place.first_break(as_outsider=True) == ("us", number)


@pytest.mark.parametrize("value", ["NULL", "x'00'", "1.5", "''"])
def test_a_value_that_no_entry_holds_is_found(place: Place, value: str) -> None:
    place.tamper(f"UPDATE audit_entries SET actor_id={value} WHERE tenant_id='us' AND number=2")
    assert place.first_break() == place.first_break(as_outsider=True) == ("us", 2)


def test_an_edit_hashed_anew_is_found_at_its_entry_by_whoever_has_the_key(
    place: Place,
) -> None:
    place.rewrite(3, actor_id="bob")
    assert place.first_break() == ("us", 3)


def test_an_edit_hashed_anew_is_found_by_everybody(place: Place) -> None:
    place.rewrite(3, actor_id="bob")
    assert place.first_break(as_outsider=True) == ("us", ENTRIES)


def test_a_new_seal_by_another_key_is_none(place: Place, tmp_path: Path) -> None:
    stranger = AuditLog(Database(f"sqlite:///{tmp_path / 'other.db'}"), tmp_path / "other")
    stranger.database.migrate()
    stranger.note(DEED)
    with stranger.database.read() as session:
        page, _ = AuditEntries(session).list_page("us", AuditQuery())
    place.rewrite(ENTRIES, seal=page[0].seal, actor_id="bob")
    assert place.first_break() == ("us", ENTRIES)


# ----------------------------------------------------------------------------- deleting, inserting, moving
@pytest.mark.parametrize("number", [1, 4, ENTRIES])
def test_a_deleted_entry_is_missed_the_newest_too(place: Place, number: int) -> None:
    place.tamper(f"DELETE FROM audit_entries WHERE tenant_id='us' AND number={number}")
    assert place.first_break() == place.first_break(as_outsider=True) == ("us", number)


def test_a_deleted_entry_is_missed_when_the_others_have_moved_up(place: Place) -> None:
    place.tamper(
        "DELETE FROM audit_entries WHERE tenant_id='us' AND number=4",
        *(f"UPDATE audit_entries SET number={n - 1} WHERE tenant_id='us' AND number={n}" for n in (5, 6, 7)),
    )
    assert place.first_break() == place.first_break(as_outsider=True) == ("us", 4)


@pytest.mark.parametrize("left", [0, 1, ENTRIES - 1])
def test_a_log_that_was_cut_off_is_found(place: Place, left: int) -> None:
    place.tamper(f"DELETE FROM audit_entries WHERE tenant_id='us' AND number>{left}")
    assert place.first_break() == place.first_break(as_outsider=True) == ("us", left + 1)


def test_a_log_that_was_cut_off_together_with_its_head_is_found(place: Place) -> None:
    place.tamper(
        "DELETE FROM audit_entries WHERE tenant_id='us' AND number>3",
        "DELETE FROM audit_heads WHERE tenant_id='us'",
    )
    assert place.first_break() == place.first_break(as_outsider=True) == ("us", 4)


def test_entries_that_changed_places_are_found(place: Place) -> None:
    place.tamper(
        "UPDATE audit_entries SET number=99 WHERE tenant_id='us' AND number=3",
        "UPDATE audit_entries SET number=3 WHERE tenant_id='us' AND number=4",
        "UPDATE audit_entries SET number=4 WHERE tenant_id='us' AND number=99",
    )
    assert place.first_break() == place.first_break(as_outsider=True) == ("us", 3)


def test_an_entry_cannot_be_given_to_another_tenant(place: Place) -> None:
    place.tamper("UPDATE audit_entries SET tenant_id='them', number=4 WHERE tenant_id='us' AND number=7")
    found = {(found.tenant_id, found.number) for found in place.verdict().breaks}
    assert found == {("them", 4), ("us", 7)}


def forge(place: Place, number: int) -> None:
    """Append what nobody did, chained as it should be."""
    last = place.entry(number - 1)
    entry = {**last, "number": number, "actor_id": "bob", "previous": last["hash"]}
    entry["hash"] = hash_of(entry)
    names = ", ".join(f":{name}" for name in COLUMNS)
    with contextlib.closing(sqlite3.connect(place.file)) as connection, connection:
        connection.execute(f"INSERT INTO audit_entries ({', '.join(COLUMNS)}) VALUES ({names})", entry)


def test_an_inserted_entry_is_found(place: Place) -> None:
    forge(place, ENTRIES + 1)
    assert place.first_break() == ("us", ENTRIES + 1)
    assert place.verdict(as_outsider=True).unsigned == 1


def test_the_workbench_does_not_sign_what_it_has_not_written(place: Place) -> None:
    forge(place, ENTRIES + 1)
    place.write(2)
    with place.log() as log:
        log.open()
        assert log.broken == {"us": f"entry {ENTRIES + 1} was not written by this workbench"}
    assert place.first_break() == ("us", ENTRIES + 1)
    assert place.verdict(as_outsider=True).unsigned == 3


# ----------------------------------------------------------------------------- heads
@pytest.mark.parametrize("change", ["number=3", "hash=hash||'x'", "at=at+1", "key_id='x'", "signature=x'00'"])
def test_an_edited_head_is_found(place: Place, change: str) -> None:
    place.tamper(f"UPDATE audit_heads SET {change} WHERE tenant_id='us'")
    assert place.first_break()[0] == place.first_break(as_outsider=True)[0] == "us"


def test_a_head_in_the_place_of_another_tenants_is_found(place: Place) -> None:
    place.tamper(
        "DELETE FROM audit_heads WHERE tenant_id='us'",
        "UPDATE audit_heads SET tenant_id='us' WHERE tenant_id='them'",
    )
    assert place.first_break()[0] == "us"


def test_heads_that_are_gone_are_missed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(place.home / "audit")
    later = time.time() + 120
    monkeypatch.setattr("tg_workbench.security.audit.verifying.now", lambda: later)
    assert {found.tenant_id for found in place.verdict().breaks} == {"us", "them", "local"}
    place.tamper("DELETE FROM audit_heads")
    assert {found.tenant_id for found in place.verdict().breaks} == {"us", "them"}


def test_a_head_signed_by_another_key_is_found(place: Place, tmp_path: Path) -> None:
    mine = Place(tmp_path / "forged")
    mine.write(2)
    shutil.rmtree(place.home / "audit")
    shutil.copytree(mine.home / "audit", place.home / "audit")
    place.tamper("DELETE FROM audit_heads WHERE tenant_id='us'")
    assert place.first_break() == ("us", 2)


def test_a_file_that_holds_no_head_is_found(place: Place) -> None:
    next((place.home / "audit" / "heads").glob("*.json")).write_text("[]")
    assert place.first_break()[0] == "?"


REST = b'"hash": "x", "at": 1, "key_id": "", "signature": ""}'
MALFORMED = {
    "a list": b"[]",
    "a tenant that is a list": b'{"tenant_id": [], "number": 1, ' + REST,
    "a number that is none": b'{"tenant_id": "us", "number": true, ' + REST,
    "a part": b'{"tenant_id": "us"}',
    "many brackets": b"[" * 60_000,
    "no text": b'{"tenant_id": "\xff"}',
    "nothing": b"",
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_a_file_that_is_malformed_is_named(place: Place, content: bytes) -> None:
    (place.heads / "zzz.json").write_bytes(content)
    assert place.first_break() == place.first_break(as_outsider=True) == ("?", None)


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_what_stands_in_one_tenants_way_stops_no_other(place: Place, content: bytes) -> None:
    place.head_file("us").write_bytes(content)
    place.tamper("UPDATE audit_entries SET action=cast(x'ff41' AS text) WHERE tenant_id='us' AND number=7")
    with place.log() as log:
        for tenant_id in ("another", "us", "them"):
            log.note(replace(DEED, tenant_id=tenant_id))
        log.settle()
        assert list(log.broken) == ["us"]
    found = place.verdict()
    assert ({one.tenant_id for one in found.breaks}, found.unsigned) == ({"us", "?"}, 0)


def test_an_entry_that_cannot_be_read_stops_no_other_tenant(place: Place) -> None:
    place.tamper("UPDATE audit_entries SET action=cast(x'ff41' AS text) WHERE tenant_id='us' AND number=7")
    with place.log() as log:
        for tenant_id in ("another", "us", "them"):
            log.note(replace(DEED, tenant_id=tenant_id))
        log.settle()
        assert log.broken == {"us": "it cannot be read: OperationalError"}
    assert ({found.tenant_id for found in place.verdict().breaks}, place.verdict().unsigned) == ({"us"}, 0)


@pytest.mark.parametrize("value", ["'soon'", "x'00'", "1.5", "cast(x'ff41' AS text)"])
@pytest.mark.parametrize("column", ["tenant_id", "number", "hash", "at", "key_id", "signature"])
def test_a_head_that_is_malformed_is_named_and_signed_over_no_more(
    place: Place, column: str, value: str
) -> None:
    place.tamper(f"UPDATE audit_heads SET {column}={value} WHERE tenant_id='us'")
    assert not place.verdict().holds
    assert not place.verdict(as_outsider=True).holds
    place.write(1, "them")
    assert not place.verdict().holds


@pytest.mark.parametrize("value", ["x'00'", "cast(x'ff41' AS text)", "1.5"])
@pytest.mark.parametrize("column", COLUMNS)
def test_an_entry_that_is_malformed_is_named(place: Place, column: str, value: str) -> None:
    place.tamper(f"UPDATE audit_entries SET {column}={value} WHERE tenant_id='us' AND number=2")
    for as_outsider in (False, True):
        breaks = place.verdict(as_outsider=as_outsider).breaks
        assert ("us", 2) in {(found.tenant_id, found.number) for found in breaks}
        assert all(str(found).isascii() for found in breaks)
    with place.log() as log:
        log.open()


def test_a_time_that_is_none_is_found_by_everybody(place: Place) -> None:
    place.rewrite(1, at="soon")
    assert place.first_break() == place.first_break(as_outsider=True) == ("us", 1)


# ----------------------------------------------------------------------------- a whole log
@pytest.mark.parametrize("as_outsider", [False, True])
@pytest.mark.parametrize("goes_on", [False, True])
def test_a_log_that_vanished_with_its_head_and_its_file_is_missed(
    place: Place, goes_on: bool, as_outsider: bool
) -> None:
    place.tamper(*(f"DELETE FROM audit_{table} WHERE tenant_id='us'" for table in ("entries", "heads")))
    place.head_file("us").unlink()
    if goes_on:
        place.write(2)
        place.write(1, "them")
        with place.log() as log:
            log.open()
            assert list(log.broken) == ["local"]
    assert place.first_break(as_outsider=as_outsider) == ("local", None)


@pytest.mark.parametrize("as_outsider", [False, True])
def test_an_older_log_of_one_tenant_is_noticed(place: Place, tmp_path: Path, as_outsider: bool) -> None:
    older = copy_of(place, tmp_path / "backup")
    place.write(1)
    place.write(1, "them")
    shutil.copy(older.head_file("us"), place.head_file("us"))
    place.tamper(
        f"ATTACH '{older.file}' AS older",
        f"DELETE FROM audit_entries WHERE tenant_id='us' AND number>{ENTRIES}",
        "DELETE FROM audit_heads WHERE tenant_id='us'",
        "INSERT INTO audit_heads SELECT * FROM older.audit_heads WHERE tenant_id='us'",
    )
    assert place.first_break(as_outsider=as_outsider) == ("local", None)


@pytest.mark.parametrize("change", ["number=number+1", "hash=hash||'x'", "at=at+1", "signature=x'00'"])
def test_an_edited_head_over_all_heads_is_found(place: Place, change: str) -> None:
    place.tamper(f"UPDATE audit_heads SET {change} WHERE tenant_id='*'")
    assert place.first_break() == place.first_break(as_outsider=True) == ("local", None)


def test_a_head_over_all_heads_that_is_gone_is_missed(place: Place) -> None:
    place.tamper("DELETE FROM audit_heads WHERE tenant_id='*'")
    assert place.first_break() == ("local", None)
    place.head_file("*").unlink()
    place.write(1)
    assert place.first_break() == ("local", None)


def test_an_organisation_without_a_log_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with place.log() as log, log.database.write() as session:
        made = Organizations(session).found("Ours")
    assert place.verdict().holds, "its first entry may be on its way"
    later = time.time() + 120
    monkeypatch.setattr("tg_workbench.security.audit.verifying.now", lambda: later)
    assert (made.id, 1) in {(found.tenant_id, found.number) for found in place.verdict().breaks}


def test_a_workbench_that_was_used_has_a_log(place: Place) -> None:
    with place.log() as log, log.database.write() as session:
        ApiKeys(session).issue(LOCAL_PRINCIPAL, "mine", ["read"])
    assert place.verdict().holds
    place.tamper("DELETE FROM audit_entries", "DELETE FROM audit_heads")
    shutil.rmtree(place.home / "audit")
    assert place.first_break() == place.first_break(as_outsider=True) == ("local", 1)


def test_a_workbench_that_was_never_used_needs_none(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.write(0)
    assert place.verdict().holds


# ----------------------------------------------------------------------------- an older database
def test_an_older_database_is_noticed(place: Place, tmp_path: Path) -> None:
    older = copy_of(place, tmp_path / "backup")
    place.write(2)
    assert place.verdict().holds
    shutil.copy(older.file, place.file)
    assert place.first_break() == place.first_break(as_outsider=True) == ("us", ENTRIES + 1)


def test_an_older_database_stays_noticed_when_the_workbench_goes_on(place: Place, tmp_path: Path) -> None:
    older = copy_of(place, tmp_path / "backup")
    place.write(2)
    shutil.copy(older.file, place.file)
    place.write(5)
    assert place.first_break() == place.first_break(as_outsider=True) == ("us", ENTRIES + 2)


def test_a_head_that_was_kept_elsewhere_shows_a_home_that_was_put_back(place: Place, tmp_path: Path) -> None:
    older = copy_of(place, tmp_path / "backup")
    place.write(2)
    kept = shutil.copytree(place.home / "audit", tmp_path / "kept")
    assert older.verdict().holds, "by itself it is a true, older log"
    shutil.rmtree(older.home / "audit")
    shutil.copytree(kept, older.home / "audit")
    assert older.first_break() == ("us", ENTRIES + 1)


def test_a_restored_backup_holds_again_once_the_heads_were_moved_away(place: Place, tmp_path: Path) -> None:
    older = copy_of(place, tmp_path / "backup")
    place.write(2)
    shutil.copy(older.file, place.file)
    (place.home / "audit").rename(tmp_path / "kept as proof")
    place.write(1)
    with place.log() as log:
        log.open()
    assert place.verdict().holds


# ----------------------------------------------------------------------------- not signed yet
def test_entries_of_a_process_that_was_killed_are_signed_by_the_next(place: Place) -> None:
    place.write(2, signed=False)
    assert (place.verdict().holds, place.verdict().unsigned) == (True, 2)
    with place.log() as log:
        log.open()
    assert (place.verdict().holds, place.verdict().unsigned) == (True, 0)


def test_entries_that_are_not_signed_yet_are_sealed(place: Place) -> None:
    place.write(2, signed=False)
    place.tamper(f"UPDATE audit_entries SET actor_id='bob' WHERE tenant_id='us' AND number={ENTRIES + 2}")
    forged = place.entry(ENTRIES + 2)
    place.tamper(
        f"UPDATE audit_entries SET hash='{hash_of(forged)}' WHERE tenant_id='us' AND number={ENTRIES + 2}"
    )
    assert place.first_break() == ("us", ENTRIES + 2)


# ----------------------------------------------------------------------------- at random
attacks: list[Callable[[int, int], list[str]]] = [
    lambda a, b: [f"DELETE FROM audit_entries WHERE tenant_id='us' AND number={a}"],
    lambda a, b: [f"UPDATE audit_entries SET action='x' WHERE tenant_id='us' AND number={a}"],
    lambda a, b: [f"UPDATE audit_entries SET at=at-{b} WHERE tenant_id='us' AND number={a}"],
    lambda a, b: [f"UPDATE audit_entries SET number={100 * b + a} WHERE tenant_id='us' AND number={a}"],
    lambda a, b: [f"UPDATE audit_entries SET hash=previous WHERE tenant_id='us' AND number={a}"],
    lambda a, b: [f"DELETE FROM audit_entries WHERE tenant_id='us' AND number>={a}"],
    lambda a, b: [f"UPDATE audit_entries SET object_id=NULL WHERE tenant_id='us' AND number={a}"],
]
Attack = st.tuples(st.sampled_from(attacks), st.integers(1, ENTRIES), st.integers(1, 9))


@given(steps=st.lists(Attack, min_size=1, max_size=4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_tampering_is_missed(
    signed: Place, tmp_path: Path, steps: list[tuple[Callable[[int, int], list[str]], int, int]]
) -> None:
    shutil.rmtree(tmp_path / "home", ignore_errors=True)
    place = copy_of(signed, tmp_path / "home")
    with contextlib.closing(sqlite3.connect(place.file)) as connection, connection:
        connection.execute("DROP TRIGGER audit_entries_refuse_update")
        connection.execute("DROP TRIGGER audit_entries_refuse_delete")
        for attack, number, more in steps:
            for statement in attack(number, more):
                connection.execute(statement)
    for as_outsider in (False, True):
        tenant_id, number_found = place.first_break(as_outsider=as_outsider)
        assert tenant_id == "us"
        assert number_found is not None
        assert number_found <= min(number for _, number, _ in steps)


Values = st.lists(st.none() | st.integers() | st.text(max_size=8), max_size=6)


@given(left=Values, right=Values)
def test_no_two_lists_of_values_have_the_same_bytes(left: list[Any], right: list[Any]) -> None:
    assert (encode("x", left) == encode("x", right)) == (left == right)
    assert decoded(encode("x", left)) == ["x", *left]


def decoded(content: bytes) -> list[str | int | None]:
    """The values behind an encoding: that there is a way back shows that no two share one."""
    values: list[str | int | None] = []
    while content:
        length = int.from_bytes(content[1:5], "big")
        text = content[5 : 5 + length].decode()
        values.append({b"n": None, b"i": int(text) if content[:1] == b"i" else 0, b"t": text}[content[:1]])
        content = content[5 + length :]
    return values


@pytest.mark.parametrize(
    "changes",
    [
        {"actor_id": "alice", "credential_id": "key-1"},
        {"actor_id": "alicek", "credential_id": "ey-1"},
        {"actor_id": "alicekey-1", "credential_id": None},
        {"actor_id": None, "credential_id": "alicekey-1"},
        {"actor_id": "alicekey-1", "credential_id": ""},
    ],
    ids=str,
)
def test_bytes_cannot_move_between_fields(place: Place, changes: dict[str, Any]) -> None:
    entry = place.entry(1)
    same = all(entry[name] == value for name, value in changes.items())
    assert (hash_of({**entry, **changes}) == entry["hash"]) == same


# ----------------------------------------------------------------------------- by somebody else's hands
def test_an_export_can_be_verified_without_our_program(place: Place) -> None:
    out = io.StringIO()
    assert export(place.settings, out, None, "us") == 0
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    entries = [line["entry"] for line in lines if "entry" in line]
    (head,) = [line["head"] for line in lines if "head" in line]
    previous = "0" * 64
    for number, entry in enumerate(entries, 1):
        assert (entry["number"], entry["previous"]) == (number, previous)
        previous = sha256(by_hand("tg-audit-entry-1", *(entry[name] for name in FIELDS))).hexdigest()
        assert entry["hash"] == previous
    key = load_pem_public_key(lines[-1]["public_key"].encode())
    assert isinstance(key, MLDSA65PublicKey)
    assert entries[head["number"] - 1]["hash"] == head["hash"]
    told = by_hand("tg-audit-head-1", *(head[name] for name in ("tenant_id", "number", "hash", "at")))
    key.verify(base64.b64decode(head["signature"]), told, b"tg-audit-head-1")
    assert lines[-1]["public_key"].encode() == SigningKey.open(place.home).public.pem


def by_hand(*values: str | int | None) -> bytes:
    """The encoding, written again from its description."""
    encoding = b""
    for value in values:
        tag = "n" if value is None else "i" if isinstance(value, int) else "t"
        text = b"" if value is None else str(value).encode("utf-8")
        encoding += tag.encode() + len(text).to_bytes(4, "big") + text
    return encoding
