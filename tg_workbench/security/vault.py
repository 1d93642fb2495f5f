"""The vault: blobs sealed under the key of their tenant, and bound to what they belong to (`context`).

An edited, swapped or foreign blob does not open. Bytes go in and come out in pieces, so that neither needs
the room of the whole; what an earlier version sealed in one piece opens as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from sqlmodel import Session

from tg_workbench.crypto import Keyring, open_pieces, seal_pieces
from tg_workbench.security.data_keys import DataKey, DataKeys
from tg_workbench.storage import Blobs


class Vault:
    """The sealed blobs of a workbench, whose key-encryption keys lie in its `home`.

    The keyring is read each time, inside the transaction and so after its lock: it may be rotated meanwhile.
    """

    def __init__(self, blobs: Blobs, home: Path) -> None:
        self.blobs = blobs
        self.home = home

    def key_for(self, session: Session, tenant_id: str) -> DataKey:
        """The key to seal with, made for a tenant that has none: the caller holds a writing session."""
        return DataKeys(session, Keyring.open(self.home)).current(tenant_id)

    def key(self, session: Session, key_id: str) -> DataKey:
        """The key that something was sealed with. Raises SealBroken when it is not here."""
        return DataKeys(session, Keyring.open(self.home)).get(key_id)

    def put(
        self,
        key: DataKey,
        pieces: Iterable[bytes],
        context: bytes,
        announce: Callable[[str], object] | None = None,
    ) -> str:
        """Seal the pieces into one blob, and return its name, which `announce` is told before.

        It needs no session: what is large takes long, and is better put away before one writes. Raises
        StorageFull.
        """
        return self.blobs.put(seal_pieces(key.key, pieces, context), announce)

    def size_bytes(self, blob: str) -> int:
        """How much room a blob takes. Raises NotFound."""
        return self.blobs.path(blob).stat().st_size

    def pieces(self, key: DataKey, blob: str, context: bytes) -> Iterator[bytes]:
        """What is under the seal, a piece at a time. A blob that is deleted meanwhile is read to its end.

        Raises NotFound and SealBroken; when a later piece does not hold, only as it comes to it.
        """
        found = _read(key, self.blobs.path(blob).open("rb"), context)
        return chain((next(found),), found)

    def read(self, key: DataKey, blob: str, context: bytes) -> bytes:
        """All that is under the seal. Raises NotFound, SealBroken."""
        return b"".join(self.pieces(key, blob, context))


def _read(key: DataKey, file: BinaryIO, context: bytes) -> Iterator[bytes]:
    with file:
        yield from open_pieces(key.key, file, context)
