from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sdk.resources.scripted_server import (
    ScriptedServer,
    Step,
    answer,
    hang_up,
    hang_up_midway,
    refusal,
)
from tg_workbench import CallFailed, InvalidRequest, UploadNotFound, Workbench
from tg_workbench.sdk import uploads
from tg_workbench.sdk.uploads import UploadProgress, readable

CONTENT = bytes(range(256)) * 40
HALF = len(CONTENT) // 2
READY = answer({"dataset_id": "ds-1", "name": "rows", "size": 3, "status": "ready"})


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them make the file."""
    monkeypatch.setattr(uploads, "PIECE_BYTES", HALF)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_bytes(CONTENT)
    return path


def upload(offset: int, dataset_id: str | None = None) -> Step:
    return answer({"upload_id": "up-1", "size": len(CONTENT), "offset": offset, "dataset_id": dataset_id})


def pieces(server: ScriptedServer) -> list[tuple[int, bytes]]:
    """What was sent, and from where on."""
    sent = [seen for seen in server.seen if seen.method == "PATCH"]
    return [(int(seen.headers["upload-offset"]), seen.body) for seen in sent]


def test_a_file_goes_in_pieces_and_is_announced_with_its_digest(
    server: ScriptedServer, workbench: Workbench, file: Path
) -> None:
    server.script = [upload(0), upload(HALF), upload(len(CONTENT), "ds-1"), READY]
    told: list[tuple[int, int]] = []
    dataset = workbench.datasets.upload(
        file, target="y", ranges={"x": (0, 1)}, progress=lambda sent, size: told.append((sent, size))
    )
    announced = server.seen[0].json
    assert (announced["name"], announced["file_name"], announced["size"]) == (
        "rows",
        "rows.csv",
        len(CONTENT),
    )
    assert announced["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert (announced["privacy"], announced["target"], announced["ranges"]) == (
        "protected",
        "y",
        {"x": [0, 1]},
    )
    assert pieces(server) == [(0, CONTENT[:HALF]), (HALF, CONTENT[HALF:])]
    assert told == [(0, len(CONTENT)), (HALF, len(CONTENT)), (len(CONTENT), len(CONTENT))]
    assert dataset.id == "ds-1"


@pytest.mark.parametrize("fault", [hang_up, hang_up_midway, answer(b"", 502), refusal("QUEUE_FULL", 503)])
def test_an_upload_goes_on_where_a_broken_line_left_it(
    server: ScriptedServer, workbench: Workbench, file: Path, fault: Step
) -> None:
    server.script = [upload(0), fault, upload(100), upload(100 + HALF), upload(len(CONTENT), "ds-1"), READY]
    workbench.datasets.upload(file)
    sent = pieces(server)
    assert [offset for offset, _ in sent] == [0, 100, 100 + HALF]
    assert CONTENT[:100] + sent[1][1] + sent[2][1] == CONTENT


def test_after_a_broken_line_pieces_are_small_for_a_while(
    server: ScriptedServer, workbench: Workbench, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "LEAST_PIECE_BYTES", 1000)
    more = [upload(0), upload(1000), upload(3000), upload(7000), upload(len(CONTENT), "ds-1"), READY]
    server.script = [upload(0), hang_up, *more]
    workbench.datasets.upload(file)
    assert [len(piece) for _, piece in pieces(server)] == [HALF, 1000, 2000, 4000, len(CONTENT) - 7000]


@pytest.mark.parametrize(("quick", "sizes"), [(60.0, [1000, 2000, 3000, 3000, 1240]), (0.0, [1000] * 11)])
def test_pieces_grow_while_the_line_is_quick(
    server: ScriptedServer,
    workbench: Workbench,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick: float,
    sizes: list[int],
) -> None:
    for name, value in (("PIECE_BYTES", 1000), ("MOST_PIECE_BYTES", 3000), ("QUICK_SECONDS", quick)):
        monkeypatch.setattr(uploads, name, value)
    sizes = [*sizes[:-1], len(CONTENT) - sum(sizes[:-1])]
    arrived = [upload(sum(sizes[:number])) for number in range(len(sizes))]
    server.script = [*arrived, upload(len(CONTENT), "ds-1"), READY]
    workbench.datasets.upload(file)
    assert [len(piece) for _, piece in pieces(server)] == sizes


def test_a_piece_that_arrived_without_an_answer_is_not_sent_again(
    server: ScriptedServer, workbench: Workbench, file: Path
) -> None:
    server.script = [upload(0), hang_up, upload(HALF), upload(len(CONTENT), "ds-1"), READY]
    workbench.datasets.upload(file)
    assert [offset for offset, _ in pieces(server)] == [0, HALF]


def test_what_arrived_after_it_was_asked_for_is_told_by_the_refusal(
    server: ScriptedServer, workbench: Workbench, file: Path
) -> None:
    arrived = refusal("UPLOAD_OFFSET_WRONG", 409, kind="UploadOffsetWrong", offset=HALF)
    server.script = [upload(0), hang_up, upload(0), arrived, upload(len(CONTENT), "ds-1"), READY]
    workbench.datasets.upload(file)
    assert [offset for offset, _ in pieces(server)] == [0, 0, HALF]


def test_where_only_the_last_answer_was_lost_nothing_is_sent_again(
    server: ScriptedServer, workbench: Workbench, file: Path
) -> None:
    server.script = [upload(len(CONTENT)), upload(len(CONTENT), "ds-1"), READY]
    workbench.datasets.upload(file)
    assert pieces(server) == [(len(CONTENT), b"")]


def test_an_upload_waits_while_its_broken_line_still_holds_it(
    server: ScriptedServer, workbench: Workbench, file: Path
) -> None:
    busy = refusal("CONFLICT", 409, "another request is sending", kind="UploadBusy")
    again = [busy, upload(0), busy, upload(0)]
    server.script = [upload(0), hang_up, upload(0), *again, upload(HALF), upload(len(CONTENT), "ds-1"), READY]
    assert workbench.datasets.upload(file).id == "ds-1"


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (refusal("UPLOAD_NOT_FOUND", 404), UploadNotFound),
        (refusal("VALIDATION_ERROR", 422, "not the file whose sha256 was said"), InvalidRequest),
        (refusal("UPLOAD_OFFSET_WRONG", 409, kind="UploadOffsetWrong", offset=0), Exception),
    ],
)
def test_an_upload_that_is_refused_ends(
    server: ScriptedServer, workbench: Workbench, file: Path, said: Step, error: type[Exception]
) -> None:
    server.script = [upload(0), said]
    with pytest.raises(error):
        workbench.datasets.upload(file)


def test_who_hangs_up_on_a_piece_is_heard_all_the_same(
    server: ScriptedServer, workbench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that is refused is not read to its end: what is said of it must still arrive."""
    monkeypatch.setattr(uploads, "PIECE_BYTES", 8 << 20)
    large = tmp_path / "large.csv"
    large.write_bytes(b"0" * (8 << 20))
    full = b'{"error": {"code": "STORAGE_FULL", "message": "the disk is full", "details": {}}}'

    def refuse(peer: socket.socket) -> None:
        with peer.makefile("rb") as reader:
            reader.readline()
        peer.sendall(b"HTTP/1.1 507 X\r\ncontent-length: %d\r\n\r\n%s" % (len(full), full))
        peer.shutdown(socket.SHUT_RD)

    server.script = [upload(0)]
    server.raw = {"PATCH": refuse}
    with pytest.raises(Exception, match="the disk is full"):
        workbench.datasets.upload(large)


def test_a_file_that_shrinks_meanwhile_is_said(
    server: ScriptedServer, workbench: Workbench, file: Path
) -> None:
    server.script = [upload(0), upload(HALF)]

    def shrinks(sent: int, _: int) -> None:
        file.write_bytes(CONTENT[: sent or None])

    with pytest.raises(CallFailed, match="has become shorter"):
        workbench.datasets.upload(file, progress=shrinks)


def test_an_upload_tells_how_far_it_is() -> None:
    moment: Any = UploadProgress("a<b>.csv", 5 << 20, 20 << 20, 2.0)
    assert str(moment) == "a<b>.csv · 5 MiB of 20 MiB · 2.5 MiB/s"
    assert moment.fraction == 0.25
    assert "<b>" not in moment.as_html()
    assert [readable(size) for size in (0, 999, 1000, 3 << 30)] == [
        "0 bytes",
        "999 bytes",
        "0.977 KiB",
        "3 GiB",
    ]


def test_a_name_before_the_rows_is_told_of_the_order(server: ScriptedServer, workbench: Workbench) -> None:
    rows: Any = [[1.0, 2.0]]
    with pytest.raises(InvalidRequest, match="the rows come first"):
        workbench.datasets.upload("ward", rows)
    assert server.seen == []
