"""The catalogue: datasets that were handed over, who may use them, and under which privacy policy."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import sys
import uuid
from array import array
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.datasets.tables import Dataset
from tg_workbench.errors import DatasetInUse, DatasetNotFound, IdempotencyConflict, InvalidRequest
from tg_workbench.identity import Principal
from tg_workbench.storage import Blobs
from tg_workbench.storage.database import now

DEFAULT_EPSILON_CAP = 10.0
LARGEST_HEADER_BYTES = 1_000_000
PIECE_BYTES = 1 << 20
FLOATS = {"F64": "d", "F32": "f"}
NUMBERS = {"F64": 8, "F32": 4, "I64": 8, "I32": 4, "I16": 2, "U8": 1, "I8": 1, "BOOL": 1}


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """A dataset as it is handed over. δ defaults to min(1e-5, N^-1.1), the cap to ε = 10."""

    name: str
    content: bytes
    format: str
    """`safetensors` (tensors `features`, `targets` or `input_ids` …) or `texts` (a JSON list of strings)."""
    privacy: str = "protected"
    delta: float | None = None
    epsilon_cap: float | None = None
    idempotency_key: str | None = None


class Datasets:
    """Registered datasets."""

    def __init__(self, session: Session, blobs: Blobs) -> None:
        self.session = session
        self.blobs = blobs

    def register(self, owner: Principal, spec: DatasetSpec) -> Dataset:
        """Check a dataset and keep it. Raises InvalidRequest, IdempotencyConflict, StorageFull."""
        fingerprint = hashlib.sha256(spec.content + repr((spec.name, spec.format, spec.privacy)).encode())
        if known := self._by_key(owner, spec.idempotency_key):
            if known.fingerprint != fingerprint.hexdigest():
                raise IdempotencyConflict
            return known
        if not spec.name.strip() or len(spec.name) > 200:
            raise InvalidRequest("name must have 1 to 200 characters")
        if spec.privacy not in ("protected", "public"):
            raise InvalidRequest("privacy must be 'protected' or 'public'")
        size, tensors = _describe(spec)
        dataset = Dataset(
            id=f"ds-{uuid.uuid4()}",
            owner_id=owner.id,
            tenant_id=owner.tenant_id,
            name=spec.name.strip(),
            privacy=spec.privacy,
            format=spec.format,
            size=size,
            tensors=json.dumps(tensors) if tensors else None,
            blob=self.blobs.put(spec.content),
            delta=_delta(spec.delta, size),
            epsilon_cap=_cap(spec.epsilon_cap),
            idempotency_key=spec.idempotency_key,
            fingerprint=fingerprint.hexdigest(),
        )
        self.session.add(dataset)
        self.session.flush()
        return dataset

    def get(self, owner: Principal, dataset_id: str, *, even_deleted: bool = False) -> Dataset:
        """The dataset. Raises DatasetNotFound, also when it is somebody else's."""
        dataset = self.session.get(Dataset, dataset_id)
        if dataset is None or dataset.owner_id != owner.id:
            raise DatasetNotFound(dataset_id)
        if dataset.deleted_at is not None and not even_deleted:
            raise DatasetNotFound(dataset_id)
        return dataset

    def list_page(self, owner: Principal, *, limit: int = 50, offset: int = 0) -> tuple[list[Dataset], int]:
        """The owner's datasets, newest first, and how many there are."""
        mine = (col(Dataset.owner_id) == owner.id, col(Dataset.deleted_at).is_(None))
        total = self.session.exec(select(sa.func.count()).select_from(Dataset).where(*mine)).one()
        query = select(Dataset).where(*mine).order_by(col(Dataset.created_at).desc(), col(Dataset.id))
        return list(self.session.exec(query.limit(limit).offset(offset))), total

    def delete(self, owner: Principal, dataset_id: str, *, users: int) -> None:
        """Forget the rows; the ledger stays. `users` live clients forbid it. Raises DatasetInUse."""
        dataset = self.get(owner, dataset_id)
        if users:
            raise DatasetInUse(dataset_id, users)
        dataset.deleted_at = now()
        self.session.add(dataset)
        self.session.flush()
        query = select(Dataset.id).where(Dataset.blob == dataset.blob, col(Dataset.deleted_at).is_(None))
        if self.session.exec(query).first() is None:
            self.blobs.delete(dataset.blob)

    def _by_key(self, owner: Principal, key: str | None) -> Dataset | None:
        if key is None:
            return None
        query = select(Dataset).where(Dataset.owner_id == owner.id, Dataset.idempotency_key == key)
        return self.session.exec(query).first()


