"""Terms: what whoever looks after a device lets its rows be used for, whatever the workbench asks.

How a campaign is protected is decided at the workbench, and a device that does all it is told would send a
bare update to whoever runs that. Terms are the device's own. They are held against what the workbench has
signed, before a model is fetched or a row is read.

Pitfalls: the other devices are those that the workbench has certified. That they are real, and not all of
them its own, nothing in the protocol can tell. An update that was sealed under other terms and has no
receipt yet is sent as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tg_workbench.errors import InvalidRequest, TermsNotMet
from tg_workbench.federation.updates.secure_aggregation import LEAST_DEVICES


@dataclass(frozen=True, slots=True)
class Terms:
    """What a device insists on. Raises InvalidRequest for less than secure aggregation has anyway."""

    only_masked: bool = False
    """Secure aggregation alone: an update leaves the device under masks, and the workbench sees a sum."""
    least_devices: int = LEAST_DEVICES
    """How many devices have to mask their updates against one another; more than two thirds of them stay."""

    def __post_init__(self) -> None:
        """Look at them once."""
        if self.least_devices < LEAST_DEVICES:
            raise InvalidRequest(f"least_devices must be {LEAST_DEVICES} or more")

    def admit(self, offered: Mapping[str, Any]) -> bool:
        """Whether a round may be joined, by what is offered; nobody has signed that."""
        return not self.only_masked or offered.get("secure_aggregation") is not False

    def require(self, assignment: Mapping[str, Any]) -> None:
        """Raises TermsNotMet for an assignment that they forbid."""
        if self.only_masked and assignment.get("secure_aggregation") is None:
            raise TermsNotMet(
                "the workbench asks for an update without secure aggregation, and this device's terms are "
                "only_masked"
            )
