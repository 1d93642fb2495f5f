"""What a device remembers of a campaign from one of its rounds to the next, and until when.

What a round has left counts once its update is in a model, and the workbench alone knows that: until its word
is here, it lies beside what counted before. So a round that came to nothing leaves a device as it was, and
SCAFFOLD's control variate of the server stays the mean of those of the devices.

All of it goes with its campaign, and only the workbench knows when that is over, which it signs: however long
a device was away, what a round that may still come is to begin with is there.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from tg_workbench.device.folder import DeviceFolder, file_name
from tg_workbench.errors import DeviceFolderUnusable

CONTROL_KIND, RESIDUAL_KIND = "control", "residual"
KINDS = (CONTROL_KIND, RESIDUAL_KIND)
ENDING = ".safetensors"
MOST_ASKED = 64
"""Of how many campaigns the workbench is asked at once: more than an organisation has under way."""
_CAMPAIGN = re.compile(r"[A-Za-z0-9_-]{1,100}")


class Memories:
    """Those of one device."""

    def __init__(self, folder: DeviceFolder) -> None:
        self.folder = folder

    def campaigns(self) -> list[str]:
        """The campaigns of which something is remembered, those first that were served longest ago."""
        found: dict[str, float] = {}
        for kind in KINDS:
            for path in self.folder.path.glob(f"{kind}-*{ENDING}"):
                name = path.name.removeprefix(f"{kind}-").removesuffix(ENDING).partition(".")[0]
                with suppress(FileNotFoundError):  # another thread has just forgotten it
                    if _CAMPAIGN.fullmatch(name):
                        found[name] = max(path.stat().st_mtime, found.get(name, 0.0))
        return sorted(found, key=lambda name: (found[name], name))[:MOST_ASKED]

    def settle(self, campaign_id: str, counted: str | None) -> None:
        """Begin with what the round `counted` left: the device's last one whose update is in a model.

        None: there is no such round, and it begins with nothing. What other rounds left is forgotten. Where
        the named one left nothing here, what counted before does so still: it has been named before, or was
        kept when rounds were not told apart. Raises DeviceFolderUnusable.
        """
        try:
            for kind in KINDS:
                left = self._left(kind, campaign_id)
                counts = self.folder.path / file_name(kind, campaign_id)
                if counted is None:
                    counts.unlink(missing_ok=True)
                elif counted in left:
                    with suppress(FileNotFoundError):  # the campaign is over, another thread has just heard
                        left.pop(counted).replace(counts)
                for path in left.values():
                    path.unlink(missing_ok=True)
        except OSError as failure:
            raise DeviceFolderUnusable(str(self.folder.path), failure.strerror or "") from None

    def settle_by_receipts(self, campaign_id: str) -> None:
        """The same for a workbench that does not say what counted: then it is what arrived last."""
        arrived: dict[str, float] = {}
        for kind in KINDS:
            for round_id, path in self._left(kind, campaign_id).items():
                with suppress(FileNotFoundError):
                    arrived[round_id] = path.stat().st_mtime
        if arrived:
            self.settle(campaign_id, max(arrived, key=arrived.__getitem__))

    def forget(self, campaigns: Collection[str]) -> None:
        """Forget campaigns that are over."""
        for campaign_id in campaigns:
            for kind in KINDS:
                counts = self.folder.path / file_name(kind, campaign_id)
                for path in (counts, *self._left(kind, campaign_id).values()):
                    with suppress(OSError):  # a folder that cannot be written now: it is asked again
                        path.unlink(missing_ok=True)

    def _left(self, kind: str, campaign_id: str) -> dict[str, Path]:
        """What rounds left whose updates have arrived, and of which it was not said whether they count."""
        start = file_name(kind, campaign_id).removesuffix(ENDING) + "."
        found = self.folder.path.glob(f"{start}*{ENDING}")
        return {path.name.removeprefix(start).removesuffix(ENDING): path for path in found}


def of_round(campaign_id: str, round_id: str) -> str:
    """Under which name it is remembered what a round left: a campaign's own name has no dot."""
    return f"{campaign_id}.{round_id}"
