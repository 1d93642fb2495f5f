"""The programs in the Deep Learning Platform's document run as they stand there, against a live server."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contracts.seeds import script
from tests.contracts.test_process import answers, serving
from tests.ports import free_port
from tg_workbench.crypto import passwords

PRELUDE = """
import { readFileSync } from "node:fs";
const content = readFileSync(new URL("data.csv", import.meta.url));
globalThis.fileInput = { files: [new File([content], "data.csv")] };
"""
"""What a page has: an element in which somebody has chosen a file."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where the programs run: `data.csv` lies there."""
    with tempfile.TemporaryDirectory(prefix="tgw-") as name:
        rows = [f"{row % 7},{row % 5},{row % 3},{'yes' if row % 2 else 'no'}" for row in range(60)]
        (Path(name) / "data.csv").write_text("\n".join(["a,b,c,label", *rows, ""]))
        yield Path(name)


@pytest.fixture(scope="module")
def site() -> Iterator[httpx.Client]:
    """A live server on a port, where the document's user has the document's password.

    It is too short for a new account: theirs is older than that rule.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="tgw-") as name:
        url = f"http://localhost:{port}"
        with serving(Path(name), PORT=str(port)), httpx.Client(base_url=url, timeout=60) as http:
            answers(http, "/ready", 200)
            account = {"username": "user", "email": "user@example.com", "password": "long enough"}
            assert http.post("/auth/register", json=account).status_code == 201
            with sqlite3.connect(Path(name) / "tgsp.db", timeout=20) as database:
                database.execute("UPDATE users SET password_hash = ?", (passwords._hasher().hash("pass"),))
            token = http.post("/auth/login", json={"username": "user", "password": "pass"}).json()
            http.headers["Authorization"] = f"Bearer {token['access_token']}"
            yield http


def run(command: list[str], program: str, folder: Path, site: httpx.Client, name: str) -> None:
    """Run a program of the document; the port is all that is not as it stands there."""
    (folder / name).write_text(program.replace("http://localhost:8000", str(site.base_url).rstrip("/")))
    done = subprocess.run(
        [*command, name], cwd=folder, env=os.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def newest_job(site: httpx.Client) -> dict[str, Any]:
    """What the program has started; it is stopped, for it is larger than a test."""
    job = site.get("/workbench/v1/jobs", params={"limit": 1}).json()["jobs"][0]
    view: dict[str, Any] = site.get(f"/workbench/v1/jobs/{job['id']}").json()
    deadline = time.monotonic() + 60
    while site.post(f"/training/stop/{job['id']}").json()["status"] != "stopped":
        assert time.monotonic() < deadline, "it goes on"
    return view


@pytest.mark.operation("S3-03", "S3-05", "S3-09", "S3-12")
def test_the_python_program_uploads_and_starts_training(folder: Path, site: httpx.Client) -> None:
    run([sys.executable], script("deep_learning", "Python"), folder, site, "program.py")
    job = newest_job(site)
    assert (job["model"], job["spec"]["epochs"], job["spec"]["batch_size"]) == ("resnet50", 100, 32)
    assert site.get(f"/datasets/{job['dataset_id']}").json()["name"] == "My Dataset"


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js here")
@pytest.mark.operation("S3-03", "S3-05", "S3-09", "S3-12")
def test_the_javascript_program_uploads_and_starts_training(folder: Path, site: httpx.Client) -> None:
    (folder / "page.mjs").write_text(PRELUDE)
    node = ["node", "--import", "./page.mjs"]
    run(node, script("deep_learning", "JavaScript/TypeScript"), folder, site, "program.mjs")
    job = newest_job(site)
    assert (job["model"], job["spec"]["learning_rate"]) == ("resnet50", 0.001)
