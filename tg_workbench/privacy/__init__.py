"""What differential privacy promises, and the arithmetic that keeps it.

Importing this room never imports torch: what touches tensors (`clipping`, `noise`) is imported by its own
name.

Pitfalls: ε says nothing without its δ, its relation and the way batches were drawn. A sample rate below
one is true only for batches that `PoissonSampler` drew; rows that a caller chose count with a sample rate
of one.
"""

from tg_workbench.privacy.accounting import (
    Accountant,
    Odometer,
    epsilon,
    noise_multiplier,
)
from tg_workbench.privacy.curves import Relation
from tg_workbench.privacy.randomness import SecureRandom
from tg_workbench.privacy.sampling import PoissonSampler
from tg_workbench.privacy.steps import GaussianStep

__all__ = [
    "Accountant",
    "GaussianStep",
    "Odometer",
    "PoissonSampler",
    "Relation",
    "SecureRandom",
    "epsilon",
    "noise_multiplier",
]
