"""The form that a model's inputs make: its fields, and the row that a filled-in form means."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from typing import Any

from tg_workbench.errors import InvalidBatch
from tg_workbench.sdk import Model
from tg_workbench.sdk.predicting import LANGUAGE

MOST_FIELDS = 64
"""Of more inputs a form would be a punishment: their values are given in one line."""
LONGEST_TEXT = 20_000
LARGEST_SIDE = 1_024
TEXT, NUMBERS, IMAGE, COLUMNS = "text", "numbers", "image", "columns"


class FieldsInvalid(InvalidBatch):
    """What some fields say cannot be meant; `problems` says of each why."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {problem}" for name, problem in problems.items()))
        self.problems = dict(problems)


def form_of(model: Model) -> dict[str, Any]:
    """What to ask for: `kind` columns, numbers, image or text, and its `fields`."""
    columns = list(columns_of(model))
    if columns:
        is_long = len(columns) > MOST_FIELDS
        fields = [_line_of(len(columns))] if is_long else [_field(column) for column in columns]
        return {"kind": COLUMNS, "fields": fields, "in_one_line": is_long}
    if takes_text(model):
        label = "Prompt" if model.task == LANGUAGE else "Text"
        return {"kind": TEXT, "fields": [{"name": TEXT, "label": label, "kind": TEXT, "hint": ""}]}
    shape = list(model.architecture.get("input_shape") or ())
    if is_picture(shape):
        seen = f"{shape[2]} × {shape[1]} {'grey' if shape[0] == 1 else 'coloured'} pixels"
        hint = f"Any picture; the model sees it as {seen}"
        return {"kind": IMAGE, "shape": shape, "fields": [_named(IMAGE, "Picture", IMAGE, hint)]}
    return {"kind": NUMBERS, "fields": _numbers(math.prod(shape) if shape else 0)}


def row_of(model: Model, values: Mapping[str, Any]) -> Any:
    """The row to predict that a filled-in form means. Raises FieldsInvalid."""
    form = form_of(model)
    said = values.get("fields")
    said = said if isinstance(said, Mapping) else {}
    if form["kind"] == IMAGE:
        return _picture(form["shape"], values.get("buffers") or ())
    if form["kind"] == TEXT:
        text = str(said.get(TEXT) or "")
        if not text.strip() or len(text) > LONGEST_TEXT:
            raise FieldsInvalid({TEXT: f"write a text of 1 to {LONGEST_TEXT:,} characters"})
        return text
    if form["kind"] == COLUMNS:
        return _columns(columns_of(model), said, in_one_line=form["in_one_line"])
    names = [field["name"] for field in form["fields"]]
    if names == [NUMBERS]:
        width = math.prod(model.architecture.get("input_shape") or ())
        return [_number(NUMBERS, text) for text in _parts(said, width)]
    return list(_each({name: partial(_number, name, said.get(name)) for name in names}).values())


def columns_of(model: Model) -> Sequence[Mapping[str, Any]]:
    """The columns of a row, as far as they are known; none when it reads numbers, a picture or a text."""
    if model.columns:
        return model.columns
    return [{"name": name, "type": "", "optional": True} for name in model.inputs or ()]


def takes_text(model: Model) -> bool:
    """Whether it reads texts."""
    return model.reading.takes_texts or not model.architecture.get("input_shape")


def is_picture(shape: Sequence[int]) -> bool:
    """Whether examples of this shape are pictures: channels, height, width."""
    return len(shape) == 3 and shape[0] in (1, 3) and max(shape[1:]) <= LARGEST_SIDE


def field_named(model: Model, message: str) -> str:
    """The field that an error of the workbench is about; "" for none."""
    names = [field["name"] for field in form_of(model)["fields"]]
    return next((name for name in names if f"column {name}:" in message), names[0] if len(names) == 1 else "")


