"""Where work runs: who holds it, which process does it, how processes wake each other. It knows no meaning.

The database says what is wanted; the dispatcher makes it so; a worker writes only while it holds its fence.

Pitfalls: a bell may be lost (it is one datagram), so whoever waits on one also looks again by itself.
"""

from tg_workbench.execution.bells import ANYTHING, AsyncBells, Bell, ring, run_folder
from tg_workbench.execution.gpus import count_gpus
from tg_workbench.execution.process import DispatcherProcess
from tg_workbench.execution.roll_call import RollCall
from tg_workbench.execution.tables import Work
from tg_workbench.execution.watched import Watched
from tg_workbench.execution.work import (
    Assignment,
    Fence,
    Fenced,
    Turn,
    WorkKind,
    release_work,
    request_worker,
)

__all__ = [
    "ANYTHING",
    "Assignment",
    "AsyncBells",
    "Bell",
    "DispatcherProcess",
    "Fence",
    "Fenced",
    "RollCall",
    "Turn",
    "Watched",
    "Work",
    "WorkKind",
    "count_gpus",
    "release_work",
    "request_worker",
    "ring",
    "run_folder",
]
