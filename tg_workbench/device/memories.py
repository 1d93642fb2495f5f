"""What a device remembers of a campaign from one of its rounds to the next, and until when.

It goes with its campaign, and only the workbench knows when that is over, which it signs: however long a
device was away, what a round that may still come is to begin with is there.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import suppress

from tg_workbench.device.folder import DeviceFolder, file_name

CONTROL_KIND, RESIDUAL_KIND = "control", "residual"
KINDS = (CONTROL_KIND, RESIDUAL_KIND)
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
            for path in self.folder.path.glob(f"{kind}-*.safetensors"):
                name = path.name.removeprefix(f"{kind}-").removesuffix(".safetensors")
                with suppress(FileNotFoundError):  # another thread has just forgotten it
                    if _CAMPAIGN.fullmatch(name):
                        found[name] = max(path.stat().st_mtime, found.get(name, 0.0))
        return sorted(found, key=lambda name: (found[name], name))[:MOST_ASKED]

    def forget(self, campaigns: Collection[str]) -> None:
        """Forget campaigns that are over."""
        for campaign_id in campaigns:
            for kind in KINDS:
                with suppress(OSError):  # a folder that cannot be written now: it is asked again
                    (self.folder.path / file_name(kind, campaign_id)).unlink(missing_ok=True)
