"""What is said of a dataset that is handed over: as rows that are ready to learn from, or as a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tg_workbench.datasets.contents import Content
from tg_workbench.datasets.files import FileRequest
from tg_workbench.execution import WorkKind
from tg_workbench.settings import Settings

WORK_KIND = "dataset"
MOST_WORKERS = 2
"""How many files are looked at at a time: each may take a gigabyte."""


def work_kinds(settings: Settings) -> tuple[WorkKind, ...]:
    """The work that datasets make, for the dispatcher."""
    return (WorkKind(WORK_KIND, "tg_workbench.datasets.worker:run", MOST_WORKERS, with_torch=False),)


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """A dataset as it is handed over. δ defaults to min(1e-5, N^-1.1), the cap to ε = 10."""

    name: str
    content: Content
    privacy: str = "protected"
    delta: float | None = None
    epsilon_cap: float | None = None
    population: str | None = None
    """A dataset that is about the same people; `new` says that no version before is. Identical rows, and
    versions of one name, need not say so."""
    idempotency_key: str | None = None
    unit: str | None = None
    """What a unit is called, where the content says whom each row is about: patient, author … ("unit")."""

    @property
    def fingerprint(self) -> str:
        """What a retry under the same Idempotency-Key must have in common: everything but the key."""
        what = (self.content.digest, self.content.format, self.name)
        policy = (self.privacy, self.delta, self.epsilon_cap, self.population, self.unit)
        return hashlib.sha256(repr(what + policy).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class FileSpec:
    """A file as it is uploaded: what it is called, how it is to be read, and its policy."""

    name: str
    file_name: str
    description: str | None = None
    dataset_type: str | None = None
    privacy: str = "protected"
    delta: float | None = None
    epsilon_cap: float | None = None
    population: str | None = None
    unit: str | None = None
    unit_column: str | None = None
    text_column: str | None = None
    target: str | None = None
    classes: tuple[str, ...] | None = None
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The same, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> FileSpec:
        """What `as_json` told."""
        classes = told["classes"]
        return cls(
            **{
                **told,
                "classes": None if classes is None else tuple(classes),
                "ranges": {name: (low, high) for name, (low, high) in told["ranges"].items()},
                "categories": {name: tuple(values) for name, values in told["categories"].items()},
            }
        )

    @property
    def request(self) -> FileRequest:
        """What its preparation needs to know."""
        return FileRequest(
            file_name=self.file_name,
            privacy=self.privacy,
            dataset_type=self.dataset_type,
            target=self.target,
            classes=self.classes,
            ranges=self.ranges,
            categories=self.categories,
            text_column=self.text_column,
            unit_column=self.unit_column,
        )

    def fingerprint(self, source: str) -> str:
        """What a retry under the same Idempotency-Key must have in common: the file, and all said of it."""
        return hashlib.sha256(repr((source, sorted(self.as_json().items()))).encode()).hexdigest()
