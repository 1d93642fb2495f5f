"""The manifest of an update: what a device says of it and signs, as JSON that is read strictly.

Every field is there, once, of one type and within its bounds, and there is no other; so two readers of the
same bytes never take them for different things. No refusal repeats what was sent.
"""

from __future__ import annotations

import base64
import json
import math
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

from tg_workbench.crypto.hpke import OVERHEAD_BYTES
from tg_workbench.crypto.sealing import KEY_BYTES
from tg_workbench.errors import EnvelopeBroken

VERSION = 1
ALGORITHMS = "MLKEM768-X25519+HKDF-SHA256+AES-256-GCM-STREAM+ML-DSA-65"
WRAPPED_BYTES = OVERHEAD_BYTES + KEY_BYTES
MOST_BYTES = 16_384
MOST_PAYLOAD_BYTES = 4 << 30
MOST_SAMPLES = 10**9
MOST_METRICS = 32
LATEST = 253_402_300_799
"""The last second of the year 9999."""
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_NONCE, _DIGEST = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a device says of its update. Raises EnvelopeBroken when a field is out of its bounds."""

    organization_id: str
    device_id: str
    round_id: str
    model_version: str
    key_version: str
    sample_count: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    compression: str = "none"
    created_at: int = field(default_factory=lambda: int(time.time()))
    nonce: str = field(default_factory=lambda: secrets.token_hex(16))
    """128 random bits, which no other envelope has."""

    def __post_init__(self) -> None:
        for member in fields(self):
            if not _FIT[member.name](getattr(self, member.name)):
                _refuse(f"its {member.name} is missing or out of bounds")
        own = {name: float(value) for name, value in self.metrics.items()}
        object.__setattr__(self, "metrics", own)

    @property
    def info(self) -> bytes:
        """What the payload's key is sealed for: this round and this device, and no other."""
        return f"tg/fl/v1|{self.organization_id}|{self.round_id}|{self.device_id}".encode()

    def must_be_for(self, *, organization_id: str, round_id: str, device_id: str) -> None:
        """Raises EnvelopeBroken when it was made for another organization, round or device."""
        expected = {"organization_id": organization_id, "round_id": round_id, "device_id": device_id}
        for name, value in expected.items():
            if getattr(self, name) != value:
                _refuse(f"it was made for another {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Claim):
    """A claim, and the payload it is about."""

    payload_sha256: str
    payload_bytes: int
    wrapped_key: str
    """The payload's key, sealed with HPKE, in base64."""
    v: int = VERSION
    alg: str = ALGORITHMS

    @classmethod
    def of(cls, claim: Claim, **payload: Any) -> Manifest:
        """The manifest of a claim: `payload` are the three members that it has more."""
        return cls(**{member.name: getattr(claim, member.name) for member in fields(Claim)}, **payload)

    @classmethod
    def parse(cls, raw: bytes) -> Manifest:
        """The manifest in these bytes. Raises EnvelopeBroken."""
        if len(raw) > MOST_BYTES:
            _refuse("its manifest is too long")
        return cls(**members_of(raw, {member.name for member in fields(cls)}, deepest=2))

    @property
    def canonical(self) -> bytes:
        """The one spelling that we write: sorted members, no blanks, ASCII."""
        members = {member.name: getattr(self, member.name) for member in fields(self)}
        return json.dumps(members, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")

    @property
    def wrapped(self) -> bytes:
        """The sealed key itself."""
        return base64.b64decode(self.wrapped_key)


def members_of(raw: bytes, names: set[str], *, deepest: int) -> dict[str, Any]:
    """An object in JSON (ASCII) with exactly these members, no lists, and at most `deepest` objects."""
    if raw.count(b"{") > deepest or b"[" in raw:
        _refuse("its JSON is too deep")
    try:
        members = json.loads(raw.decode("ascii"), object_pairs_hook=_once, parse_constant=_no_number)
    except ValueError as failure:
        raise EnvelopeBroken("its JSON is not valid") from failure
    if not isinstance(members, dict) or set(members) != names:
        _refuse("its JSON has not exactly the members that it must have")
    return members


def text_of(content: bytes) -> str:
    """Bytes in base64."""
    return base64.b64encode(content).decode("ascii")


def content_of(text: Any, most_bytes: int) -> bytes | None:
    """The bytes of a text in base64 as `text_of` writes it; None for any other, and for a longer one."""
    if not isinstance(text, str) or len(text) > (most_bytes + 2) // 3 * 4:
        return None
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return content if text_of(content) == text and len(content) <= most_bytes else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        _refuse("its JSON has a member twice")
    return members


def _no_number(constant: str) -> NoReturn:
    _refuse("its JSON holds what is no number")


def _refuse(reason: str) -> NoReturn:
    raise EnvelopeBroken(reason)


def _text(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _is(expected: object) -> Callable[[Any], bool]:
    return lambda value: type(value) is type(expected) and value == expected


def _metrics(value: Any) -> bool:
    if not isinstance(value, Mapping) or len(value) > MOST_METRICS:
        return False
    return all(_text(_NAME)(name) and _number(figure) for name, figure in value.items())


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= 1e300 and math.isfinite(value)


def _wrapped_key(value: Any) -> bool:
    wrapped = content_of(value, WRAPPED_BYTES)
    return wrapped is not None and len(wrapped) == WRAPPED_BYTES


_FIT: dict[str, Callable[[Any], bool]] = {
    "v": _is(VERSION),
    "alg": _is(ALGORITHMS),
    **dict.fromkeys(
        ("organization_id", "device_id", "round_id", "model_version", "key_version", "compression"),
        _text(_NAME),
    ),
    "nonce": _text(_NONCE),
    "created_at": _whole(0, LATEST),
    "sample_count": _whole(1, MOST_SAMPLES),
    "metrics": _metrics,
    "payload_sha256": _text(_DIGEST),
    "payload_bytes": _whole(1, MOST_PAYLOAD_BYTES),
    "wrapped_key": _wrapped_key,
}
"""What each field may be."""
