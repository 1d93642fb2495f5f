"""A device's next keys: in its folder before anybody hears of them, and until it goes by them.

A device that dies between the moment they were certified and the moment it knows offers the same ones again.
Were they lost, the workbench would wait for them, and those it had would end with their time of grace.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field

from tg_workbench.crypto.hpke import OpeningKey
from tg_workbench.crypto.manifests import text_of
from tg_workbench.crypto.signatures import SigningKey
from tg_workbench.device.folder import DeviceFolder
from tg_workbench.errors import QuantumKeyInvalid

FILE = "next-keys.json"
MOST_BYTES = 1 << 12


@dataclass(frozen=True, slots=True)
class NextKeys:
    """The private halves of keys that the workbench may have certified already."""

    opening: OpeningKey = field(repr=False)
    signing: SigningKey = field(repr=False)

    @classmethod
    def find(cls, folder: DeviceFolder) -> NextKeys | None:
        """Those in the folder; None: there are none, or none that can be read."""
        try:
            with (folder.path / FILE).open("rb") as file:
                told = json.loads(file.read(MOST_BYTES))
            opening, signing = (base64.b64decode(told[name]) for name in ("opening_key", "signing_key"))
            return cls(OpeningKey.from_seed(opening), SigningKey.from_seed(signing))
        except (OSError, ValueError, KeyError, TypeError, QuantumKeyInvalid):
            return None

    @classmethod
    def of(cls, folder: DeviceFolder) -> NextKeys:
        """Those in the folder, or new ones, which are there from now on. Raises DeviceFolderUnusable."""
        if (known := cls.find(folder)) is not None:
            return known
        made = cls(OpeningKey.generate(), SigningKey.generate())
        seeds = {"opening_key": text_of(made.opening.seed), "signing_key": text_of(made.signing.seed)}
        folder.put(FILE, json.dumps(seeds).encode())
        return made

    @staticmethod
    def forget(folder: DeviceFolder) -> None:
        """The device goes by them now."""
        (folder.path / FILE).unlink(missing_ok=True)
