"""How learning is driven: training clients, one operation at a time and in order.

The API's half (this front) writes operations into a queue; the worker's half (`worker.py` and what it
imports) is loaded only in worker processes, because it needs torch.

Pitfalls: an operation is accepted when its row is stored, not when a worker sees it; `optim_step` spends
privacy even if its answer is lost, so a retry must carry the same Idempotency-Key.
"""

from tg_workbench.engine.specs import Architecture, LoraSpec, OptimizerSpec
from tg_workbench.training.clients import TrainingClients
from tg_workbench.training.operations import Operations
from tg_workbench.training.specs import (
    WORK_KIND,
    ClientSpec,
    DPSpec,
    OperationKind,
    Status,
    work_kinds,
)
from tg_workbench.training.tables import Artifact, Operation, OperationRow, TrainingClient

__all__ = [
    "WORK_KIND",
    "Architecture",
    "Artifact",
    "ClientSpec",
    "DPSpec",
    "LoraSpec",
    "Operation",
    "OperationKind",
    "OperationRow",
    "Operations",
    "OptimizerSpec",
    "Status",
    "TrainingClient",
    "TrainingClients",
    "work_kinds",
]
