"""How entries of the audit log are chained, in bytes that have one meaning only (version 1).

An entry is hashed over `encode("tg-audit-entry-1", values)`, its values in the order of `FIELDS`:

- a text is `t`, an integer `i` (as decimal digits), nothing `n`, each followed by its length in bytes (four
  bytes, big-endian) and then those bytes in UTF-8; the label comes first, as a text, then every value;
- `hash` is the SHA-256 of that in hex; `previous` is the hash of the entry before, 64 zeros before the first;
- `seal` is the HMAC-SHA256 of the same encoding without `seal`, under a key derived from the signing key:
  only the workbench can check it, and it lets nobody else append. For others it is a text like any other.

So bytes cannot move between fields unnoticed, an entry cannot move between tenants, and the hash of the
newest entry stands for all before it. That hash is what a head signs.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

Value = str | int | None
ENTRY_LABEL = "tg-audit-entry-1"
HEAD_LABEL = "tg-audit-head-1"
SEAL_PURPOSE = b"tg-audit-seal-1"
GENESIS = "0" * 64
FACTS = (
    *("tenant_id", "number", "at", "actor_kind", "actor_id", "credential_id", "action"),
    *("object_kind", "object_id", "outcome", "reason", "count", "request_id", "address"),
)
"""What an entry says. `at` is in whole microseconds since 1970, so that every reader gets the same digits."""
FIELDS = (*FACTS, "previous", "seal")


def encode(label: str, values: Sequence[Value]) -> bytes:
    """The bytes of a list of values. Raises TypeError for a value of another type."""
    return b"".join(map(_encoded, (label, *values)))


def seal_of(secret: bytes, entry: Mapping[str, Value]) -> str:
    """What shows that an entry was written by whoever holds `secret`."""
    sealed = encode(ENTRY_LABEL, [entry[name] for name in FIELDS[:-1]])
    return hmac.digest(secret, sealed, "sha256").hex()


def seal_and_hash(secret: bytes, entry: Mapping[str, Value]) -> tuple[str, str]:
    """Both of a new entry: `seal` comes last, so what it seals is encoded once."""
    sealed = encode(ENTRY_LABEL, [entry[name] for name in FIELDS[:-1]])
    seal = hmac.digest(secret, sealed, "sha256").hex()
    return seal, hashlib.sha256(sealed + _encoded(seal)).hexdigest()


def hash_of(entry: Mapping[str, Value]) -> str:
    """The hash of an entry and, by way of `previous`, of every entry before it."""
    return hashlib.sha256(encode(ENTRY_LABEL, [entry[name] for name in FIELDS])).hexdigest()


def _encoded(value: Value) -> bytes:
    if value is None:
        return b"n\0\0\0\0"
    if type(value) is int:
        tag, content = b"i", str(value).encode()
    elif type(value) is str:
        tag, content = b"t", value.encode("utf-8", "surrogatepass")
    else:
        raise TypeError(f"an entry holds texts and whole numbers, not {type(value).__name__}")
    return tag + len(content).to_bytes(4, "big") + content