# ----------------------------------------------------------------------------- fields
def _named(name: str, label: str, kind: str, hint: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name, "label": label, "kind": kind, "hint": hint, **more}


def _field(column: Mapping[str, Any]) -> dict[str, Any]:
    name, kind = str(column["name"]), str(column.get("type") or "")
    optional = bool(column.get("optional", True))
    low, high = column.get("low"), column.get("high")
    hint = {"": "A number or a word", "category": "A word"}.get(kind, "")
    if low is not None and high is not None:
        hint = f"{low:.6g} to {high:.6g}"
    values = [str(value) for value in column.get("values") or ()]
    if kind == "boolean":
        values = ["true", "false"]
    kind = "choice" if values else kind if kind in ("number", "date") else "word"
    return _named(name, name, kind, "" if values else hint, values=values, optional=optional)


def _line_of(width: int) -> dict[str, Any]:
    return _named(NUMBERS, "Values", TEXT, f"{width:,} values in order, with commas or spaces between them")


def _numbers(width: int) -> list[dict[str, Any]]:
    if not 0 < width <= MOST_FIELDS:
        return [_line_of(width)]
    return [
        _named(f"x{place}", f"x{place}", "number", optional=False, values=[]) for place in range(1, width + 1)
    ]


# ----------------------------------------------------------------------------- what they say
def _value(column: Mapping[str, Any], said: Any) -> Any:
    """What a field says of a column; None: it is missing."""
    name, kind = str(column["name"]), str(column.get("type") or "")
    text = "" if said is None else str(said).strip()
    if not text:
        if not column.get("optional", True):
            raise FieldsInvalid({name: "this model needs it"})
        return None
    if kind == "number":
        return _number(name, text)
    if kind == "boolean":
        return text.lower() in ("true", "yes", "1")
    if kind == "date":
        try:
            return date.fromisoformat(text[:10]).isoformat()
        except ValueError:
            raise FieldsInvalid({name: "must be a date as 2026-03-31"}) from None
    values = column.get("values")
    if values and text not in values:
        raise FieldsInvalid({name: "must be one of those the model knows"})
    return text if kind else _number_or_text(text)


def _columns(columns: Sequence[Mapping[str, Any]], said: Mapping[str, Any], *, in_one_line: bool) -> Any:
    """A row by the names of its columns, or in their order."""
    if in_one_line:
        parts = _parts(said, len(columns))
        return [_value(column, text) for column, text in zip(columns, parts, strict=True)]
    names = [str(column["name"]) for column in columns]
    return _each(
        {name: partial(_value, column, said.get(name)) for name, column in zip(names, columns, strict=True)}
    )


def _each(fields: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """What every field says. Raises FieldsInvalid, of all that are wrong at once."""
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, read in fields.items():
        try:
            values[name] = read()
        except FieldsInvalid as failure:
            problems |= failure.problems
    if problems:
        raise FieldsInvalid(problems)
    return values


def _number(name: str, said: Any) -> float:
    try:
        value = float(str(said).strip())
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FieldsInvalid({name: "must be a number"})
    return value


def _number_or_text(text: str) -> float | str:
    try:
        value = float(text)
    except ValueError:
        return text
    return value if math.isfinite(value) else text


def _parts(said: Mapping[str, Any], width: int) -> list[str]:
    parts = str(said.get(NUMBERS) or "").replace(",", " ").split()
    if len(parts) != width:
        raise FieldsInvalid({NUMBERS: f"this model reads {width:,} values, and here are {len(parts):,}"})
    return parts


def _picture(shape: Sequence[int], buffers: Sequence[Any]) -> Any:
    """The pixels that a page has made of a picture. Raises FieldsInvalid."""
    import numpy as np

    if len(buffers) != 1 or memoryview(buffers[0]).nbytes != math.prod(shape):
        raise FieldsInvalid({IMAGE: "choose a picture"})
    return np.frombuffer(buffers[0], dtype=np.uint8).reshape(tuple(shape))
