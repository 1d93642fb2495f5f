"""Tables: from checked rows to an encoding, features and targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tg_workbench.datasets.contents import UNIT_IDS
from tg_workbench.datasets.encoding import Bucketed, Dated, Encoding, Named, Number, RawColumn, Switch
from tg_workbench.datasets.files.cells import numbers_of, places_of
from tg_workbench.datasets.files.frames import Table, few
from tg_workbench.datasets.files.limits import Limits
from tg_workbench.datasets.files.profile import Found, Profile, require_columns
from tg_workbench.datasets.files.targets import Target, guessed, has_names_of_rows, target_of
from tg_workbench.datasets.files.tensors import Shapes, TensorFile, digests_of
from tg_workbench.datasets.files.units import Units
from tg_workbench.datasets.files.values import FileRequest, Inspection, Prepared
from tg_workbench.datasets.raw_columns import text_of
from tg_workbench.errors import DatasetInvalid, InvalidRequest


@dataclass(frozen=True, slots=True)
class Plan:
    """How the rows of one table are turned into features."""

    table: Table
    profile: Profile
    encoding: Encoding
    target: Target
    unit_column: str | None
    warnings: tuple[str, ...]


def prepare_table(
    table: Table, file_format: str, request: FileRequest, into: Path, limits: Limits
) -> Prepared:
    """Two passes over a table: one to know it, one to write it. Raises DatasetInvalid, InvalidRequest."""
    plan = _plan(table, request, limits)
    width = plan.encoding.width
    if width > limits.features:
        raise DatasetInvalid(f"a row would become more than {limits.features:,} features: leave columns out")
    rows = plan.profile.rows
    if rows * (width * 4 + 16) > limits.decoded_bytes:
        raise DatasetInvalid(f"would become more than {limits.decoded_bytes:,} bytes of features")
    shapes: Shapes = {
        "features": ("F32", (rows, width)),
        "targets": ("I64" if plan.target.class_names else "F32", (rows,)),
        **({UNIT_IDS: ("I64", (rows,))} if plan.unit_column else {}),
    }
    with TensorFile(into, shapes) as file:
        for pieces in _written(plan):
            for name, piece in pieces.items():
                file.add(name, piece)
    digests = digests_of(into, shapes)
    return Prepared(
        inspection=_inspection(plan, file_format, request, limits),
        encoding=plan.encoding,
        path=into,
        format="safetensors",
        size=rows,
        tensors=file.tensors,
        digest=digests.digest,
        rows_digest=digests.rows_digest,
        plain_digest=digests.plain_digest,
        units=digests.units,
        units_digest=digests.units_digest,
        cells_digest=plan.profile.cells_digest,
    )


def target_name(names: tuple[str, ...], request: FileRequest, *others: str | None) -> str | None:
    """The column to predict: the one that was named, else the one that it is likely to be."""
    for word in ("target", "unit_column", "text_column"):
        require_columns(word, names, [*filter(None, [getattr(request, word)])])
    if request.target is not None and request.target in others:
        raise InvalidRequest("target must be another column than unit_column and text_column")
    return request.target or guessed([name for name in names if name not in others])


# ------------------------------------------------------------------------------------------ the plan
def _plan(table: Table, request: FileRequest, limits: Limits) -> Plan:
    name = target_name(table.names, request, request.unit_column)
    if name is None or len(table.names) - (request.unit_column is not None) < 2:
        raise DatasetInvalid("needs a column to predict and at least one other")
    profile = Profile(table, request, name, limits)
    names = [column for column in table.names if column not in (name, request.unit_column)]
    target = _checked(profile, request, name, names, limits)
    columns, warnings = _columns(profile, request, names, limits)
    if not columns:
        raise DatasetInvalid("has no column left to learn from")
    number = _scaled(profile.columns[name], request, optional=False) if target.class_names is None else None
    encoding = Encoding("table", target.task, columns, target.class_names, target=name, target_number=number)
    if target.class_names is None and number is None:
        warnings.append(
            f"column {name} is to be predicted and no range was declared for it, so it is learned as it is: "
            "numbers far from 0, or much larger than 1, are learned badly. Give its smallest and largest "
            "value in ranges"
        )
    if request.is_public and has_names_of_rows(len(target.class_names or ()), profile.rows):
        warnings.append(
            f"column {name} has a class for every one or two rows: if these are names, ids or dates, choose "
            "another target"
        )
    warnings += _written_otherwise(profile, request, [*names, name])
    if mixed := [column for column in names if profile.columns[column].is_mixed]:
        warnings.append(
            f"column(s) {few(mixed)} hold numbers and words, so all of it is read as words, 7 no nearer to 8 "
            "than to 800: leave the cell empty where there is no number"
        )
    numbers = [column for column in names if profile.columns[column].type == "number"]
    if codes := [column for column in numbers if profile.columns[column].may_be_code]:
        warnings.append(
            f"column(s) {few(codes)} hold numbers with zeros before them, as codes and ids have, and are "
            "read as numbers, 01067 next to 1068: declare their values in categories, or leave them out"
        )
    return Plan(table, profile, encoding, target, request.unit_column, (*table.warnings, *warnings))


def _checked(profile: Profile, request: FileRequest, name: str, others: list[str], limits: Limits) -> Target:
    """The target, when nothing is wrong with any cell. Raises DatasetInvalid, for all columns at once."""
    problems = _problems_of(profile, request, others)
    try:
        target = target_of(profile, request, name, limits)
    except DatasetInvalid as failure:
        if not problems:
            raise
        room = DatasetInvalid.MOST - min(len(problems), DatasetInvalid.MOST // 2)
        own = [(problem["where"], problem["problem"]) for problem in failure.problems[:room]]
        raise DatasetInvalid.of([*own, *problems]) from None
    if problems:
        raise DatasetInvalid.of(problems)
    return target


def _problems_of(profile: Profile, request: FileRequest, names: list[str]) -> list[tuple[str, str]]:
    """What is wrong with the cells of the columns to learn from."""
    problems: list[tuple[str, str]] = []
    for name in names:
        found = profile.columns[name]
        if name in request.ranges and found.type not in ("number", "empty") and not found.is_mistaken:
            problems.append((f"column {name}", "has a range and holds no numbers"))
        problems += profile.problems(name, as_number=found.type == "number" or found.is_mistaken)
        if found.type == "empty" and not request.is_public:
            problems.append((f"column {name}", "says nothing in any row: leave it out of a protected set"))
    return problems


def _columns(
    profile: Profile, request: FileRequest, names: list[str], limits: Limits
) -> tuple[tuple[RawColumn, ...], list[str]]:
    kept: list[RawColumn] = []
    warnings: list[str] = []
    for name in names:
        found = profile.columns[name]
        if found.type == "empty":
            warnings.append(f"column {name} says nothing in any row: it is left out")
        elif found.type == "text" and request.is_public:
            warnings.append(f"column {name} holds long texts: it is left out of the features")
        else:
            is_optional = not request.is_public or found.count < profile.rows
            kept.append(_column(found, request, limits, optional=is_optional))
    squeezed = [column.name for column in kept if isinstance(column, Number) and column.scaling == "asinh"]
    if squeezed and not request.is_public:
        warnings.append(
            f"{len(squeezed)} column(s) of numbers have no declared range and are read through asinh, which "
            f"tells large numbers and close ones badly apart: give ranges for {few(squeezed)}"
        )
    return tuple(kept), warnings


def _written_otherwise(profile: Profile, request: FileRequest, names: list[str]) -> list[str]:
    """A warning of columns that are names to us, and look like numbers or dates to a reader."""
    declared = {*request.categories, *([names[-1]] if request.classes is not None else ())}
    found = [name for name in names if name not in declared and profile.columns[name].is_written_otherwise]
    if not found:
        return []
    return [
        f"column(s) {few(found)} look like numbers or dates and are read as words: "
        "write 1234.5 and 2024-12-31 to have them read as such"
    ]


def _column(found: Found, request: FileRequest, limits: Limits, *, optional: bool) -> RawColumn:
    """How a column is read. Of a protected set only its name, its type and what was declared count."""
    name, declared = found.name, request.categories.get(found.name)
    if declared is not None:
        return Named(name, optional, tuple(text_of(value) or "" for value in declared))
    if found.type == "number":
        return _scaled(found, request, optional=optional) or Number(name, optional)
    if found.type == "boolean":
        return Switch(name, optional)
    if found.type == "date":
        return Dated(name, optional)
    values = found.values if request.is_public else None
    is_short = values is not None and all(len(value) <= limits.name_length for value in values)
    if values is not None and is_short and len(values) <= limits.categories:
        return Named(name, optional, tuple(sorted(values)))
    return Bucketed(name, optional)


def _scaled(found: Found, request: FileRequest, *, optional: bool) -> Number | None:
    """How numbers are scaled; None: nothing is known. Of a protected set only a declared range counts."""
    if found.name in request.ranges:
        return Number.within(found.name, *request.ranges[found.name], optional=optional)
    if request.is_public:
        return Number(found.name, optional, "standard", found.mean, found.deviation or 1.0)
    return None


# ------------------------------------------------------------------------------------------ the rows
def _written(plan: Plan) -> Iterator[dict[str, npt.NDArray[Any]]]:
    place = {name: number for number, name in enumerate(plan.table.names)}
    columns = plan.encoding.columns
    numbers = [place[column.name] for column in columns if isinstance(column, Number)]
    others = [column for column in columns if not isinstance(column, Number)]
    units = Units(plan.profile, plan.unit_column) if plan.unit_column else None
    for _, frame in plan.table.frames():
        matrix = numbers_of(frame.select(pl.nth(numbers)))[0] if numbers else np.empty((frame.height, 0))
        read = {
            column.name: places_of(frame.to_series(place[column.name]), column.place_of) for column in others
        }
        pieces: dict[str, npt.NDArray[Any]] = {
            "features": plan.encoding.assembled(matrix, read),
            "targets": targets_of(plan.target, frame.to_series(place[plan.target.name])),
        }
        if units is not None and plan.unit_column is not None:
            pieces[UNIT_IDS] = units.read(frame.to_series(place[plan.unit_column]))
        yield pieces


def targets_of(target: Target, column: pl.Series) -> npt.NDArray[Any]:
    """The targets of some rows: numbers of classes, or values."""
    if target.class_names is None:
        return numbers_of(column.to_frame())[0][:, 0]
    number_of = {name: float(number) for number, name in enumerate(target.class_names)}
    return places_of(column, lambda text: number_of.get(text_of(text) or "")).astype(np.int64)


def _inspection(plan: Plan, file_format: str, request: FileRequest, limits: Limits) -> Inspection:
    profile = plan.profile
    return Inspection(
        file_format=file_format,
        kind="table",
        rows=profile.rows,
        task=plan.target.task,
        columns=profile.told(limits.name_length),
        target=plan.target.name,
        unit_column=plan.unit_column,
        class_counts=plan.target.class_counts,
        preview=tuple(profile.preview) if request.is_public else None,
        warnings=plan.warnings,
    )
