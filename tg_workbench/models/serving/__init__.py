"""Serving: models that answer. Workers hold them open; the API asks the workers over Unix sockets.

This front is the API's half and imports nothing that computes; `worker.py` and what it imports is the other.

Pitfalls: a worker that was asked and does not answer may have died of the question, so it is not asked again.
"""

from tg_workbench.execution import WorkKind
from tg_workbench.models.serving.frames import Frame
from tg_workbench.models.serving.places import GENERATION, INFERENCE
from tg_workbench.models.serving.pool import Pool, Target
from tg_workbench.models.serving.services import Services, ServiceSpec, Standing, model_target, runtime_of
from tg_workbench.models.serving.tables import Service
from tg_workbench.models.serving.triton import Triton
from tg_workbench.settings import Settings

__all__ = [
    "Frame",
    "Pool",
    "Service",
    "ServiceSpec",
    "Services",
    "Standing",
    "Target",
    "Triton",
    "model_target",
    "runtime_of",
    "work_kinds",
]
RUN = "tg_workbench.models.serving.worker:run"


def work_kinds(settings: Settings) -> tuple[WorkKind, ...]:
    """The kinds of workers: a quarter of the places is for those that need torch."""
    heavy = max(1, settings.max_inference_workers // 4)
    return (
        WorkKind(INFERENCE, RUN, max(1, settings.max_inference_workers - heavy), with_torch=False),
        WorkKind(GENERATION, RUN, heavy),
    )
