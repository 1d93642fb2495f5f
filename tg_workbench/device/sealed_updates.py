"""Sealed updates whose receipt has not come yet: they lie in the device's folder, so that none is lost.

A device that dies and comes back sends the same bytes, from where it stopped. Beside each lies what the
device is to remember of it once the update has arrived; whether it counts is said later, see `Memories`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tg_workbench.device.folder import DeviceFolder, file_name
from tg_workbench.device.memories import of_round
from tg_workbench.errors import DeviceFolderUnusable
from tg_workbench.federation.strategies import Vector

KIND, PENDING = "update", "pending"
MOST = 8
"""How many are kept: one that nobody asks for any more is forgotten in the end."""
MOST_NOTE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class SealedUpdate:
    """What is known of one without opening it."""

    round_id: str
    campaign_id: str
    round_number: int
    samples: int
    metrics: Mapping[str, float]
    sha256: str
    size: int
    kinds: tuple[str, ...] = ()
    """What is to be remembered of it."""


class SealedUpdates:
    """Those of one device: at most one of a round."""

    def __init__(self, folder: DeviceFolder) -> None:
        self.folder = folder

    def keep(self, update: SealedUpdate, envelope: bytes, vectors: Mapping[str, Vector]) -> None:
        """Keep one; it is there whole or not at all. Raises DeviceFolderUnusable."""
        self.forget(update.round_id)
        for round_id in self.rounds()[: 1 - MOST]:
            self.forget(round_id)
        self.tidy()
        for kind, vector in vectors.items():
            self.folder.remember(f"{PENDING}-{kind}", update.round_id, vector)
        self.folder.put(self._name(update.round_id, "sealed"), envelope)
        note = json.dumps(asdict(update)).encode()
        self.folder.put(self._name(update.round_id, "json"), note)  # last: it says that all is there

    def get(self, round_id: str) -> SealedUpdate | None:
        """That of a round, if there is one as it was kept."""
        try:
            with (self.folder.path / self._name(round_id, "json")).open("rb") as file:
                told = json.loads(file.read(MOST_NOTE_BYTES))
            update = SealedUpdate(**{**told, "kinds": tuple(told["kinds"])})
            with self.path(round_id).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return update if (update.round_id, update.sha256) == (round_id, digest) else None

    def path(self, round_id: str) -> Path:
        """Where its envelope lies."""
        return self.folder.path / self._name(round_id, "sealed")

    def rounds(self) -> list[str]:
        """The rounds of which one was kept, the oldest first."""
        found = sorted(self.folder.path.glob(f"{KIND}-*.json"), key=lambda path: path.stat().st_mtime)
        return [path.name.removeprefix(f"{KIND}-").removesuffix(".json") for path in found]

    def arrived(self, update: SealedUpdate) -> None:
        """Remember what was to be remembered once it has arrived, and forget the rest."""
        for kind in update.kinds:
            pending = self.folder.path / self._pending(kind, update.round_id)
            try:
                left = of_round(update.campaign_id, update.round_id)
                pending.replace(self.folder.path / file_name(kind, left))
            except FileNotFoundError:  # it was done before the device died
                continue
            except OSError as failure:
                raise DeviceFolderUnusable(str(self.folder.path), failure.strerror or "") from None
        self.forget(update.round_id)

    def forget(self, round_id: str) -> None:
        """Forget that of a round."""
        pending = self.folder.path.glob(self._pending("*", round_id))
        for path in (self.folder.path / self._name(round_id, "json"), self.path(round_id), *pending):
            path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what belongs to none: the device died while it kept one, or forgot one."""
        self.folder.tidy()
        known = self.rounds()
        whole = {self._name(round_id, "sealed") for round_id in known}
        whole.update(path.name for id_ in known for path in self.folder.path.glob(self._pending("*", id_)))
        for pattern in (f"{KIND}-*.sealed", f"{PENDING}-*"):
            for path in self.folder.path.glob(pattern):
                if path.name not in whole:
                    path.unlink(missing_ok=True)

    def _name(self, round_id: str, ending: str) -> str:
        return file_name(KIND, round_id, ending)

    def _pending(self, kind: str, round_id: str) -> str:
        return file_name(f"{PENDING}-{kind}", round_id)
