"""Secure aggregation: the server learns the sum of what devices send, and nothing of any one of them.

The protocol is that of Bonawitz et al. (2017) on the sparse graph of Bell et al. (2020), with X-Wing in place
of Diffie-Hellman and ML-DSA-65 for what devices sign. A vector travels under masks: one for each pair of
neighbours, which the two cancel, and one of its own, which takes the others off once it is agreed who is in.
A device that seals garbage for its neighbours, or says so of others, is left out before anybody masks
(`complaints`), and a share that is not the one that was sealed is known by its mark. Importing this room does
not import numpy.

Pitfalls: a device whose shares are no shares of its secret is found out only when its mask is to come off:
then the round ends without a sum, names it, and is tried again without it. The sum itself is not private, so
add noise; rules that look at single updates cannot be used; and whoever certifies devices could invent some,
so more than two thirds of a round must be honest.
"""

from tg_workbench.federation.updates.secure_aggregation.complaints import left_out
from tg_workbench.federation.updates.secure_aggregation.coordinator import Coordinator, Total
from tg_workbench.federation.updates.secure_aggregation.encoding import WORD_BYTES, Encoding
from tg_workbench.federation.updates.secure_aggregation.graph import Graph, degree_for, threshold
from tg_workbench.federation.updates.secure_aggregation.masks import Mask
from tg_workbench.federation.updates.secure_aggregation.messages import (
    Advertisement,
    Agreement,
    Parcel,
    Report,
    Roster,
    Survivors,
    Unmasking,
)
from tg_workbench.federation.updates.secure_aggregation.participant import LEAST_DEVICES, Participant
from tg_workbench.federation.updates.secure_aggregation.quantising import Quantiser
from tg_workbench.federation.updates.secure_aggregation.wire import members_of, message_of

__all__ = [
    "LEAST_DEVICES",
    "WORD_BYTES",
    "Advertisement",
    "Agreement",
    "Coordinator",
    "Encoding",
    "Graph",
    "Mask",
    "Parcel",
    "Participant",
    "Quantiser",
    "Report",
    "Roster",
    "Survivors",
    "Total",
    "Unmasking",
    "degree_for",
    "left_out",
    "members_of",
    "message_of",
    "threshold",
]
