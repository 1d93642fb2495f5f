"""Exports: a model as the files other programs read, with what its privacy cost and its card beside it.

Bytes are only moved, never computed with: no torch is needed. They leave a piece at a time, so that the
largest model takes no more room than the smallest.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from sqlmodel import Session

from tg_workbench.errors import InvalidRequest, SealBroken
from tg_workbench.models.card import card_of
from tg_workbench.models.shelf import ONNX, WEIGHTS, Shelf
from tg_workbench.models.tables import Model
from tg_workbench.storage import Blobs

ExportFormat = Literal["safetensors", "onnx", "hf"]
Files = Iterable[tuple[str, Iterable[bytes]]]
LARGEST_HEADER_BYTES = 16 << 20
ABOUT_PRIVACY = (
    "What training cost. This epsilon holds with this delta, unit and relation, for the weights beside it "
    "and all that is computed from them. Where guarantee is none, they may tell anything about the rows."
)
PRIVACY = (
    *("guarantee", "mode", "unit", "relation", "accountant", "spent_epsilon", "delta"),
    *("noise_multiplier", "sample_rate", "max_grad_norm", "note"),
)
"""What a file beside weights tells of their privacy."""


class ModelExports:
    """Models, made ready to be taken elsewhere."""

    def __init__(self, session: Session, blobs: Blobs, home: Path) -> None:
        self.session = session
        self.shelf = Shelf(blobs, home)

    def archive(self, model: Model, form: ExportFormat) -> Iterator[bytes]:
        """A zip of the model's files, a piece at a time; the session may end before the first is asked for.

        Raises InvalidRequest when the model has no such form, SealBroken.
        """
        about = {"README.md": card_of(model).encode(), "privacy.json": _text(_privacy(model))}
        if model.encoding is not None:
            about["encoding.json"] = _text(model.encoding)
        more, name, weights = self._form(model, form)
        small = ((path, (content,)) for path, content in {**more, **about}.items())
        return zipped((*small, (name, weights)))

    def _form(self, model: Model, form: ExportFormat) -> tuple[dict[str, bytes], str, Iterable[bytes]]:
        """The files that a form has beside the weights, and the weights' own name and bytes."""
        config = {"config.json": _text(_config(model))}
        match form:
            case "safetensors":
                return config, "model.safetensors", self._part(model, WEIGHTS)
            case "onnx":
                if model.onnx_blob is None:
                    raise InvalidRequest("this model has no ONNX form; take safetensors or hf")
                return config, "model.onnx", self._part(model, ONNX)
            case "hf":
                return self._hub_folder(model)

    def _hub_folder(self, model: Model) -> tuple[dict[str, bytes], str, Iterable[bytes]]:
        """What `transformers` or, for adapters, `peft` loads."""
        files = self.shelf.hub_files(self.session, model)
        lora = model.architecture.get("lora")
        if lora and model.task == "language_modeling":
            files.setdefault("adapter_config.json", _text(adapter_config(model.model_ref, lora)))
        if "adapter_config.json" in files:
            adapters = prefixed(self._part(model, WEIGHTS), "base_model.model.")
            return files, "adapter_model.safetensors", adapters
        if "config.json" in files:
            return files, "model.safetensors", prefixed(self._part(model, WEIGHTS), "")
        raise InvalidRequest(
            "this model has no Hugging Face folder: only language models and adapters have one; "
            "take safetensors" + (" or onnx" if model.onnx_blob else "")
        )

    def _part(self, model: Model, part: str) -> Iterator[bytes]:
        return self.shelf.pieces(self.session, model, part)


def adapter_config(model_ref: str, lora: Mapping[str, Any]) -> dict[str, Any]:
    """What `peft` needs to put adapters back (LoraConfig of peft 0.21)."""
    targets = list(lora["target_modules"])
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model_ref,
        "r": lora["rank"],
        "lora_alpha": lora["alpha"],
        "lora_dropout": lora["dropout"],
        "target_modules": "all-linear" if "all-linear" in targets else targets,
        "bias": lora["bias"],
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def prefixed(pieces: Iterable[bytes], prefix: str) -> Iterator[bytes]:
    """Safetensors bytes with a prefix before every name, marked as PyTorch's; their content is passed on.

    Raises SealBroken for bytes that are none.
    """
    rest = iter(pieces)
    held = _gathered(rest, b"", 8)
    length = int.from_bytes(held[:8], "little")
    if length > LARGEST_HEADER_BYTES:
        raise SealBroken
    held = _gathered(rest, held, 8 + length)
    try:
        header: dict[str, Any] = json.loads(held[8 : 8 + length])
    except ValueError as failure:
        raise SealBroken from failure
    header.pop("__metadata__", None)
    named = {"__metadata__": {"format": "pt"}, **{prefix + name: about for name, about in header.items()}}
    text = json.dumps(named, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    yield held[8 + length :]
    yield from rest


def zipped(files: Files) -> Iterator[bytes]:
    """A zip of files, none of them compressed, as it is written: weights do not get smaller anyway."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for name, pieces in files:
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry:
                for piece in pieces:
                    entry.write(piece)
                    yield pipe.taken()
    yield pipe.taken()


class _Pipe(io.RawIOBase):
    """What is written into it, to be taken out again."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._held += piece
        return len(piece)

    def taken(self) -> bytes:
        """What was written since."""
        taken = bytes(self._held)
        self._held.clear()
        return taken


def _gathered(pieces: Iterator[bytes], held: bytes, length: int) -> bytes:
    """`held` and as many pieces more as make it at least so long. Raises SealBroken when they end before."""
    while len(held) < length:
        piece = next(pieces, None)
        if piece is None:
            raise SealBroken
        held += piece
    return held


def _config(model: Model) -> dict[str, Any]:
    about = {"model_ref": model.model_ref, "task": model.task, "class_names": model.class_names}
    return {**about, **model.architecture}


def _privacy(model: Model) -> dict[str, Any]:
    said = {name: model.privacy[name] for name in PRIVACY if name in model.privacy}
    return {"about": ABOUT_PRIVACY, "model_id": model.id, "lineage": model.lineage, **said}


def _text(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()
