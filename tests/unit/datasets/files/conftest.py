"""A way to hand a file over as its owner would, and to read what was written for training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest
from safetensors.numpy import load

from tg_workbench.datasets import Content
from tg_workbench.datasets.files import LIMITS, FileRequest, Limits, Prepared
from tg_workbench.datasets.files.preparing import prepare
from tg_workbench.errors import DatasetInvalid


@dataclass(frozen=True)
class Outcome:
    """What was prepared, and the bytes of it as the rest of the workbench sees them."""

    prepared: Prepared
    content: Content

    @property
    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        return load(self.content.data)


@dataclass(frozen=True)
class Desk:
    """Takes files in, in a folder of its own."""

    folder: Path

    def take(self, name: str, data: bytes | str, limits: Limits = LIMITS, **said: Any) -> Outcome:
        source, into = self.folder / "source", self.folder / "into"
        source.write_bytes(data.encode() if isinstance(data, str) else data)
        into.unlink(missing_ok=True)
        try:
            prepared = prepare(source, FileRequest(name, **said), into, limits)
        finally:
            left = {path.name for path in self.folder.iterdir()} - {"source", "into"}
            assert not left, "files in between are gone at the end"
        read = Content.of_tensors if prepared.format == "safetensors" else Content.of_texts
        return Outcome(prepared, read(into.read_bytes()))

    def refuse(
        self, name: str, data: bytes | str, limits: Limits = LIMITS, **said: Any
    ) -> list[dict[str, str]]:
        """The problems of a file that must be refused without anything half written."""
        with pytest.raises(DatasetInvalid) as refusal:
            self.take(name, data, limits, **said)
        assert not (self.folder / "into").exists()
        assert refusal.value.details == {"problems": refusal.value.problems}
        return refusal.value.problems


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)
