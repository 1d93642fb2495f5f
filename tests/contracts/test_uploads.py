"""Large files: bounded in memory and on disk, in pieces, and through the death of the workbench."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.contracts.envelopes import refusal
from tests.contracts.people import Person
from tests.contracts.test_datasets import BOUNDARY, FILE_PART, OURS, asked, ended, files_of, table, upload
from tests.held_writes import held
from tests.workbench_server import WorkbenchServer
from tg_workbench import Workbench

UPLOADS = "/workbench/v1/uploads"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
MOST = 8 << 20
LARGE = 300 << 20
WAYS = [
    ("/datasets/upload", "deep_learning"),
    ("/api/v1/datasets", "aitip"),
    ("/workbench/v1/datasets/files", "workbench"),
    ("/api/datasets/validate", "coordination"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[WorkbenchServer]:
    """One that may be killed, with little room for a file."""
    started = WorkbenchServer(TG_MAX_UPLOAD_BYTES=str(MOST))
    yield started
    started.stop()


@pytest.fixture
def wire(server: WorkbenchServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def begun(wire: httpx.Client, size: int, **more: str) -> str:
    body = {"name": "in pieces", "file_name": "rows.csv", "size": size, **more}
    answer = wire.post(UPLOADS, json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["upload_id"])


def send(wire: httpx.Client, upload_id: str, offset: int, piece: bytes | Iterator[bytes]) -> httpx.Response:
    headers = {"Upload-Offset": str(offset), "Content-Type": "application/octet-stream"}
    return wire.patch(f"{UPLOADS}/{upload_id}", content=piece, headers=headers)


def until(is_so: Callable[[], bool], otherwise: str, every: float = 0.05) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, otherwise
        time.sleep(every)


def slowly(pieces: int) -> Iterator[bytes]:
    """A form whose file goes on and on."""
    yield FILE_PART[:-2]
    for _ in range(pieces):
        yield b"x" * (64 << 10)
        time.sleep(0.01)


# ----------------------------------------------------------------------------- limits
@pytest.mark.parametrize(("path", "contract"), WAYS)
def test_too_large_a_file_is_refused_before_it_is_read(
    server: WorkbenchServer, wire: httpx.Client, path: str, contract: str
) -> None:
    answer = promised(server, path, MOST + 1, FORM["Content-Type"])  # of the body nothing is ever sent
    assert refusal(answer, contract).status == 413
    whole = wire.post(path, content=slowly(MOST // (64 << 10) + 2), headers=FORM)
    assert refusal(whole, contract).status == 413
    assert files_of(server) == []


@pytest.fixture(scope="module")
def impatient() -> Iterator[WorkbenchServer]:
    """One that lets a file drip for a few seconds only."""
    started = WorkbenchServer(TG_UPLOAD_GRACE_SECONDS="4")
    yield started
    started.stop()


def drops(first: bytes, is_over: threading.Event) -> Iterator[bytes]:
    """A body that comes ten bytes at a time."""
    yield first
    while not is_over.wait(0.1):
        yield b"x" * 10


def test_whoever_lets_files_drip_gives_the_place_back(impatient: WorkbenchServer) -> None:
    answers: dict[str, httpx.Response] = {}
    is_over = threading.Event()

    def drip(path: str) -> None:
        with impatient.client() as other:
            answers[path] = other.post(path, content=drops(FILE_PART[:-2], is_over), headers=FORM)

    def taken() -> int:
        return sum(".new-" in path for path in files_of(impatient))

    def came(wire: httpx.Client, name: str) -> httpx.Response:
        said = {"name": name, "dataset_type": "x"}
        return wire.post("/datasets/upload", files={"file": ("rows.csv", table())}, data=said)

    dripping = [threading.Thread(target=drip, args=(path,)) for path, _ in WAYS]
    for thread in dripping:
        thread.start()
    with impatient.client() as wire:
        until(lambda: taken() == len(WAYS), "they have no places")
        assert refusal(came(wire, "soon"), "deep_learning").status == 429
        until(lambda: came(wire, "later").status_code == 201, "they keep their places")
    is_over.set()
    for thread in dripping:
        thread.join(20)
    for path, contract in WAYS:
        told = refusal(answers[path], contract)
        assert (told.status, "too slowly" in told.message) == (408, True)
    assert refusal(answers["/workbench/v1/datasets/files"], "workbench").code == "UPLOAD_TOO_SLOW"


def test_what_dripped_into_an_upload_is_kept_and_gone_on_with(impatient: WorkbenchServer) -> None:
    content = table(70)
    with impatient.client() as wire:
        upload = begun(wire, len(content))
        slow = send(wire, upload, 0, (content[at : at + 9] for at in timed(range(0, len(content), 9))))
        assert refusal(slow, "workbench").code == "UPLOAD_TOO_SLOW"
        offset = wire.get(f"{UPLOADS}/{upload}").json()["offset"]
        assert 0 < offset < len(content)
        assert send(wire, upload, offset, content[offset:]).json()["dataset_id"]


def timed(numbers: range) -> Iterator[int]:
    for number in numbers:
        yield number
        time.sleep(0.1)


def test_another_body_is_as_bounded_as_ever(server: WorkbenchServer) -> None:
    assert promised(server, "/datasets/upload", 100 << 20, "application/json").status_code == 413


def promised(server: WorkbenchServer, path: str, size: int, kind: str) -> httpx.Response:
    """The answer to a request whose body does not come."""
    lines = (f"POST {path} HTTP/1.1", "Host: workbench", f"Authorization: Bearer {server.api_key}")
    more = (f"Content-Type: {kind}", f"Content-Length: {size}", "Connection: close")
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(10)
        line.connect(str(server.socket))
        line.sendall("".join(f"{text}\r\n" for text in (*lines, *more, "")).encode())
        told = http.client.HTTPResponse(line)
        told.begin()
        return httpx.Response(told.status, headers=dict(told.getheaders()), content=told.read())


def test_three_hundred_megabytes_take_little_memory(
    workbench_server: WorkbenchServer,
    api: httpx.Client,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    path = tmp_path / "large.csv"
    with path.open("wb") as file:
        file.truncate(LARGE)
    process = psutil.Process(workbench_server.pid)
    before, over = process.memory_info().rss, threading.Event()
    peak = before

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.01):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    with path.open("rb") as content:
        answer = api.post("/api/v1/datasets", files={"file": ("large.csv", content)}, data={"name": "large"})
    seconds = time.monotonic() - began
    over.set()
    watcher.join()
    told = f"300 MiB in {seconds:.2f} s; peak {(peak - before) >> 20} MiB above {before >> 20} MiB"
    record_property("told", told)
    assert answer.status_code == 201, answer.text
    assert peak - before < 32 << 20
    ended(api, answer.json()["data"]["id"])
    api.delete(f"/datasets/{answer.json()['data']['id']}")


def test_others_are_served_while_a_file_arrives(server: WorkbenchServer, wire: httpx.Client) -> None:
    is_over = threading.Event()

    def endless() -> Iterator[bytes]:
        yield FILE_PART[:-2]
        while not is_over.wait(0.01):
            yield b"x" * (4 << 10)

    def upload() -> None:
        with server.client() as other, contextlib.suppress(httpx.HTTPError):
            other.post("/datasets/upload", content=endless(), headers=FORM)

    uploading = threading.Thread(target=upload)
    uploading.start()
    until(lambda: any(".new-" in path for path in files_of(server)), "nothing arrives")
    for _ in range(20):
        assert wire.get("/datasets").status_code == 200
    assert uploading.is_alive(), "they were answered before it had come"
    is_over.set()
    uploading.join(20)


# ----------------------------------------------------------------------------- what is lost on the way
def test_a_caller_who_goes_away_leaves_nothing(server: WorkbenchServer) -> None:
    def breaks_off() -> Iterator[bytes]:
        yield from slowly(20)
        assert [path for path in files_of(server) if ".new-" in path]
        raise ConnectionAbortedError

    with server.client() as leaving, pytest.raises(ConnectionAbortedError):
        leaving.post("/datasets/upload", content=breaks_off(), headers=FORM)
    deadline = time.monotonic() + 10
    while files_of(server):
        assert time.monotonic() < deadline, files_of(server)
        time.sleep(0.05)
    assert not asked(server, "SELECT id FROM datasets WHERE file_name = 'a.csv'")


def test_a_workbench_that_is_killed_leaves_nothing_of_half_a_file(server: WorkbenchServer) -> None:
    def killed() -> Iterator[bytes]:
        yield from slowly(30)
        server.kill()
        yield b"x" * (64 << 10)

    with server.client() as leaving, contextlib.suppress(httpx.HTTPError):
        leaving.post("/datasets/upload", content=killed(), headers=FORM)
    assert [path for path in files_of(server) if ".new-" in path]
    server.restart()
    assert files_of(server) == []


@pytest.fixture(scope="module")
def mortal() -> Iterator[WorkbenchServer]:
    """One that is killed under uploads, which then stay open."""
    started = WorkbenchServer()
    yield started
    started.stop()


@pytest.mark.parametrize("way", ["form", "pieces"])
def test_no_file_that_came_whole_is_left_unheard_of(mortal: WorkbenchServer, way: str) -> None:
    content = table(50)
    digest = hashlib.sha256(content).hexdigest()
    blob = mortal.home / "blobs" / digest[:2] / digest
    with mortal.client() as wire:
        upload_id = begun(wire, len(content))

    def hand_over() -> None:
        with mortal.client() as leaving, contextlib.suppress(httpx.HTTPError):
            if way == "form":
                upload(leaving, content, "/workbench/v1/datasets/files")
            else:
                send(leaving, upload_id, 0, content)

    with held(mortal.home / "tgsp.db", "INSERT ON audit_entries"):  # the last of the dataset's transaction
        handing = threading.Thread(target=hand_over)
        handing.start()
        until(blob.exists, "no file comes")
        mortal.kill()  # between the file and the dataset
        handing.join(20)
    assert blob.exists()
    assert not asked(mortal, "SELECT id FROM datasets WHERE source = ?", digest)
    asked(mortal, "UPDATE left_blobs SET due_at = 0")  # an hour passes
    mortal.restart()
    until(lambda: not blob.exists(), "the file is left")
    kept = asked(mortal, "SELECT source FROM datasets WHERE deleted_at IS NULL AND source IS NOT NULL")
    assert all((mortal.home / "blobs" / source[:2] / source).exists() for (source,) in kept)


def test_no_rows_are_left_of_a_file_that_is_deleted_under_a_killed_worker(mortal: WorkbenchServer) -> None:
    scratch = mortal.home / "blobs" / "scratch"
    with mortal.client() as wire:
        answer = upload(wire, table(200_000), f"{OURS}/files", privacy="public")
        dataset_id = answer.json()["dataset_id"]
        until(lambda: bool(list(scratch.glob("*/*"))), "nobody looks at it", every=0.0)
        for (pid,) in asked(mortal, "SELECT pid FROM work WHERE id = ? AND pid IS NOT NULL", dataset_id):
            psutil.Process(pid).kill()
        assert wire.delete(f"{OURS}/{dataset_id}").status_code == 200
    mortal.restart()
    until(lambda: not list(scratch.glob("*")), "its rows are left")


# ----------------------------------------------------------------------------- in pieces
def test_a_file_comes_in_pieces_through_the_death_of_the_workbench(server: WorkbenchServer) -> None:
    content = table(3000)
    half = len(content) // 2
    with server.client() as wire:
        upload_id = begun(wire, len(content), sha256=hashlib.sha256(content).hexdigest())
        assert send(wire, upload_id, 0, content[:half]).json()["offset"] == half
    server.kill()
    server.restart()
    with server.client() as wire:
        told = wire.head(f"{UPLOADS}/{upload_id}")
        assert (told.status_code, told.headers["upload-offset"]) == (200, str(half))
        done = send(wire, upload_id, half, content[half:]).json()
        assert done["offset"] == len(content)
        view = ended(wire, done["dataset_id"])
        assert (view["name"], view["file_size"], view["status"]) == ("in pieces", len(content), "ready")
        assert wire.get(f"/api/v1/datasets/{done['dataset_id']}/download").content == content
        again = send(wire, upload_id, len(content), b"").json()
        assert again["dataset_id"] == done["dataset_id"]
    assert files_of(server) == []


def test_a_piece_that_is_cut_off_is_gone_on_from(server: WorkbenchServer) -> None:
    content = table(60_000)
    with server.client() as wire:
        upload_id = begun(wire, len(content))

    def breaks_off() -> Iterator[bytes]:
        for start in range(0, 20 * 10_000, 10_000):
            yield content[start : start + 10_000]
            time.sleep(0.005)
        raise ConnectionAbortedError

    with server.client() as leaving, pytest.raises(ConnectionAbortedError):
        send(leaving, upload_id, 0, breaks_off())
    with server.client() as wire:
        until(lambda: "upload-offset" in send(wire, upload_id, 1 << 40, b"").headers, "it is busy")
        offset = wire.get(f"{UPLOADS}/{upload_id}").json()["offset"]
        assert 0 <= offset <= 20 * 10_000
        wrong = send(wire, upload_id, offset + 1, content[offset + 1 :])
        assert (wrong.status_code, wrong.headers["upload-offset"]) == (409, str(offset))
        assert wrong.json()["error"]["details"]["offset"] == offset
        done = send(wire, upload_id, offset, content[offset:]).json()
        assert ended(wire, done["dataset_id"])["status"] == "ready"


def test_more_than_was_said_and_what_was_not_said_is_refused(wire: httpx.Client) -> None:
    upload_id = begun(wire, 10, sha256="0" * 64)
    assert send(wire, upload_id, 0, b"x" * 11).status_code == 422
    assert wire.get(f"{UPLOADS}/{upload_id}").json()["offset"] == 0
    other = send(wire, upload_id, 0, b"x" * 10)
    assert (other.status_code, "sha256" in other.json()["error"]["message"]) == (422, True)
    assert wire.get(f"{UPLOADS}/{upload_id}").json()["offset"] == 0
    assert wire.delete(f"{UPLOADS}/{upload_id}").json() == {"deleted": True}
    assert wire.get(f"{UPLOADS}/{upload_id}").status_code == 404


def test_uploads_are_few_and_not_for_ever(server: WorkbenchServer, wire: httpx.Client) -> None:
    assert wire.post(UPLOADS, json={"name": "n", "file_name": "f", "size": MOST + 1}).status_code == 413
    upload_ids = [begun(wire, 10) for _ in range(8)]
    send(wire, upload_ids[0], 0, b"x")
    full = wire.post(UPLOADS, json={"name": "n", "file_name": "f", "size": 10})
    assert (full.status_code, full.json()["error"]["code"]) == (429, "QUOTA_EXCEEDED")
    asked(server, "UPDATE uploads SET expires_at = 0")
    assert wire.get(f"{UPLOADS}/{upload_ids[0]}").status_code == 404
    deadline = time.monotonic() + 10
    while files_of(server) or asked(server, "SELECT id FROM uploads"):  # though nobody begins another one
        assert time.monotonic() < deadline, files_of(server)
        time.sleep(0.05)
    wire.delete(f"{UPLOADS}/{begun(wire, 10)}")


def test_the_same_again_goes_on_with_what_was_begun(wire: httpx.Client) -> None:
    said = {
        "name": "again",
        "file_name": "rows.csv",
        "size": 100,
        "sha256": "0" * 64,
        "ranges": {"x": [0, 1]},
    }
    first = wire.post(UPLOADS, json=said)
    assert (first.status_code, first.headers["upload-offset"]) == (201, "0")
    upload_id = first.json()["upload_id"]
    send(wire, upload_id, 0, b"x" * 9)
    for _ in range(
        9
    ):  # its answer was lost, or whoever sent it was stopped: that takes no place of the eight
        again = wire.post(UPLOADS, json=said)
        assert (again.json()["upload_id"], again.json()["offset"]) == (upload_id, 9)
        assert again.headers["upload-offset"] == "9"
    for other in ({"size": 101}, {"sha256": "1" * 64}, {"name": "another"}, {"ranges": {"x": [0, 2]}}):
        elsewhere = wire.post(UPLOADS, json={**said, **other}).json()
        assert (elsewhere["upload_id"] == upload_id, elsewhere["offset"]) == (False, 0)
        wire.delete(f"{UPLOADS}/{elsewhere['upload_id']}")
    wire.delete(f"{UPLOADS}/{upload_id}")


@pytest.mark.parametrize("size", [400, 1000], ids=["the last piece", "one in the middle"])
def test_what_was_forgotten_while_a_piece_came_is_not_told_of(server: WorkbenchServer, size: int) -> None:
    with server.client() as wire, server.client() as other:
        upload_id = begun(wire, size)

        def pieces() -> Iterator[bytes]:
            yield b"x" * 200
            deadline = time.monotonic() + 10
            while not (server.home / "blobs" / "partial" / upload_id).exists():
                assert time.monotonic() < deadline, "nothing arrives"
                time.sleep(0.02)
            assert other.delete(f"{UPLOADS}/{upload_id}").status_code == 200
            yield b"x" * 200

        gone = refusal(send(wire, upload_id, 0, pieces()), "workbench")
        assert (gone.status, gone.code) == (404, "UPLOAD_NOT_FOUND")
        assert not (server.home / "blobs" / "partial" / upload_id).exists()


def test_a_piece_is_taken_as_it_is_or_not_at_all(wire: httpx.Client) -> None:
    upload_id = begun(wire, 10)
    headers = {"Upload-Offset": "0", "Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}
    packed = wire.patch(f"{UPLOADS}/{upload_id}", content=b"x", headers=headers)
    told = refusal(packed, "workbench")
    assert (told.status, "Content-Encoding" in told.message) == (422, True)
    assert wire.get(f"{UPLOADS}/{upload_id}").json()["offset"] == 0
    wire.delete(f"{UPLOADS}/{upload_id}")


def test_many_files_of_one_owner_wait_for_their_turns(server: WorkbenchServer, tmp_path: Path) -> None:
    workbench = Workbench(socket=str(server.socket), api_key=server.api_key)
    may_end = threading.Event()

    def drips() -> Iterator[bytes]:
        yield FILE_PART[:-2]
        may_end.wait(40)

    def hold() -> int:
        with server.client() as other:
            return other.post("/datasets/upload", content=drips(), headers=FORM).status_code

    path = tmp_path / "rows.csv"
    path.write_bytes(table())
    with ThreadPoolExecutor(5) as pool:
        held, deadline = [pool.submit(hold) for _ in range(4)], time.monotonic() + 20
        while sum(".new-" in each for each in files_of(server)) < 4:
            assert time.monotonic() < deadline, "they have no places"
            time.sleep(0.05)
        sending = pool.submit(workbench.datasets.upload, path, wait=False)
        time.sleep(1)
        may_end.set()
        assert sending.result(30).wait(30).status == "ready"
        assert {each.result() for each in held} == {400}
    workbench.close()


def test_nobody_sends_to_the_upload_of_another(alice: Person, bob: Person) -> None:
    upload_id = begun(alice.http, 10)
    assert send(bob.http, upload_id, 0, b"x").status_code == 404
    assert bob.http.head(f"{UPLOADS}/{upload_id}").status_code == 404
    alice.http.delete(f"{UPLOADS}/{upload_id}")