def _describe(spec: DatasetSpec) -> tuple[int, dict[str, Any] | None]:
    if spec.format == "texts":
        return len(_texts(spec.content)), None
    if spec.format != "safetensors":
        raise InvalidRequest("format must be 'safetensors' or 'texts'")
    tensors = read_header(spec.content)
    if not ({"features", "targets"} <= tensors.keys() or "input_ids" in tensors):
        raise InvalidRequest("a dataset holds tensors named features and targets, or input_ids")
    sizes = {tensor["shape"][0] if tensor["shape"] else 0 for tensor in tensors.values()}
    if len(sizes) != 1 or sizes == {0}:
        raise InvalidRequest("every tensor must have the same number of rows, and at least one")
    for name in tensors:
        if not _is_finite(spec.content, name):
            raise InvalidRequest(f"{name} hold NaN or infinity: fill or drop what is missing")
    return sizes.pop(), tensors


def _is_finite(content: bytes, name: str) -> bool:
    """Whether a tensor holds finite numbers only, without NumPy: a sum keeps any NaN or infinity."""
    length = int.from_bytes(content[:8], "little")
    entry = json.loads(content[8 : 8 + length])[name]
    if entry["dtype"] not in FLOATS:
        return True
    start, end = (8 + length + offset for offset in entry["data_offsets"])
    for piece in range(start, end, PIECE_BYTES):
        numbers = array(FLOATS[entry["dtype"]], content[piece : min(end, piece + PIECE_BYTES)])
        if sys.byteorder == "big":
            numbers.byteswap()
        if not math.isfinite(sum(numbers)) and not all(map(math.isfinite, numbers)):
            return False
    return True


def _texts(content: bytes) -> list[str]:
    texts = json.loads(content)
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise InvalidRequest("texts must be a list of strings, at least one and none empty")
    return texts


def read_header(content: bytes) -> dict[str, dict[str, Any]]:
    """Names, shapes and dtypes in safetensors bytes, read without loading a tensor. Raises InvalidRequest.

    Source: the safetensors format (8 bytes of length, JSON header, then the bytes of the tensors).
    """
    wrong = InvalidRequest("the body is not a safetensors file")
    if len(content) < 8:
        raise wrong
    (length,) = struct.unpack("<Q", content[:8])
    if not 2 <= length <= min(LARGEST_HEADER_BYTES, len(content) - 8):
        raise wrong
    try:
        header = json.loads(content[8 : 8 + length])
        header.pop("__metadata__", None)
        room = len(content) - 8 - length
        return {name: _checked(entry, room) for name, entry in header.items()}
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as failure:
        raise wrong from failure


def _checked(entry: dict[str, Any], room: int) -> dict[str, Any]:
    start, end = entry["data_offsets"]
    shape = [int(size) for size in entry["shape"]]
    if entry["dtype"] not in NUMBERS or min(shape, default=0) < 0 or not 0 <= start <= end <= room:
        raise ValueError("not a tensor we take")
    if math.prod(shape) * NUMBERS[entry["dtype"]] != end - start:
        raise ValueError("size and shape disagree")
    return {"shape": shape, "dtype": entry["dtype"]}


def _delta(asked: float | None, size: int) -> float:
    delta = min(1e-5, size**-1.1) if asked is None else asked
    if not 0 < delta < 1 or (asked is not None and asked > 1 / size):
        raise InvalidRequest(f"delta must lie between 0 and 1/N = {1 / size:.2g}")
    return delta


def _cap(asked: float | None) -> float:
    if asked is None:
        return DEFAULT_EPSILON_CAP
    if not 0 < asked <= 1000:
        raise InvalidRequest("epsilon_cap must lie between 0 and 1000")
    return asked
