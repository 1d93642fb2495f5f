"""How learning is driven: training clients, one operation at a time and in order.

The API's half (this front) writes operations into a queue; the worker's half (`worker.py` and what it
imports) is loaded only in worker processes, because it needs torch.

Pitfalls: an operation is accepted when its row is stored, not when a worker sees it; `optim_step` spends
privacy even if its answer is lost, so a retry must carry the same Idempotency-Key.
"""

from tg_workbench.engine.specs import Architecture, LoraSpec, OptimizerSpec
from tg_workbench.training.clients import TrainingClients
from tg_workbench.training.job_specs import EarlyStopping, JobSpec, ScheduleSpec
from tg_workbench.training.jobs import Jobs
from tg_workbench.training.left_checkpoints import LeftCheckpoints
from tg_workbench.training.operations import Operations
from tg_workbench.training.specs import (
    WORK_KIND,
    ClientSpec,
    DPSpec,
    JobStatus,
    OperationKind,
    Status,
    work_kinds,
)
from tg_workbench.training.tables import Artifact, Job, Operation, OperationRow, TrainingClient

__all__ = [
    "WORK_KIND",
    "Architecture",
    "Artifact",
    "ClientSpec",
    "DPSpec",
    "EarlyStopping",
    "Job",
    "JobSpec",
    "JobStatus",
    "Jobs",
    "LeftCheckpoints",
    "LoraSpec",
    "Operation",
    "OperationKind",
    "OperationRow",
    "Operations",
    "OptimizerSpec",
    "ScheduleSpec",
    "Status",
    "TrainingClient",
    "TrainingClients",
    "work_kinds",
]
