"""Loaders: datasets that are on this machine already, as something that can be uploaded.

Nothing is downloaded, and nothing that a folder holds is run: descriptions are JSON, rows are Arrow.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tg_workbench.errors import InvalidRequest

if TYPE_CHECKING:
    import polars as pl

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
TARGET = "target"
RANGES = {"digits": (0.0, 16.0), "iris": (0.0, 10.0)}
"""What a pixel, or a petal in centimetres, can be: known without looking at the rows."""
PLAIN = ("int", "uint", "float", "double", "bool", "string", "large_string", "date", "timestamp")
"""How the types of columns that a table can have begin."""
MOST_DESCRIPTION_BYTES = 16 << 20
SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """Something to upload, and what is known of it: arguments of `upload`."""

    source: Any
    name: str
    told: Mapping[str, Any] = field(default_factory=dict)


# ----------------------------------------------------------------------------- scikit-learn
def bundled(known: str) -> Loaded:
    """A dataset that scikit-learn brings along, as a table with a target. Raises InvalidRequest."""
    if known not in BUNDLED:
        raise InvalidRequest(
            f"scikit-learn brings {', '.join(BUNDLED)} along; {known} it has not, or would have to "
            "download: load it yourself and upload the DataFrame"
        )
    import polars as pl
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{known}")()
    columns = [str(name) for name in bunch.feature_names]
    frame = pl.DataFrame(bunch.data, schema=columns)
    told: dict[str, Any] = {"target": TARGET}
    if known in RANGES:
        told["ranges"] = dict.fromkeys(columns, RANGES[known])
    if "target_names" not in bunch:
        return Loaded(frame.with_columns(pl.Series(TARGET, bunch.target)), known, told)
    classes = [str(name) for name in bunch.target_names]
    named = pl.Series(TARGET, [classes[number] for number in bunch.target])
    return Loaded(frame.with_columns(named), known, {**told, "classes": classes})


# ----------------------------------------------------------------------------- Hugging Face
@contextmanager
def saved_dataset(folder: Path, split: str | None = None) -> Iterator[Loaded]:
    """A folder that `datasets` wrote with `save_to_disk`; what had to be written is gone when the block ends.

    Raises InvalidRequest for what it is not, or what in it cannot be learned from.
    """
    found = _split_folder(folder, split)
    features = _described(found, "dataset_info.json").get("features")
    if not isinstance(features, dict) or not features:
        raise InvalidRequest(f"{found.name} does not say which columns it has: save it with save_to_disk")
    kinds = {name: _kind(name, feature) for name, feature in features.items()}
    frame = _frame(found)
    name = folder.resolve().name
    labels = [column for column, kind in kinds.items() if kind == "ClassLabel"]
    told: dict[str, Any] = {}
    if len(labels) == 1:
        names = [str(each) for each in features[labels[0]]["names"]]
        told = {"target": labels[0], "classes": names}
    images = [column for column, kind in kinds.items() if kind == "Image"]
    if images:
        with tempfile.TemporaryDirectory(prefix="tgw-") as space:
            yield Loaded(_zipped(frame, images, told, Path(space) / f"{name}.zip"), name, _of_images(told))
        return
    for label in labels:
        frame = _with_names(frame, label, [str(each) for each in features[label]["names"]])
    yield Loaded(frame, name, {**told, **_of_texts(kinds, labels)})


def _split_folder(folder: Path, split: str | None) -> Path:
    """Where the rows are. Raises InvalidRequest."""
    if not folder.is_dir():
        raise InvalidRequest(f"there is no folder {folder}")
    if not (folder / "dataset_dict.json").exists():
        if split is not None:
            raise InvalidRequest(f"{folder.name} has no splits: leave split out")
        return folder
    splits = [str(name) for name in _described(folder, "dataset_dict.json").get("splits") or ()]
    if split is None and len(splits) == 1:
        split = splits[0]
    if split not in splits:
        raise InvalidRequest(f"{folder.name} has the splits {', '.join(splits)}: give split=…, one of them")
    return folder / _bare(str(split))


def _described(folder: Path, name: str) -> dict[str, Any]:
    """One of a folder's descriptions. Raises InvalidRequest."""
    path = folder / name
    if not path.is_file() or path.stat().st_size > MOST_DESCRIPTION_BYTES:
        raise InvalidRequest(f"{folder.name} has no {name}: save the set with its save_to_disk")
    try:
        told = json.loads(path.read_bytes())
    except ValueError as failure:
        raise InvalidRequest(f"{name} in {folder.name} is no JSON") from failure
    if not isinstance(told, dict):
        raise InvalidRequest(f"{name} in {folder.name} is no JSON object")
    return told


