"""What is learned from: datasets, their privacy policy, and the ledger of what has been revealed about them.

Pitfalls: a dataset's ε composes every step any client ever took on it, discarded runs included; deleting a
client gives nothing back. The batch drawn from a protected set is never returned, not even its size.
"""

from tg_workbench.datasets.catalogue import Datasets, DatasetSpec
from tg_workbench.datasets.contents import COLUMNS, UNIT_IDS, Content, read_header
from tg_workbench.datasets.ledger import KEY_BYTES, Counts, Kind, Ledger
from tg_workbench.datasets.tables import Charge, Dataset, LedgerEvent

__all__ = [
    "COLUMNS",
    "KEY_BYTES",
    "UNIT_IDS",
    "Charge",
    "Content",
    "Counts",
    "Dataset",
    "DatasetSpec",
    "Datasets",
    "Kind",
    "Ledger",
    "LedgerEvent",
    "read_header",
]
