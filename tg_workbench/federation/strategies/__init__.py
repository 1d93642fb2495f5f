"""How the updates of a round become one model: one rule per file, pure, and the same bits for the same order.

A strategy is added by writing a file with one class under `@strategy`; it is then named here, and tested by
being there. Importing this room imports neither numpy nor torch: the API only reads names and summaries.

Pitfalls: robust rules (median, trimmed mean, MultiKrum) take what differs for an attack. Where the devices'
data differ, they cost accuracy.
"""

from tg_workbench.federation.strategies.registry import named, names
from tg_workbench.federation.strategies.strategy import (
    Aggregation,
    LocalRule,
    Outcome,
    State,
    Strategy,
    Update,
    Vector,
)

__all__ = [
    "Aggregation",
    "LocalRule",
    "Outcome",
    "State",
    "Strategy",
    "Update",
    "Vector",
    "named",
    "names",
]
