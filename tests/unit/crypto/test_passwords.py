"""Passwords are kept as argon2id, at most two at a time, and a stranger's name takes no less."""

from __future__ import annotations

import statistics
import threading
import time

import pytest

from tg_workbench.crypto import passwords
from tg_workbench.errors import PasswordUnfit

GOOD = "correct horse battery"


@pytest.fixture(scope="module")
def stored() -> str:
    return passwords.hash_password(GOOD)


def test_a_password_is_known_again_and_another_is_not(stored: str) -> None:
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert GOOD not in stored
    assert passwords.verify(GOOD, stored)
    assert not passwords.verify(GOOD + ".", stored)
    assert not passwords.needs_rehash(stored)


def test_the_same_password_is_stored_differently_each_time(stored: str) -> None:
    assert passwords.hash_password(GOOD) != stored


def test_nobodys_password_is_never_right(stored: str) -> None:
    assert not passwords.verify(GOOD, None)
    assert not passwords.verify("", stored)
    assert not passwords.verify("x" * 100_000, stored)
    assert not passwords.verify("\ud800" * 10, stored)


@pytest.mark.parametrize("password", ["", "seven77", "x" * 129, "with\0null", "with\nline", "lone\ud800half"])
def test_what_cannot_be_kept_or_typed_is_refused(password: str) -> None:
    with pytest.raises(PasswordUnfit):
        passwords.hash_password(password)


@pytest.mark.parametrize("password", ["password", "x" * 128, "größer als nötig", "鍵鍵鍵鍵鍵鍵鍵鍵"])
def test_bounds_are_counted_in_characters(password: str) -> None:
    assert passwords.verify(password, passwords.hash_password(password))


def test_two_spellings_of_one_text_are_one_password() -> None:
    assert passwords.verify("schlu\u0308ssel", passwords.hash_password("schl\u00fcssel"))


def test_a_name_that_nobody_has_takes_as_long(stored: str) -> None:
    def seconds(kept: str | None) -> float:
        began = time.process_time()
        passwords.verify("wrong password", kept)
        return time.process_time() - began

    seconds(stored)
    known, unknown = (statistics.median(seconds(kept) for _ in range(5)) for kept in (stored, None))
    assert 0.5 < known / unknown < 2


def test_no_more_than_two_are_worked_on_at_once(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, most, lock = [0], [0], threading.Lock()
    verify = passwords._hasher().verify

    def counted(password: str, kept: str) -> bool:
        with lock:
            seen[0] += 1
            most[0] = max(most[0], seen[0])
        try:
            return bool(verify(password, kept))
        finally:
            with lock:
                seen[0] -= 1

    monkeypatch.setattr(passwords._hasher(), "verify", counted)
    threads = [threading.Thread(target=passwords.verify, args=(GOOD, stored)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= passwords.AT_ONCE
