"""What README says about devices runs as it stands."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.federation.conftest import Fleet
from tests.federation.digits import part_of_digits
from tg_workbench import Workbench

README = (Path(__file__).parents[2] / "README.md").read_text()
CHAPTER = README.partition("## Learning where the data is")[2].partition("\n## ")[0]
SERVER_SIDE, DEVICE_SIDE = re.findall(r"```python\n(.*?)```", CHAPTER, re.DOTALL)
ADDRESS, FOLDER = '"https://workbench.example"', 'folder="ward-4"'


def test_two_devices_learn_as_readme_says(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learned: dict[str, Any] = {}
    with Workbench(socket=str(fleet.server.socket), api_key=fleet.server.api_key) as wb:
        here: dict[str, Any] = {"wb": wb}
        exec(SERVER_SIDE, here)  # noqa: S102  # it is our own
        tokens = [capsys.readouterr().out.split()]
        another = wb.devices.enrollment_token()
        tokens.append([str(another.enrollment_token), another.organization_id])
        program = DEVICE_SIDE.replace(ADDRESS, "socket=SOCKET").replace(FOLDER, "folder=FOLDER")
        assert program.count("SOCKET") == program.count("=FOLDER") == 1

        def be(number: int) -> None:
            rows = part_of_digits(number, 2)
            told: dict[str, Any] = {
                "enrollment_token": tokens[number][0],
                "organization_id": tokens[number][1],
                "SOCKET": str(fleet.server.socket),
                "FOLDER": tmp_path / str(number),
                "X": rows["features"],
                "y": rows["targets"],
            }
            program_of = program.replace("device.learn({", "learned = device.learn(rounds=10, rows={")
            exec(program_of, told)  # noqa: S102
            learned[told["device"].id] = told["learned"]
            told["device"].close()

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(be, range(2)))
        assert fleet.campaign_over(here["campaign"].id)["status"] == "completed"
    assert [len(each) for each in learned.values()] == [10, 10]
