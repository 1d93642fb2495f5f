"""Class weights: by how much the loss of an example counts, by its class.

Under clipping the loss of an example is scaled, and its gradient is then held to the same bound as any: the
weights change nothing that is accounted for.

Pitfalls: weights computed from the rows tell how many of each class there are. For rows that are protected
they must come from the caller, who knows them from elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tg_workbench.errors import InvalidRequest, PrivacyRefused

LARGEST_WEIGHT = 1e6


def checked(weights: Sequence[float]) -> tuple[float, ...]:
    """Weights as floats. Raises InvalidRequest."""
    found = tuple(float(weight) for weight in weights)
    if not found or not all(0.0 <= weight <= LARGEST_WEIGHT for weight in found) or not any(found):
        raise InvalidRequest(f"class_weights are one number per class, from 0 to {LARGEST_WEIGHT:g}")
    return found


def balanced(counts: Sequence[int], *, is_public: bool) -> tuple[float, ...]:
    """Weights under which every class counts alike, as many in all as there are rows; of none: 0.

    Raises PrivacyRefused unless the rows are public: the weights tell how many of each class there are.
    """
    if not is_public:
        raise PrivacyRefused(
            "balanced class weights are computed from the classes of the rows, which are protected: give "
            "class_weights that are known from elsewhere"
        )
    occurring = sum(1 for count in counts if count)
    total = math.fsum(counts)
    if not occurring:
        raise InvalidRequest("class weights need rows with classes")
    return checked([total / (occurring * count) if count else 0.0 for count in counts])
