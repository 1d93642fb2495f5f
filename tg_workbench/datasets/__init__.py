"""What is learned from: datasets, their privacy policy, and the ledger of what has been revealed about them.

Pitfalls: a dataset's ε composes every step any client ever took on it, discarded runs included; deleting a
client gives nothing back. The batch drawn from a protected set is never returned, not even its size.
"""

from tg_workbench.datasets.catalogue import Datasets, Page, SortKey, is_named, require_ready
from tg_workbench.datasets.checks import Check, sweep_checks
from tg_workbench.datasets.contents import COLUMNS, UNIT_IDS, Content, read_header
from tg_workbench.datasets.ledger import KEY_BYTES, Counts, Kind, Ledger
from tg_workbench.datasets.policies import Because
from tg_workbench.datasets.scratch import sweep_scratch
from tg_workbench.datasets.specs import WORK_KIND, DatasetSpec, FileSpec, work_kinds
from tg_workbench.datasets.tables import Charge, Dataset, LedgerEvent, Upload
from tg_workbench.datasets.uploads import Uploads

__all__ = [
    "COLUMNS",
    "KEY_BYTES",
    "UNIT_IDS",
    "WORK_KIND",
    "Because",
    "Charge",
    "Check",
    "Content",
    "Counts",
    "Dataset",
    "DatasetSpec",
    "Datasets",
    "FileSpec",
    "Kind",
    "Ledger",
    "LedgerEvent",
    "Page",
    "SortKey",
    "Upload",
    "Uploads",
    "is_named",
    "read_header",
    "require_ready",
    "sweep_checks",
    "sweep_scratch",
    "work_kinds",
]
