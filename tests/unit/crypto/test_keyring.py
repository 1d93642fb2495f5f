"""The keyring is made once, readable by its owner only, and rotating it loses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tg_workbench.crypto import Keyring
from tg_workbench.crypto.keyring import FILE
from tg_workbench.errors import SealBroken


def test_the_keyring_is_made_at_first_use_and_survives(tmp_path: Path) -> None:
    first = Keyring.open(tmp_path)
    assert Keyring.open(tmp_path) == first
    assert (tmp_path / "keys" / FILE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [FILE]


def test_rotating_puts_a_new_key_in_front_and_keeps_the_old(tmp_path: Path) -> None:
    before = Keyring.open(tmp_path)
    after = Keyring.rotate(tmp_path)
    assert after.newest[0] not in before.keys
    assert after.get(before.newest[0]) == before.newest[1]


def test_a_key_that_is_not_on_the_ring_opens_nothing(tmp_path: Path) -> None:
    with pytest.raises(SealBroken):
        Keyring.open(tmp_path).get("kek-of-another-workbench")


def test_processes_that_open_it_at_once_share_one_keyring(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tg_workbench.crypto import Keyring;"
        "print(Keyring.open(Path(sys.argv[1])).newest[0])"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    names = {process.communicate(timeout=60)[0].strip() for process in processes}
    stored = json.loads((tmp_path / "keys" / FILE).read_text())["keys"]
    assert names == {stored[0]["id"]}
