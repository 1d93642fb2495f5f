"""A worker says what was in its way."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tg_workbench.datasets import FileSpec
from tg_workbench.datasets.worker import DatasetWorker
from tg_workbench.errors import StorageFull
from tg_workbench.execution import Assignment
from tg_workbench.settings import Settings


@pytest.fixture
def little_room() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("little_room")
def test_a_full_disk_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TG_HOME", str(tmp_path))
    source = tmp_path / "rows.csv"
    source.write_text("a,b,y\n" + "1,2,0\n3,4,1\n" * 5_000)
    worker = DatasetWorker(Assignment("ds-1", "dataset", 1), Settings.from_environment())
    with pytest.raises(StorageFull):
        worker.prepared(source, FileSpec("rows", "rows.csv"))
    worker.database.close()
