"""The device's side, under the name that its owners import: `from tg_workbench.sdk.device import Device`.

It trains, so it brings torch; the rest of the SDK does not.
"""

from tg_workbench.device import Device, Rows, Simulated, SimulatedRound, Simulation, Terms, TookPart, simulate

__all__ = ["Device", "Rows", "Simulated", "SimulatedRound", "Simulation", "Terms", "TookPart", "simulate"]
