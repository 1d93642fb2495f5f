"""Archives that mean harm are refused within 2 seconds and 64 MiB, and leave nothing anywhere."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest

from tests.unit.datasets.files.bombs import BOMBS, HEADER, archive
from tests.unit.datasets.files.conftest import Desk
from tg_workbench.datasets.files import Limits

MOST_SECONDS, MOST_BYTES = 2.0, 64 << 20
CHILD = """if True:
    import json, resource, sys, time
    from pathlib import Path
    from tg_workbench.datasets.files import FileRequest
    from tg_workbench.datasets.files.preparing import prepare
    from tg_workbench.errors import DatasetInvalid

    def held(name):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))

    folder = Path(sys.argv[1])
    before = held("VmHWM")
    if sys.platform == "linux":
        room = held("VmData") + (64 << 20)
        resource.setrlimit(resource.RLIMIT_DATA, (room, room))
    start = time.process_time()
    try:
        prepare(folder / "source.zip", FileRequest("source.zip"), folder / "into")
        problem = ""
    except DatasetInvalid as error:
        problem = error.problems[0]["problem"]
    seconds = time.process_time() - start
    print(json.dumps({"problem": problem, "seconds": seconds, "bytes": held("VmHWM") - before}))"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured through /proc")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_quickly_and_in_little_memory(name: str, tmp_path: Path) -> None:
    make, problem = BOMBS[name]
    (tmp_path / "source.zip").write_bytes(make())
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert child.returncode == 0, child.stderr
    told = json.loads(child.stdout)
    print(f"{name}: {told['seconds']:.2f} s, {told['bytes'] / 2**20:.1f} MiB")  # noqa: T201
    assert re.search(problem, told["problem"])
    assert told["seconds"] <= MOST_SECONDS
    assert told["bytes"] <= MOST_BYTES
    assert [path.name for path in tmp_path.iterdir()] == ["source.zip"]


def test_an_encrypted_file_is_refused(desk: Desk) -> None:
    data = bytearray(archive([("a.csv", HEADER.encode())]))
    data[data.index(b"PK\1\2") + 8] |= 1
    assert desk.refuse("t.zip", bytes(data)) == [{"where": "file a.csv", "problem": "is encrypted"}]


def test_a_method_nobody_needs_is_refused(desk: Desk) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("a.csv", HEADER)
    assert "use deflate" in desk.refuse("t.zip", data.getvalue())[0]["problem"]


def test_damage_is_told_by_the_files_name(desk: Desk) -> None:
    data = bytearray(archive([("b/a.csv", HEADER.encode() * 50)]))
    data[45] ^= 255
    assert desk.refuse("t.zip", bytes(data))[0]["where"] == "file b/a.csv"
    assert desk.refuse("t.zip", bytes(data)[:-30])[0]["problem"] == "is a ZIP archive that is cut off"


def test_csv_files_of_one_header_are_one_table(desk: Desk) -> None:
    data = archive([("b.csv", b"a,y\n3,1\n"), ("a.csv", HEADER.encode()), ("__MACOSX/x", b"?")])
    outcome = desk.take("t.zip", data)
    assert outcome.prepared.inspection.file_format == "zip"
    assert outcome.tensors["targets"].tolist() == [0, 1, 1]


def test_a_mistake_in_one_csv_is_told_by_file_and_line(desk: Desk) -> None:
    good = ("a.csv", HEADER.encode())
    for content, where in (
        (b"a,y\n1,0\n2\n", "file b.csv, line 3"),
        (b"a,z\n1,0\n", "file b.csv"),
        (b"a,y\n1,0\n5,\n", "file b.csv, row 2 (line 3), column y"),
        (b"", "file b.csv"),
    ):
        assert desk.refuse("t.zip", archive([good, ("b.csv", content)]))[0]["where"] == where
    assert desk.refuse("t.zip", archive([good, ("c.txt", b"x")]))[0]["where"] == "file c.txt"


def test_what_it_unpacks_to_is_bounded(desk: Desk) -> None:
    data = archive([("a.csv", HEADER.encode() + b"1,0\n" * 1_000)])
    assert (
        "unpack to more than 1,000 bytes"
        in desk.refuse("t.zip", data, Limits(decoded_bytes=1_000))[0]["problem"]
    )


def test_a_name_that_is_twice_in_the_archive_is_refused(desk: Desk) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns us of what we are about to do
        data = archive([("a.csv", HEADER.encode()), ("a.csv", HEADER.encode())])
    assert desk.refuse("t.zip", data) == [{"where": "file a.csv", "problem": "is there twice"}]
