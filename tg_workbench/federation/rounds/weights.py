"""What an update weighs: how many samples its device says it has, which nobody can verify; so it is bounded.

A device that claims a billion samples would own the model of all others. It counts for `most_samples` at
most, and where nobody has said how many that are, for ten times as many as the device in the middle claims.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from tg_workbench.federation.rounds.specs import Criteria

MOST_OF_MEDIAN = 10
"""How many times the (lower) median of a round's claims one device may count for, unless somebody says."""


def weights_of(claims: Mapping[str, int], criteria: Criteria) -> dict[str, float]:
    """The weight of each device's update, by its id."""
    if not claims:
        return {}
    most = criteria.most_samples or MOST_OF_MEDIAN * statistics.median_low(claims.values())
    return {device_id: float(min(claimed, most)) for device_id, claimed in claims.items()}
