"""A home belongs to one database: two would have two ledgers for the same rows, and one set of files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts.test_process import run
from tests.server_extension.jupyter import running_jupyter
from tg_workbench.errors import InvalidSetting
from tg_workbench.home import MARK, belong, database_of

KEY = ["keys", "create", "--name", "mine"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    """Two folders to start commands in."""
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    return folders


def started_in(
    place: Path, home: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A command as somebody runs it who has set no DATABASE_URL."""
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    command = [sys.executable, "-m", "tg_workbench", *arguments]
    return subprocess.run(
        command,
        cwd=place,
        env={**environ, "TG_HOME": str(home), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_wherever_it_is_started_a_home_has_the_database_it_had_first(home: Path, places: list[Path]) -> None:
    one, other = places
    assert str(one / "tgsp.db") in started_in(one, home, *KEY).stdout
    assert str(one / "tgsp.db") in started_in(other, home, *KEY).stdout
    assert not (other / "tgsp.db").exists()
    assert f"ok  database: {one / 'tgsp.db'}" in started_in(other, home, "doctor").stdout


@pytest.mark.parametrize("command", [KEY, ["serve"], ["migrate"], ["rotate-keys"]], ids=" ".join)
def test_another_database_is_refused_and_not_made(home: Path, places: list[Path], command: list[str]) -> None:
    one, other = places
    started_in(one, home, "migrate")
    refused = started_in(other, home, *command, DATABASE_URL="sqlite:///./tgsp.db")
    assert refused.returncode == 2
    assert f"it must be sqlite:///{one / 'tgsp.db'}" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (other / "tgsp.db").exists()
    assert (
        "NO  database: DATABASE_URL"
        in started_in(other, home, "doctor", DATABASE_URL="sqlite:///./tgsp.db").stdout
    )


def test_a_database_that_was_moved_is_found_where_it_is_said_to_be(home: Path, places: list[Path]) -> None:
    one, other = places
    started_in(one, home, "migrate")
    (one / "tgsp.db").rename(other / "mine.db")
    moved = started_in(one, home, *KEY, DATABASE_URL=f"sqlite:///{other / 'mine.db'}")
    assert str(other / "mine.db") in moved.stdout
    assert str(other / "mine.db") in started_in(one, home, *KEY).stdout
    (other / "mine.db").unlink()
    assert started_in(one, home, "migrate").returncode == 0
    assert (other / "mine.db").exists(), "a lost one is not looked for elsewhere"
    assert not (one / "tgsp.db").exists()


def test_jupyter_uses_the_database_that_its_home_had_before(tmp_path: Path) -> None:
    with running_jupyter() as jupyter:
        assert jupyter.seen()["environ"]["DATABASE_URL"].endswith("/workbench/tgsp.db")
    home = tmp_path / "home"
    assert run(home, "migrate", DATABASE_URL=f"sqlite:///{tmp_path / 'served.db'}").returncode == 0
    with running_jupyter(TG_HOME=str(home)) as jupyter:
        assert jupyter.seen()["environ"]["DATABASE_URL"] == f"sqlite:///{tmp_path / 'served.db'}"


def test_the_same_database_by_another_path_is_the_same(home: Path, tmp_path: Path) -> None:
    database = tmp_path / "tgsp.db"
    database.write_bytes(b"")
    belong(home, database)
    (tmp_path / "link.db").symlink_to(database)
    belong(home, tmp_path / "link.db")
    belong(home, tmp_path / "home" / ".." / "tgsp.db")
    with pytest.raises(InvalidSetting, match="another TG_HOME"):
        belong(home, tmp_path / "other.db")
    assert database_of(home) == database


@pytest.mark.parametrize("told", ["", "relative.db\n", "/cut/off.d", "/a\0b\n", "\xff\xfe", "/" + 5000 * "a"])
def test_a_mark_that_says_nothing_is_written_anew(home: Path, tmp_path: Path, told: str) -> None:
    (home / MARK).write_bytes(told.encode("latin-1"))
    assert database_of(home) is None
    database = tmp_path / "tgsp.db"
    database.write_bytes(b"")
    belong(home, database)
    assert database_of(home) == database
    assert [path.name for path in home.iterdir()] == [MARK]


def test_a_served_home_is_marked_for_its_user_alone(home: Path, places: list[Path]) -> None:
    started_in(places[0], home, "migrate")
    assert (home / MARK).stat().st_mode & 0o077 == 0
