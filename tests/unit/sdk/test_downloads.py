from __future__ import annotations

import io
import socket
import zipfile
from pathlib import Path

import pytest

from tests.unit.sdk.resources.scripted_server import ScriptedServer, Step, answer, hang_up, refusal
from tg_workbench import CallFailed, DatasetNotFound, Workbench
from tg_workbench.sdk import Dataset, Model

CONTENT = bytes(range(256)) * 4


def part(start: int, *, until: int = len(CONTENT), status: int = 206) -> Step:
    """The file from `start` on; it breaks off at `until`."""

    def act(peer: socket.socket) -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(CONTENT) - start}\r\n\r\n"
        peer.sendall(head.encode() + CONTENT[start:until])
        if until < len(CONTENT):
            hang_up(peer)

    return act


@pytest.fixture
def dataset(workbench: Workbench) -> Dataset:
    told = {"dataset_id": "ds-1", "name": "rows", "file_name": "../../rows.csv"}
    return Dataset.from_wire(told, workbench._connection)


def ranges(server: ScriptedServer) -> list[str | None]:
    return [seen.headers.get("range") for seen in server.seen]


def test_a_download_goes_on_where_it_broke_off(
    server: ScriptedServer, dataset: Dataset, tmp_path: Path
) -> None:
    away = answer(b"", 503)
    server.script = [part(0, until=300, status=200), hang_up, away, part(300, until=301), part(301)]
    target = dataset.download(tmp_path / "rows.csv")
    assert target.read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=300-", "bytes=300-", "bytes=300-", "bytes=301-"]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_a_download_of_another_process_is_taken_up(
    server: ScriptedServer, dataset: Dataset, tmp_path: Path
) -> None:
    server.script = [part(0, until=300, status=200), hang_up]
    with pytest.raises(CallFailed, match="does not answer"):
        dataset.download(tmp_path / "rows.csv")
    assert not (tmp_path / "rows.csv").exists()
    server.script = [part(300)]
    dataset.download(tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_bytes() == CONTENT


def test_a_server_that_knows_no_parts_sends_the_whole_again(
    server: ScriptedServer, dataset: Dataset, tmp_path: Path
) -> None:
    server.script = [part(0, until=300, status=200), part(0, status=200)]
    assert dataset.download(tmp_path / "rows.csv").read_bytes() == CONTENT


def test_a_download_that_had_arrived_whole_is_done(
    server: ScriptedServer, dataset: Dataset, tmp_path: Path
) -> None:
    (tmp_path / ".rows.csv.ds-1.part").write_bytes(CONTENT)
    server.script = [answer(b"", 416, **{"content-range": f"bytes */{len(CONTENT)}"})]
    assert dataset.download(tmp_path / "rows.csv").read_bytes() == CONTENT


def test_a_download_stays_in_the_folder_that_was_named(
    server: ScriptedServer, dataset: Dataset, tmp_path: Path
) -> None:
    server.script = [part(0, status=200)]
    assert dataset.download(tmp_path) == tmp_path / "rows.csv"
    server.script = [refusal("DATASET_NOT_FOUND", 404)]
    with pytest.raises(DatasetNotFound):
        dataset.download(tmp_path / "again.csv")


def test_an_export_that_breaks_off_is_fetched_anew(
    server: ScriptedServer, workbench: Workbench, tmp_path: Path
) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model.safetensors", b"w" * 1000)
    whole = file.getvalue()

    def half(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n5\r\n" + whole[:5] + b"\r\n")
        hang_up(peer)

    server.script = [half, answer(whole)]
    folder = Model.from_wire({"model_id": "mdl-1"}, workbench._connection).export(tmp_path / "out")
    assert (folder / "model.safetensors").read_bytes() == b"w" * 1000