def _kind(name: str, feature: Any) -> str:
    """What a column is. Raises InvalidRequest, naming it, for what cannot be learned from."""
    kind = feature.get("_type") if isinstance(feature, dict) else None
    plain = kind == "Value" and str(feature.get("dtype")).startswith(PLAIN)
    if plain:
        return "text" if "string" in str(feature["dtype"]) else "Value"
    if kind in ("ClassLabel", "Image"):
        return str(kind)
    said = f"{kind} of {feature.get('dtype')}" if kind == "Value" else kind or type(feature).__name__
    raise InvalidRequest(
        f"column {name} is a {said}: leave it out with remove_columns(['{name}']) and save the set again"
    )


def _frame(folder: Path) -> pl.DataFrame:
    """All rows, in order. Raises InvalidRequest."""
    import polars as pl

    state = _described(folder, "state.json")
    if state.get("_indices_files"):
        raise InvalidRequest(
            f"{folder.name} picks its rows by an index: flatten_indices() it, and save it again"
        )
    files = [
        _bare(str(each.get("filename"))) for each in state.get("_data_files") or () if isinstance(each, dict)
    ]
    if not files:
        raise InvalidRequest(f"{folder.name} names no data files")
    try:
        return pl.concat([pl.read_ipc_stream(folder / file) for file in files])
    except (OSError, pl.exceptions.PolarsError) as failure:
        raise InvalidRequest(f"a data file of {folder.name} is not there, or is no Arrow stream") from failure


def _bare(name: str) -> str:
    """The name of a file inside the folder, and nowhere else. Raises InvalidRequest."""
    if Path(name).name != name or name in ("", ".", ".."):
        raise InvalidRequest("a file or split of this folder is named by a path: it must lie in the folder")
    return name


def _with_names(frame: pl.DataFrame, label: str, names: list[str]) -> pl.DataFrame:
    """The same rows with a label's names instead of its numbers; -1 is none."""
    import polars as pl

    known = dict(enumerate(names))
    return frame.with_columns(pl.col(label).replace_strict(known, default=None, return_dtype=pl.String))


def _of_texts(kinds: Mapping[str, str], labels: list[str]) -> dict[str, Any]:
    """What is told of a set that is one column of texts, with a label or without."""
    texts = [name for name, kind in kinds.items() if kind == "text"]
    if len(texts) != 1 or len(kinds) != 1 + len(labels) or len(labels) > 1:
        return {}
    return {"text_column": texts[0], "dataset_type": "text_classification" if labels else "language_modeling"}


def _of_images(told: Mapping[str, Any]) -> dict[str, Any]:
    """Of images the classes are their folders: there is no column to name."""
    return {name: value for name, value in told.items() if name == "classes"}


def _zipped(frame: pl.DataFrame, images: list[str], told: Mapping[str, Any], path: Path) -> Path:
    """Images in class folders, as a zip. Raises InvalidRequest."""
    label = told.get("target")
    if len(images) != 1 or label is None:
        raise InvalidRequest("images need one column Image and one column ClassLabel")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        rows = zip(frame[images[0]], frame[label], strict=True)
        for number, (image, chosen) in enumerate(rows):
            content = image.get("bytes") if isinstance(image, dict) else None
            if content is None:
                raise InvalidRequest(f"row {number}: {images[0]} is not in the file, only a path to it")
            if chosen is None or not 0 <= chosen < len(told["classes"]):
                raise InvalidRequest(f"row {number} has no label")
            archive.writestr(
                f"{_folder_name(told['classes'][chosen])}/{number:07d}{_suffix(content)}", content
            )
    return path


def _folder_name(name: str) -> str:
    """A class's name as a folder's. Raises InvalidRequest."""
    if name in (".", "..") or name.startswith(".") or any(sign in name for sign in "/\\\0"):
        raise InvalidRequest("a class of images has a name that no folder can have: rename it")
    return name


def _suffix(content: bytes) -> str:
    return next((suffix for start, suffix in SUFFIXES.items() if content.startswith(start)), ".png")
