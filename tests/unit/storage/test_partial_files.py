"""Blobs written in pieces, and files that arrive in pieces: nothing half is taken for a whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tg_workbench.errors import InvalidRequest, UploadBusy, UploadOffsetWrong
from tg_workbench.storage import Blobs, PartialFile

NAME = "up-550e8400-e29b-41d4-a716-446655440000"


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def files_in(blobs: Blobs) -> list[Path]:
    return [path for path in blobs.folder.rglob("*") if path.is_file()]


def test_a_blob_that_is_not_kept_leaves_nothing(blobs: Blobs) -> None:
    with blobs.writer() as writer:
        writer.write(b"half")
        assert len(files_in(blobs)) == 1
    assert files_in(blobs) == []


def test_a_blob_that_is_kept_has_the_name_of_its_content(blobs: Blobs) -> None:
    with blobs.writer() as writer:
        writer.write(b"one")
        writer.write(bytearray(b"two"))
        name = writer.keep()
    assert (name, writer.size) == (hashlib.sha256(b"onetwo").hexdigest(), 6)
    assert blobs.read(name) == b"onetwo"
    assert len(files_in(blobs)) == 1


def test_sweeping_spares_what_is_being_written(blobs: Blobs) -> None:
    with blobs.writer() as writer:
        (blobs.folder / ".new-left").write_bytes(b"of one that was killed")
        assert blobs.sweep() == 1
        writer.write(b"alive")
        assert blobs.read(writer.keep()) == b"alive"


def test_a_file_goes_on_where_it_was(blobs: Blobs) -> None:
    blobs.put(b"")
    with PartialFile(blobs, NAME).appending(0, 6) as file:
        file.write(b"one")
    with pytest.raises(UploadOffsetWrong) as wrong, PartialFile(blobs, NAME).appending(2, 6):
        pass
    assert wrong.value.offset == 3
    with PartialFile(blobs, NAME).appending(3, 6) as file:
        file.write(b"two")
        with pytest.raises(UploadBusy), PartialFile(blobs, NAME).appending(6, 6):
            pass
    whole = PartialFile(blobs, NAME)
    name = whole.digest(hashlib.sha256(b"onetwo").hexdigest())
    whole.adopt(name)
    whole.forget()
    assert (blobs.read(name), whole.size) == (b"onetwo", 0)


def test_more_than_was_said_takes_its_piece_back(blobs: Blobs) -> None:
    blobs.put(b"")
    file = PartialFile(blobs, NAME)
    with file.appending(0, 4) as appended:
        appended.write(b"one")
    with file.appending(3, 4) as appended:
        appended.write(b"2")
        with pytest.raises(InvalidRequest):
            appended.write(b"3")
    assert file.size == 3


def test_what_is_not_what_was_said_begins_anew(blobs: Blobs) -> None:
    blobs.put(b"")
    file = PartialFile(blobs, NAME)
    with file.appending(0, 4) as appended:
        appended.write(b"one")
    with pytest.raises(InvalidRequest, match="sha256"):
        file.digest("0" * 64)
    assert file.size == 0


def test_a_file_is_named_by_an_id_of_ours(blobs: Blobs) -> None:
    with pytest.raises(ValueError, match="id of ours"):
        PartialFile(blobs, "../keys")
