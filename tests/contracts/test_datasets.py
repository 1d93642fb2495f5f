"""Datasets as three documents and our own contract see them: uploaded, looked at, got back, deleted."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import sqlite3
import time
import uuid
from typing import Any

import httpx
import pytest

from tests.contracts.envelopes import refusal
from tests.contracts.people import People, Person
from tests.held_writes import held
from tests.workbench_server import WorkbenchServer

KINDS = ("ham", "spam")
OURS = "/workbench/v1/datasets"
STARTS = itertools.count(0, 10_000)
POLICY = {"population", "unit", "relation", "delta", "epsilon_cap", "spent_epsilon"}


def table(rows: int = 40, start: float | None = None) -> bytes:
    """A CSV file of people who are in no other dataset."""
    start = next(STARTS) if start is None else start
    lines = [f"{start + row},{row % 7},{KINDS[row % 2]}" for row in range(rows)]
    return "\n".join(["age,visits,label", *lines, ""]).encode()


def upload(
    http: httpx.Client, content: bytes, path: str = "/datasets/upload", **fields: str
) -> httpx.Response:
    data = {"name": "My Dataset", "dataset_type": "classification", **fields}
    return http.post(path, files={"file": ("data.csv", content)}, data=data)


def ended(http: httpx.Client, dataset_id: str, seconds: float = 60) -> dict[str, Any]:
    """Our view of a dataset once it is no longer processing."""
    deadline = time.monotonic() + seconds
    while (view := http.get(f"{OURS}/{dataset_id}").json())["status"] == "processing":
        assert time.monotonic() < deadline, "it is still processing"
        time.sleep(0.05)
    return dict(view)


def ready(http: httpx.Client, content: bytes, **fields: str) -> dict[str, Any]:
    answer = upload(http, content, f"{OURS}/files", **fields)
    assert answer.status_code == 201, answer.text
    view = ended(http, answer.json()["dataset_id"])
    assert view["status"] == "ready", view["reason"]
    return view


def asked(server: WorkbenchServer, query: str, *values: Any) -> list[Any]:
    with sqlite3.connect(server.home / "tgsp.db", timeout=10) as connection:
        return connection.execute(query, values).fetchall()


def files_of(server: WorkbenchServer) -> list[str]:
    """What lies among the blobs that is no blob."""
    paths = (path for path in (server.home / "blobs").rglob("*") if path.is_file())
    return [str(path) for path in paths if len(path.name) != 64]


@pytest.fixture(scope="module")
def dora(people: People) -> Person:
    """She has nothing yet."""
    return people.register("dora")


# ----------------------------------------------------------------------------- Deep Learning Platform
@pytest.mark.operation("S3-05", "S3-06", "S3-07", "S3-08")
def test_a_file_is_uploaded_looked_at_and_deleted_as_the_document_says(dora: Person) -> None:
    content = table()
    made = upload(dora.http, content, description="Who comes how often")
    assert made.status_code == 201
    view = made.json()
    assert list(view) == [
        *("id", "name", "description", "dataset_type", "file_size", "uploaded_at", "status")
    ]
    assert view["name"] == "My Dataset"
    assert view["description"] == "Who comes how often"
    assert (view["dataset_type"], view["file_size"]) == ("classification", len(content))
    assert view["status"] == "processing"
    assert ended(dora.http, view["id"])["status"] == "ready"

    listed = dora.http.get("/datasets").json()
    assert list(listed) == ["total", "page", "limit", "datasets"]
    assert (listed["total"], listed["page"], listed["limit"]) == (1, 1, 10)
    assert listed["datasets"] == [{**view, "status": "ready"}]

    one = dora.http.get(f"/datasets/{view['id']}").json()
    assert one.pop("metadata") == {
        "rows": 40,
        "columns": 3,
        "features": ["age", "visits"],
        "target": "label",
    }
    assert one == listed["datasets"][0]

    gone = dora.http.delete(f"/datasets/{view['id']}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert refusal(dora.http.get(f"/datasets/{view['id']}"), "deep_learning").status == 404


def test_lists_are_sorted_and_cut_as_asked(people: People) -> None:
    http = people.register("sorter").http
    sizes = {"b": 30, "a": 10, "c": 20}
    for name, rows in sizes.items():
        upload(http, table(rows), name=name)

    def names(**query: Any) -> list[str]:
        return [one["name"] for one in http.get("/datasets", params=query).json()["datasets"]]

    assert names() == ["c", "a", "b"]
    assert names(sort_by="created_at", order="asc") == ["b", "a", "c"]
    assert names(sort_by="name", order="asc") == ["a", "b", "c"]
    assert names(sort_by="size", order="desc") == ["b", "c", "a"]
    assert names(sort_by="name", order="asc", page=2, limit=2) == ["c"]
    assert names(page=10**15) == []
    answer = http.get("/datasets", params={"sort_by": "colour"})
    assert refusal(answer, "deep_learning").code == "validation_error"
    assert answer.json()["details"][0]["field"] == "sort_by"


def test_a_dataset_type_is_required_where_the_document_has_it(dora: Person) -> None:
    answer = dora.http.post("/datasets/upload", files={"file": ("d.csv", table())}, data={"name": "n"})
    assert refusal(answer, "deep_learning").status == 400
    assert answer.json()["details"] == [{"field": "dataset_type", "message": "Field required"}]


# ----------------------------------------------------------------------------- AITIP
@pytest.mark.operation("S1-04", "S1-05", "S1-06")
def test_aitip_lists_creates_and_downloads(people: People) -> None:
    http, content = people.register("erin").http, table()
    made = http.post(
        "/api/v1/datasets",
        files={"file": ("mnist.csv", content)},
        data={"name": "dataset-name", "description": "Dataset description"},
    )
    assert made.status_code == 201, made.text
    view = made.json()["data"]
    assert made.json() == {"success": True, "data": view}
    assert list(view) == ["id", "name", "format", "size_bytes", "created_at"]
    assert (view["name"], view["format"], view["size_bytes"]) == ("dataset-name", "csv", len(content))
    listed = http.get("/api/v1/datasets").json()
    meta = {"page": 1, "page_size": 20, "total": 1}
    assert listed == {"success": True, "data": [view], "meta": meta}
    beyond = http.get("/api/v1/datasets", params={"page": 3, "page_size": 5}).json()
    assert (beyond["data"], beyond["meta"]["total"]) == ([], 1)
    assert http.get(f"/api/v1/datasets/{view['id']}/download").content == content


def test_a_download_comes_in_parts(dora: Person) -> None:
    content = table()
    view = upload(dora.http, content, f"{OURS}/files").json()
    for path in (
        f"{OURS}/{view['dataset_id']}/download",
        f"/api/v1/datasets/{view['dataset_id']}/download",
    ):
        whole = dora.http.get(path)
        etag = whole.headers["etag"]
        assert (whole.status_code, whole.content) == (200, content)
        assert whole.headers["content-disposition"] == 'attachment; filename="data.csv"'
        part = dora.http.get(path, headers={"Range": "bytes=4-9", "If-Range": etag})
        assert (part.status_code, part.content) == (206, content[4:10])
        assert part.headers["content-range"] == f"bytes 4-9/{len(content)}"
        changed = dora.http.get(path, headers={"Range": "bytes=4-9", "If-Range": '"another"'})
        assert (changed.status_code, changed.content) == (200, content)
        assert dora.http.get(path, headers={"Range": "lines=1"}).content == content
        beyond = dora.http.get(path, headers={"Range": f"bytes={len(content)}-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(content)}")
        head = dora.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert (head.headers["etag"], head.headers["content-length"]) == (etag, str(len(content)))


def test_a_file_name_cannot_leave_its_header(dora: Person) -> None:
    answer = dora.http.post(
        f"{OURS}/files",
        files={"file": ('../../etc/ro"ot.csv\u00e9', table())},
        data={"name": "n", "dataset_type": "classification"},
    )
    view = answer.json()
    assert "/" not in view["file_name"]
    told = dora.http.get(f"{OURS}/{view['dataset_id']}/download").headers["content-disposition"]
    assert told.startswith("attachment; filename*=utf-8''")
    assert '"' not in told


# ----------------------------------------------------------------------------- our own
def test_what_is_in_a_file_is_told_to_its_owner(dora: Person) -> None:
    view = ready(dora.http, table(), target="label", description="d")
    assert view["profile"]["covered_by_epsilon"] is False
    assert view["preview"] is None
    assert (view["size"], view["target"], view["file_format"]) == (40, "label", "csv")
    assert 0 < view["delta"] < 1 / 40
    assert view["encoding"]["class_names"] == list(KINDS)
    public = ready(dora.http, table(), name="open to all", privacy="public")
    assert len(public["preview"]) > 0


def test_the_same_name_makes_the_next_version(dora: Person) -> None:
    name = uuid.uuid4().hex
    versions = [upload(dora.http, table(), f"{OURS}/files", name=name).json()["version"] for _ in range(3)]
    assert versions == [1, 2, 3]
    listed = dora.http.get(OURS, params={"name": name}).json()
    assert [one["version"] for one in listed["datasets"]] == [3, 2, 1]


def test_one_key_makes_one_dataset(dora: Person, key: str) -> None:
    content, headers = table(), {"Idempotency-Key": key}

    def send(rows: bytes) -> httpx.Response:
        data = {"name": "once", "dataset_type": "classification"}
        return dora.http.post(f"{OURS}/files", files={"file": ("d.csv", rows)}, data=data, headers=headers)

    assert send(content).json()["dataset_id"] == send(content).json()["dataset_id"]
    assert send(table()).status_code == 409


def test_the_same_rows_are_the_same_people_however_the_file_is_read(dora: Person) -> None:
    content = table()
    first = ready(dora.http, content, name="read twice", epsilon_cap="2")
    again = ready(dora.http, content, ranges=json.dumps({"age": [0, 10**7]}), name="in another way")
    assert {name: again[name] for name in POLICY} == {name: first[name] for name in POLICY}
    assert (first["population_because"], again["population_because"]) == ("new", "same_rows")
    made = upload(dora.http, content, f"{OURS}/files", name="read openly", privacy="public").json()
    refused = ended(dora.http, made["dataset_id"])
    assert (refused["status"], "protected" in refused["reason"]) == ("failed", True)


def test_what_was_protected_is_found_in_any_other_file(dora: Person) -> None:
    content = table()
    first = ready(dora.http, content, name="found", epsilon_cap="3")
    header, *rows = content.decode().split()
    turned = ["\t".join(row.split(",")[::-1]) for row in (header.replace("age", "years"), *rows[::-1])]
    said = {"name": "found openly", "privacy": "public", "target": "label"}
    for other in (content + b"\n\n", "\r\n".join(turned).encode()):
        made = upload(dora.http, other, f"{OURS}/files", **said).json()
        refused = ended(dora.http, made["dataset_id"])
        assert (refused["status"], "registered as protected" in refused["reason"]) == ("failed", True)
    again = ready(dora.http, content + b"\n\n", name="found again", target="visits")
    assert {name: again[name] for name in POLICY} == {name: first[name] for name in POLICY}


def test_a_retry_does_not_bring_back_what_was_deleted(
    dora: Person, key: str, workbench_server: WorkbenchServer
) -> None:
    content, headers = table(), {"Idempotency-Key": key}

    def send() -> str:
        files = {"file": ("d.csv", content)}
        answer = dora.http.post(f"{OURS}/files", files=files, data={"name": "once"}, headers=headers)
        return str(answer.json()["dataset_id"])

    made = send()
    ended(dora.http, made)
    dora.http.delete(f"/datasets/{made}")
    assert send() == made
    digest = hashlib.sha256(content).hexdigest()
    assert not list((workbench_server.home / "blobs").rglob(digest))


def test_a_population_is_named_at_upload(dora: Person) -> None:
    first = ready(dora.http, table())
    second = ready(dora.http, table(), population=first["dataset_id"])
    assert second["population"] == first["population"]
    unknown = upload(dora.http, table(), f"{OURS}/files", population="ds-unknown")
    assert unknown.status_code == 404


def test_a_new_version_spends_the_budget_of_the_one_before(dora: Person) -> None:
    content = table()
    first = ready(dora.http, content, name="visits", epsilon_cap="2")
    second = ready(dora.http, content + b"5,2,ham\n", name="visits")
    assert (second["population"], second["population_because"]) == (first["population"], "same_name")
    assert second["epsilon_cap"] == 2
    spend(dora, second["dataset_id"])
    spent = dora.http.get(f"{OURS}/{first['dataset_id']}").json()["spent_epsilon"]
    assert spent > 0
    for made in (first, second):
        assert dora.http.delete(f"/datasets/{made['dataset_id']}").status_code == 204
    third = ready(dora.http, table(), name="visits", privacy="protected")
    assert (third["population"], third["spent_epsilon"]) == (first["population"], spent)


def test_that_a_version_is_about_other_people_has_to_be_said(dora: Person) -> None:
    opened = ready(dora.http, table(), name="wards", privacy="public")
    first = ready(dora.http, table(), name="wards")
    assert opened["version"] < first["version"], "what was public is nobody's kin"
    assert (first["population"], first["population_because"]) == (first["dataset_id"], "new")
    other = ready(dora.http, table(), name="wards", population="new")
    assert (other["population"], other["population_because"]) == (other["dataset_id"], "new")
    assert ready(dora.http, table(), name="wards")["population"] == other["population"]
    content = table()
    one = ready(dora.http, content, name="one ward")
    again = ready(dora.http, content, name="one ward", population="new")
    assert (again["population"], again["population_because"]) == (one["population"], "same_rows")
    said = {"name": "open ward", "privacy": "public", "population": "new"}
    assert upload(dora.http, table(), f"{OURS}/files", **said).status_code == 422


@pytest.mark.parametrize(
    ("path", "contract"),
    [
        ("/datasets/upload", "deep_learning"),
        ("/api/v1/datasets", "aitip"),
        (f"{OURS}/files", "workbench"),
        ("/api/datasets/validate", "coordination"),
    ],
)
@pytest.mark.parametrize("stands", ["there", "deleted", "being read"])
def test_a_protected_name_never_becomes_public(people: People, path: str, contract: str, stands: str) -> None:
    http, content = people.register(f"curator-{uuid.uuid4().hex[:8]}").http, table()
    before = upload(http, content, f"{OURS}/files", name="ward").json()
    if stands != "being read":
        before = ended(http, before["dataset_id"])
    if stands == "deleted":
        http.delete(f"{OURS}/{before['dataset_id']}")
    one_more = {"name": "ward", "privacy": "public"}
    for said in (one_more, {**one_more, "population": "new"}, {**one_more, "name": " ward "}):
        refused = refusal(upload(http, content + b"5,2,ham\n", path, **said), contract)
        assert 400 <= refused.status < 500
        assert before["dataset_id"] in refused.message
        assert "another name" in refused.message
    begun = {**one_more, "file_name": "w.csv", "size": 10}
    assert "another name" in refusal(http.post("/workbench/v1/uploads", json=begun), "workbench").message
    texts = {**one_more, "texts": ["one", "more"]}
    assert "another name" in refusal(http.post(OURS, json=texts), "workbench").message
    shown = http.get(OURS, params={"name": "ward"}).json()["datasets"]
    assert all(one["privacy"] == "protected" for one in shown), "nothing of it is left"
    assert upload(http, content + b"5,2,ham\n", path, **{**one_more, "name": "open"}).is_success


def test_an_upload_that_was_begun_before_its_name_was_protected_is_refused(dora: Person) -> None:
    content = table()
    begun = {"name": "overtaken", "file_name": "w.csv", "size": len(content), "privacy": "public"}
    upload_id = dora.http.post("/workbench/v1/uploads", json=begun).json()["upload_id"]
    ready(dora.http, table(), name="overtaken")
    headers = {"Upload-Offset": "0", "Content-Type": "application/octet-stream"}
    answer = dora.http.patch(f"/workbench/v1/uploads/{upload_id}", content=content, headers=headers)
    assert "another name" in refusal(answer, "workbench").message
    assert len(dora.http.get(OURS, params={"name": "overtaken"}).json()["datasets"]) == 1


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"unit_column": "visits"}, "Leave unit_ids out"),
        ({"delta": "1e-7"}, "delta is fixed"),
        ({"epsilon_cap": "1"}, "epsilon_cap can only be raised"),
    ],
)
def test_a_version_that_cannot_share_is_told_both_ways_out(
    dora: Person, policy: dict[str, str], words: str
) -> None:
    name = f"shared {words}"
    ready(dora.http, table(), name=name)
    content = table()
    made = upload(dora.http, content, f"{OURS}/files", name=name, **policy).json()
    view = ended(dora.http, made["dataset_id"])
    assert view["status"] == "failed"
    assert words in view["reason"]
    assert 'say so: population "new"' in view["reason"]
    assert ready(dora.http, content, name=name, population="new", **policy)["population_because"] == "new"


def test_rows_of_two_populations_are_refused_in_either(dora: Person) -> None:
    of, by = (
        "\n".join(["y,x,who", *(f"{row % 5},{row / 7},{whose + row % 3}" for row in range(60))]).encode()
        for whose in (0, 100)
    )
    whom = ready(dora.http, of, name="by patient", target="y", unit_column="who")
    flat = ready(dora.http, by, name="by row", target="y")
    assert whom["population"] != flat["population"]
    for population in ({}, {"population": whom["dataset_id"]}, {"population": "new"}):
        made = upload(
            dora.http, by, f"{OURS}/files", name="both", target="y", unit_column="who", **population
        ).json()
        view = ended(dora.http, made["dataset_id"])
        assert view["status"] == "failed"
        assert "about two populations" in view["reason"]
        assert whom["dataset_id"] in view["reason"]
        assert flat["dataset_id"] in view["reason"]


def test_the_same_rows_under_the_name_of_others_are_refused_until_it_is_said(dora: Person) -> None:
    content = table()
    here, _there = ready(dora.http, content, name="here"), ready(dora.http, table(), name="there")
    made = upload(dora.http, content, f"{OURS}/files", name="there").json()
    assert "give it another name" in ended(dora.http, made["dataset_id"])["reason"]
    said = ready(dora.http, content, name="there", population=here["dataset_id"])
    assert (said["population"], said["population_because"]) == (here["population"], "named")


def spend(person: Person, dataset_id: str) -> None:
    """Take one private step on it, and leave."""
    asked_for = {"model_ref": "mlp", "dataset_id": dataset_id, "batch_size": 8, "max_steps": 2}
    made = person.http.post("/api/v1/training_clients", json=asked_for)
    assert made.status_code == 201, made.text
    path = f"/api/v1/training_clients/{made.json()['training_client_id']}"
    body, wait = {"dataset_id": dataset_id}, {"Prefer": "wait=60"}
    for step in ("forward_backward", "optim_step"):
        answer = person.http.post(f"{path}/{step}", json=body if step[0] == "f" else {}, headers=wait)
        assert answer.json()["status"] == "completed", answer.text
    person.http.delete(path)


def test_a_file_that_is_no_good_fails_and_says_why(dora: Person) -> None:
    made = upload(dora.http, b"a,b\n1,2\n3\n4,5,6\n", f"{OURS}/files").json()
    view = ended(dora.http, made["dataset_id"])
    assert view["status"] == "failed"
    assert view["reason"]
    told = dora.http.get(f"/datasets/{made['dataset_id']}").json()
    assert (told["metadata"], told["reason"]) == (None, "line 3: has 1 values; the header has 2 (and 1 more)")
    client = {"model_ref": "mlp", "dataset_id": made["dataset_id"], "max_steps": 1}
    refused = dora.http.post("/api/v1/training_clients", json=client)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "DATASET_NOT_READY")


def test_a_client_learns_from_a_file(dora: Person) -> None:
    view = ready(dora.http, table())
    client = {"model_ref": "mlp", "dataset_id": view["dataset_id"], "batch_size": 8, "max_steps": 2}
    made = dora.http.post("/api/v1/training_clients", json=client)
    assert made.status_code == 201, made.text
    path = f"/api/v1/training_clients/{made.json()['training_client_id']}"
    body = {"dataset_id": view["dataset_id"]}
    learned = dora.http.post(f"{path}/forward_backward", json=body, headers={"Prefer": "wait=60"})
    assert learned.status_code == 200, learned.text
    assert learned.json()["status"] == "completed"
    in_use = dora.http.delete(f"/datasets/{view['dataset_id']}")
    assert refusal(in_use, "deep_learning").status == 409
    dora.http.delete(path)
    assert dora.http.delete(f"/datasets/{view['dataset_id']}").status_code == 204


def test_what_happened_is_told(dora: Person, workbench_server: WorkbenchServer) -> None:
    view = ready(dora.http, table())
    told = asked(workbench_server, "SELECT type, data FROM events WHERE subject = ?", view["dataset_id"])
    assert [(kind, json.loads(data)["status"]) for kind, data in told] == [("status", "ready")]


def test_downloads_and_uploads_are_in_the_audit_log(alice: Person) -> None:
    made = upload(alice.http, table(), f"{OURS}/files").json()
    alice.http.get(f"{OURS}/{made['dataset_id']}/download")
    alice.http.delete(f"{OURS}/{made['dataset_id']}")
    entries = alice.http.get("/workbench/v1/audit", params={"limit": 20}).json()["entries"]
    about = [entry["action"] for entry in entries if entry["object_id"] == made["dataset_id"]]
    assert about == [
        "workbench.delete_dataset",
        "workbench.download_dataset",
        "workbench.upload_dataset_file",
    ]


def test_an_upload_that_is_refused_at_the_end_is_not_told_as_done(alice: Person) -> None:
    assert upload(alice.http, table(), f"{OURS}/files", name="  ").status_code == 422
    newest = alice.http.get("/workbench/v1/audit", params={"limit": 1}).json()["entries"][0]
    assert (newest["action"], newest["outcome"]) == ("workbench.upload_dataset_file", "failed")


def test_deleting_takes_the_file_too_unless_another_has_it(
    dora: Person, workbench_server: WorkbenchServer
) -> None:
    content = table()
    one, other = (ready(dora.http, content)["dataset_id"] for _ in range(2))
    (blobs,) = asked(workbench_server, "SELECT source, blob FROM datasets WHERE id = ?", one)
    folder = workbench_server.home / "blobs"
    paths = [folder / blob[:2] / blob for blob in blobs]
    dora.http.delete(f"/datasets/{one}")
    assert all(path.exists() for path in paths)
    dora.http.delete(f"/datasets/{other}")
    assert not any(path.exists() for path in paths)


# ----------------------------------------------------------------------------- validation
@pytest.mark.operation("S4-10")
def test_a_file_is_validated_and_forgotten(alice: Person, workbench_server: WorkbenchServer) -> None:
    before = asked(workbench_server, "SELECT count(*) FROM datasets")
    good = alice.http.post("/api/datasets/validate", files={"file": ("data.csv", table())})
    assert good.status_code == 200, good.text
    assert set(good.json()) == {"valid", "errors", "warnings", "summary"}
    assert (good.json()["valid"], good.json()["errors"]) == (True, [])
    assert good.json()["summary"]["rows"] == 40
    bad = alice.http.post("/api/datasets/validate", files={"file": ("data.csv", b"a,b\n1,2\n3\n4,5,6\n")})
    assert (bad.status_code, bad.json()["valid"]) == (200, False)
    assert set(bad.json()["errors"][0]) == {"where", "problem"}
    assert asked(workbench_server, "SELECT count(*) FROM datasets") == before
    assert not asked(workbench_server, "SELECT id FROM work WHERE id LIKE 'validation-%'")
    assert not list((workbench_server.home / "blobs" / "checks").iterdir())
    nothing = alice.http.post("/api/datasets/validate", data={"name": "n"}, files={"other": ("f", b"x")})
    assert refusal(nothing, "coordination").status == 400


# ----------------------------------------------------------------------------- what is malformed
BOUNDARY = "xYzZy"


def part(disposition: str, content: bytes = b"a,b\n1,2\n", *headers: str) -> bytes:
    lines = [f"Content-Disposition: {disposition}", *headers]
    head = f"--{BOUNDARY}\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n"
    return head.encode() + content + b"\r\n"


FILE_PART = part('form-data; name="file"; filename="a.csv"')
NAME_PART = part('form-data; name="name"', b"n")
TYPE_PART = part('form-data; name="dataset_type"', b"classification")
END = f"--{BOUNDARY}--\r\n".encode()
MALFORMED = {
    "two files": FILE_PART + FILE_PART + NAME_PART + TYPE_PART + END,
    "no file": NAME_PART + TYPE_PART + END,
    "a file under another name": part('form-data; name="upload"; filename="a"') + NAME_PART + END,
    "a part without a name": part("form-data") + FILE_PART + END,
    "a NUL in a name": FILE_PART + part('form-data; name="na\0me"', b"n") + END,
    "a NUL in a value": FILE_PART + part('form-data; name="name"', b"n\0") + TYPE_PART + END,
    "a NUL in the file's name": part('form-data; name="file"; filename="a\0.csv"') + NAME_PART + END,
    "no UTF-8": FILE_PART + part('form-data; name="name"', b"\xff\xfe") + TYPE_PART + END,
    "a field twice": FILE_PART + NAME_PART + NAME_PART + TYPE_PART + END,
    "a field nobody knows": FILE_PART + NAME_PART + TYPE_PART + part('form-data; name="privcy"', b"x") + END,
    "half a body": FILE_PART[:40],
    "no end": FILE_PART + NAME_PART + TYPE_PART,
    "nothing": b"",
    "no form": b"a,b\n1,2\n",
    "an empty file": part('form-data; name="file"; filename="a"', b"") + NAME_PART + TYPE_PART + END,
    "a long header": part('form-data; name="file"; filename="a"', b"x", "X-Long: " + "x" * 10_000) + END,
    "many headers": part('form-data; name="file"; filename="a"', b"x", *(f"X-{n}: x" for n in range(99))),
    "many fields": FILE_PART + b"".join(part(f'form-data; name="f{n}"', b"x") for n in range(99)) + END,
    "a long field": FILE_PART + NAME_PART + part('form-data; name="description"', b"x" * 100_000) + END,
    "a number that is none": FILE_PART + NAME_PART + part('form-data; name="delta"', b"nan") + END,
    "ranges that are none": FILE_PART + NAME_PART + part('form-data; name="ranges"', b'{"a": [2, 1]}') + END,
    "ranges that are no JSON": FILE_PART + NAME_PART + part('form-data; name="ranges"', b"{a}") + END,
    "a wrong privacy": FILE_PART + NAME_PART + part('form-data; name="privacy"', b"none") + END,
}


@pytest.mark.parametrize(
    ("path", "contract"),
    [
        ("/datasets/upload", "deep_learning"),
        ("/api/v1/datasets", "aitip"),
        (f"{OURS}/files", "workbench"),
        ("/api/datasets/validate", "coordination"),
    ],
)
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_form_is_refused_and_leaves_nothing(
    dora: Person, workbench_server: WorkbenchServer, name: str, path: str, contract: str
) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    before = asked(workbench_server, "SELECT count(*) FROM datasets")
    answer = dora.http.post(path, content=MALFORMED[name], headers=headers)
    assert refusal(answer, contract).status in (400, 422)
    assert asked(workbench_server, "SELECT count(*) FROM datasets") == before
    assert not [path for path in files_of(workbench_server) if ".new-" in path]


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=", "text/csv", ""])
def test_a_form_names_its_boundary(dora: Person, kind: str) -> None:
    answer = dora.http.post(
        "/datasets/upload", content=FILE_PART + NAME_PART + TYPE_PART + END, headers={"Content-Type": kind}
    )
    assert refusal(answer, "deep_learning").status == 400


@pytest.mark.parametrize("content", [TYPE_PART + NAME_PART + FILE_PART, FILE_PART + TYPE_PART + NAME_PART])
def test_parts_come_in_any_order(dora: Person, content: bytes) -> None:
    headers = {"Content-Type": f'multipart/form-data; boundary="{BOUNDARY}"'}
    answer = dora.http.post("/datasets/upload", content=content + END, headers=headers)
    assert answer.status_code == 201, answer.text


# ----------------------------------------------------------------------------- what is lost on the way
ENDS = "UPDATE OF status ON datasets WHEN NEW.status = 'ready'"
"""What a worker writes last: held, no worker is done before it is killed."""


def test_a_worker_that_is_killed_is_followed_by_another(
    dora: Person, workbench_server: WorkbenchServer
) -> None:
    with held(workbench_server.home / "tgsp.db", ENDS):
        made = upload(dora.http, table(2000), f"{OURS}/files").json()
        killed = kill_worker(workbench_server, made["dataset_id"])
    view = ended(dora.http, made["dataset_id"])
    assert killed
    assert view["status"] == "ready"
    told = asked(workbench_server, "SELECT data FROM events WHERE subject = ?", made["dataset_id"])
    assert len(told) == 1
    assert not [path for path in files_of(workbench_server) if "scratch" in path]


def test_a_file_that_loses_three_workers_fails(dora: Person, workbench_server: WorkbenchServer) -> None:
    killed: set[int] = set()
    with held(workbench_server.home / "tgsp.db", ENDS):
        made = upload(dora.http, table(2000), f"{OURS}/files").json()
        while len(killed) < 3:
            killed.add(kill_worker(workbench_server, made["dataset_id"], killed))
    view = ended(dora.http, made["dataset_id"])
    assert view["status"] == "failed"
    assert "lost 3 times (killed by SIGKILL)" in view["reason"]


def kill_worker(server: WorkbenchServer, work_id: str, but: set[int] | None = None) -> int:
    """Kill the worker as soon as there is one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for (pid,) in asked(server, "SELECT pid FROM work WHERE id = ? AND pid IS NOT NULL", work_id):
            if pid not in (but or ()):
                os.kill(pid, signal.SIGKILL)
                return int(pid)
    raise AssertionError("there was no worker")
