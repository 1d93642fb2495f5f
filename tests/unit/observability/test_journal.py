"""The journal keeps the newest lines, in bounded space, and gives them back from its end."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tg_workbench.observability import journal
from tg_workbench.observability.journal import Journal, backwards, newest_first


def lines_in(folder: Path) -> list[str]:
    return [line.decode() for lines in newest_first(folder) for line in lines]


def test_what_was_written_last_is_read_first(tmp_path: Path) -> None:
    writer = Journal(tmp_path, "api")
    for word in ("one", "two", "three"):
        writer.append(word)
    assert lines_in(tmp_path) == ["three", "two", "one"]


def test_it_never_takes_more_than_its_files(tmp_path: Path) -> None:
    writer = Journal(tmp_path, "api", most_bytes=1000)
    for number in range(2000):
        writer.append(f"line {number:06}")
    kept = lines_in(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000 * journal.MOST_FILES
    assert kept == [f"line {number:06}" for number in range(1999, 1999 - len(kept), -1)]
    assert len(kept) > 250


def test_a_file_that_cannot_be_opened_costs_nothing_that_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Journal(tmp_path, "api", most_bytes=1000)
    for number in range(80):
        writer.append(f"line {number:06}")
    before = lines_in(tmp_path)

    def no_more_files(*_: object, **__: object) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("os.open", no_more_files)
        for number in range(80, 1000):
            writer.append(f"line {number:06}")
    kept = lines_in(tmp_path)
    assert kept[-len(before) :] == before
    assert len(kept) > len(before)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000 * (journal.MOST_FILES + 1)
    writer.append("and on")
    assert lines_in(tmp_path)[:2] == ["and on", kept[0]]


def test_a_journal_that_is_closed_takes_no_line_and_raises_nothing(tmp_path: Path) -> None:
    writer = Journal(tmp_path, "api")
    writer.close()
    writer.append("too late")
    assert lines_in(tmp_path) == []


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    writer = Journal(tmp_path / "home" / "logs", "api")
    assert writer.path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_two_processes_write_to_files_of_their_own(tmp_path: Path) -> None:
    first, second = Journal(tmp_path, "api"), Journal(tmp_path, "api")
    assert first.path != second.path
    first.close()
    assert Journal(tmp_path, "api").path == first.path


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    writer = Journal(tmp_path, "api", most_bytes=5000)
    words = [str(number) * 50 for number in range(8)]

    def write(word: str) -> None:
        for _ in range(50):
            writer.append(word)

    threads = [threading.Thread(target=write, args=[word]) for word in words]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(lines_in(tmp_path)) <= set(words)


@given(st.lists(st.text("ab\t", min_size=1, max_size=9), max_size=40), st.integers(1, 12))
def test_reading_backwards_is_reading_forwards_turned_around(lines: list[str], block: int) -> None:
    content = "".join(f"{line}\n" for line in lines).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "BLOCK_BYTES", block)
        assert [line.decode() for line in backwards(io.BytesIO(content))] == lines[::-1]


def test_a_line_that_is_being_written_is_left_out() -> None:
    assert list(backwards(io.BytesIO(b"whole\nhal"))) == [b"whole"]
