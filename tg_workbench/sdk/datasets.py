"""Datasets: handed to the workbench once, then trained on by name under their privacy policy."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from tg_workbench.errors import DatasetInvalid, DeadlineExceeded, PrivacyRefused
from tg_workbench.sdk.connected import Connected
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.dataset_warnings import warn_of
from tg_workbench.sdk.downloads import Download
from tg_workbench.sdk.uploads import readable
from tg_workbench.sdk.values import Value
from tg_workbench.sdk.wire_errors import rebuilt

DATASETS = "/workbench/v1/datasets"
_SHARED = {
    "named": "as was said",
    "same_rows": "because the rows are the same",
    "same_name": "because it is a new version",
}
FIRST_LOOK_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 1.0
PROCESSING, READY, FAILED = "processing", "ready", "failed"


@dataclass(slots=True, repr=False)
class Dataset(Connected):
    """A dataset: what it is and what has been spent of its privacy. Never its rows.

    Its members are as they were when it was last looked at: `refresh()` looks again, and `wait()` does until
    its file is read. `profile`, `encoding` and `preview()` ask.
    """

    KIND: ClassVar[str] = "dataset"
    WHENCE: ClassVar[str] = "wb.datasets[name]"

    dataset_id: str
    name: str = ""
    privacy: str = "protected"
    population: str = ""
    population_because: str | None = None
    """Why it shares a budget: named, same_rows or same_name; new when it has one of its own."""
    unit: str = "example"
    relation: str = "add_or_remove_one"
    delta: float | None = None
    epsilon_cap: float | None = None
    spent_epsilon: float = 0.0
    size: int = 0
    units: int | None = None
    """How many units own the rows; None: every row is one."""
    tensors: Mapping[str, Any] | None = None
    created_at: Any = None
    status: str = READY
    """processing, ready or failed."""
    reason: str | None = None
    """Why it failed."""
    version: int = 1
    """Of those with its name."""
    description: str | None = None
    dataset_type: str | None = None
    target: str | None = None
    """The column to predict."""
    file_name: str | None = None
    file_size: int | None = None
    file_format: str | None = None
    _connection: Connection | None = field(default=None, compare=False)
    _warnings: tuple[str, ...] | None = field(default=None, compare=False)
    """None: not known. They are said with its profile, and never change."""
    _has_warned: bool = field(default=False, compare=False)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any], connection: Connection | None = None) -> Self:
        """The dataset that a JSON object tells of; of one that is not read yet, the size is not known."""
        known = {name: value for name, value in data.items() if name != "size" or value is not None}
        made = super(Dataset, cls).from_wire(known, connection)
        made._warnings = _warnings_in(data)
        return made

    @property
    def id(self) -> str:
        """Its id."""
        return self.dataset_id

    # ------------------------------------------------------------------------- how it stands
    def refresh(self) -> Self:
        """Look again, and return it. Raises DatasetNotFound, CallFailed."""
        told = self._asked()
        self._take(told)
        self._warnings = _warnings_in(told)
        return self

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until its file is read, warn of what was found in it (a DatasetWarning each), and return it.

        It warns once, and not of what `upload` has warned of. Raises DatasetInvalid, with what is wrong and
        where, when the file is no good, and DeadlineExceeded after `timeout` seconds (the workbench goes on).
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = FIRST_LOOK_SECONDS
        while self.status == PROCESSING:
            if deadline is not None and time.monotonic() >= deadline:
                raise DeadlineExceeded(self.id, f"dataset {self.name} is not read after {timeout:g} s")
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE_SECONDS)
            self.refresh()
        if self.status == FAILED:
            raise rebuilt(DatasetInvalid, f"{self.name}: {self.reason}", {"problems": []})
        if not self._has_warned:
            self._has_warned = True
            warn_of(self.name, self._warnings or ())
        return self

    @property
    def warnings(self) -> Sequence[str]:
        """What was found in its file and taken all the same: what is left out, say. Empty until it is read.

        Of a protected dataset this is for you alone, as its profile is.
        """
        if self._warnings is None:
            self._warnings = _warnings_in(self._asked())
        return self._warnings or ()

    @property
    def profile(self) -> Mapping[str, Any] | None:
        """What is in its file: columns, ranges, missing values, classes. None until it is read.

        Of a protected dataset this is for you alone: it is not covered by ε.
        """
        told: Mapping[str, Any] | None = self._asked().get("profile")
        return told

    @property
    def encoding(self) -> Mapping[str, Any] | None:
        """How its columns become numbers: `inputs`, `class_names`, `task`. None until it is read."""
        told: Mapping[str, Any] | None = self._asked().get("encoding")
        return told

    def preview(self) -> list[dict[str, Any]]:
        """Its first rows. Raises PrivacyRefused for a protected dataset: nobody is shown rows of those."""
        if self.privacy != "public":
            raise PrivacyRefused("a protected dataset shows no rows, not even to its owner: see .profile")
        return list(self._asked().get("preview") or ())

    def versions(self) -> list[Dataset]:
        """Every dataset of its name, the newest first."""
        connection = self._connected()
        answer = connection.get(DATASETS, {"name": self.name, "limit": 100})
        return [Dataset.from_wire(item, connection) for item in answer.get("datasets", [])]

    def download(self, path: str | Path) -> Path:
        """Write its file, as it was uploaded, to `path`: a new file, or a folder to put it in.

        Goes on where it was when the line breaks, and also when it is called again after a broken try.
        Raises FileExistsError, DatasetNotFound.
        """
        target = Path(path).expanduser()
        if target.is_dir():
            target = target / (Path(self.file_name or "").name or f"{self.id}.data")
        return Download(self._connected(), f"{DATASETS}/{self.id}/download", self.id).to(target)

    def delete(self) -> None:
        """Forget its rows; what was spent of its privacy stays written. Raises DatasetInUse."""
        self._connected().delete(f"{DATASETS}/{self.id}")

    # ------------------------------------------------------------------------- how it asks
    def _asked(self) -> dict[str, Any]:
        return self._connected().get(f"{DATASETS}/{self.id}")

    def __str__(self) -> str:
        """One line: name, rows and what is spent; or that it is not read yet, or why it cannot be."""
        named = self.name if self.version == 1 else f"{self.name} (version {self.version})"
        if self.status == FAILED:
            return f"{named}: failed, {self.reason}"
        if self.status == PROCESSING:
            size = "" if self.file_size is None else f" of {readable(self.file_size)}"
            return f"{named}: a file{size}, being read"
        if self.privacy == "public":
            return f"{named}: {self.size} rows, public"
        cap = "" if self.epsilon_cap is None else f" of {self.epsilon_cap:g}"
        owners = "" if self.units is None else f" of {self.units} units ({self.unit})"
        told = f"{named}: {self.size} rows{owners}, protected, ε = {self.spent_epsilon:.2f}{cap} spent"
        return f"{told}; {self.shared_budget}" if self.shared_budget else told

    @property
    def shared_budget(self) -> str:
        """Whose budget it shares, and why; empty when it has one of its own."""
        why = _SHARED.get(self.population_because or "")
        return "" if why is None else f"one budget with {self.population}, {why}"

    def __repr__(self) -> str:
        """The same, and its id; asks nobody."""
        return f"<Dataset {self}, {self.id}>"


@dataclass(frozen=True, slots=True)
class Validation(Value):
    """What the workbench says of a file that it has looked at and forgotten."""

    valid: bool = False
    errors: Sequence[Mapping[str, str]] = ()
    """What is wrong, each with its place: `{"where": "row 7, column age", "problem": …}`."""
    warnings: Sequence[str] = ()
    summary: Mapping[str, Any] | None = None
    """What is in it, as a dataset's `profile` has it; None when it cannot be read."""

    def __bool__(self) -> bool:
        """Whether it can be uploaded as it is."""
        return self.valid

    def __str__(self) -> str:
        """Every problem and every warning in a line of its own."""
        lines = [f"{problem.get('where')}: {problem.get('problem')}" for problem in self.errors]
        if len(self.errors) >= DatasetInvalid.MOST:
            lines.append(f"these are the first {len(self.errors)}: there may be more")
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(["valid" if self.valid else "not valid", *lines])


def _warnings_in(told: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Those of an answer with a profile in it; one page of many datasets has none."""
    profile = told.get("profile")
    return None if profile is None else tuple(profile.get("warnings") or ())
