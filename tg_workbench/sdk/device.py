"""The device's side, under the name that its owners import: `from tg_workbench.sdk.device import Device`.

When it learns it brings torch; the rest of the SDK does not.
"""

from tg_workbench.device import Device, Rows, TookPart

__all__ = ["Device", "Rows", "TookPart"]
