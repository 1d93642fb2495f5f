"""A device: it learns where its rows are, and what leaves it is one sealed update a round.

    from tg_workbench.sdk.device import Device

    device = Device.enroll("tok_…", "org_…", "https://workbench.example", folder="ward-4")
    device.learn({"features": x, "targets": y})     # takes part in rounds until none is left

Pitfalls: the private keys lie in `folder` (0600); whoever copies it is this device. An update is made from
the rows, and without differential privacy or secure aggregation the server could learn about them from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tg_workbench.device.device import Device
from tg_workbench.device.rows import Rows
from tg_workbench.device.taking_part import TookPart
from tg_workbench.device.terms import Terms

if TYPE_CHECKING:
    from tg_workbench.device.simulation import Simulated, SimulatedRound, Simulation, simulate

__all__ = ["Device", "Rows", "Simulated", "SimulatedRound", "Simulation", "Terms", "TookPart", "simulate"]


def __getattr__(name: str) -> Any:
    """Simulation's names, imported when they are first asked for: they bring torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tg_workbench.device import simulation

    return getattr(simulation, name)
