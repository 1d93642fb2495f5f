"""What goes into the preparation of a file, and what comes out of it: plain values, fit for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tg_workbench.datasets.encoding import Encoding


@dataclass(frozen=True, slots=True)
class FileRequest:
    """What its owner says of a file. Whatever is None is found out."""

    file_name: str
    privacy: str = "protected"
    dataset_type: str | None = None
    """classification, regression, text_classification, language_modeling; other words say nothing."""
    target: str | None = None
    """The column to predict; of images and texts alone there is none."""
    classes: tuple[str, ...] | None = None
    """All class names there can be, in order."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """The smallest and the largest value a column of numbers can have."""
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """All values a column can have; it is then a category, whatever it looks like."""
    text_column: str | None = None
    unit_column: str | None = None
    """The column that says whom a row is about. It becomes `unit_ids` and is no feature."""

    @property
    def is_public(self) -> bool:
        """Whether anything may be learned from the rows before training."""
        return self.privacy == "public"


@dataclass(frozen=True, slots=True)
class Column:
    """One column as it was found. Its numbers are not covered by ε."""

    name: str
    type: str
    """number, boolean, date, category or text."""
    missing: int = 0
    unique: int | None = None
    """How many different values; None: more than were counted."""
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    deviation: float | None = None
    values: tuple[str, ...] | None = None
    """What a category holds, up to a bound."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a file holds. For its owner alone when the set is protected: nothing here is covered by ε."""

    file_format: str
    """csv, json, jsonl, parquet or zip."""
    kind: str
    """table, images or texts."""
    rows: int
    task: str
    """classification, regression, text_classification or language_modeling."""
    columns: tuple[Column, ...] = ()
    target: str | None = None
    unit_column: str | None = None
    class_counts: Mapping[str, int] | None = None
    preview: tuple[Mapping[str, Any], ...] | None = None
    """The first rows; of public sets only."""
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The same, fit for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that was written for training. The digests are those that `Content` gives the same bytes."""

    inspection: Inspection
    encoding: Encoding
    path: Path
    format: str
    """safetensors or texts."""
    size: int
    """How many rows, images or texts."""
    tensors: dict[str, dict[str, Any]] | None
    """Shape and dtype by name, as `Dataset.tensors` keeps them; None for texts."""
    digest: str
    rows_digest: str
    plain_digest: str
    units: int | None = None
    units_digest: str | None = None
    cells_digest: str | None = None
    """Of a table: the same however it is written down, and whatever is said of it."""
