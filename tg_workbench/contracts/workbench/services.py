"""What AITIP's document has no words for: one inference service, asking it, and the end of it."""

from __future__ import annotations

from fastapi import APIRouter, Response

from tg_workbench.contracts.aitip.schemas import ServiceView
from tg_workbench.contracts.deep_learning.schemas import ROWS, Predictions
from tg_workbench.contracts.inference import RowsAsked, TheInference
from tg_workbench.contracts.providers import ServiceId, ServicesRoom, SignedIn
from tg_workbench.contracts.route import FAILURES, asks_only, needs
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.workbench.schemas import Deleted

router = APIRouter(
    prefix="/workbench/v1/services", route_class=WorkbenchRoute, tags=["Workbench"], responses=FAILURES
)


@router.get("/{service_id}")
async def get_service(service_id: ServiceId, owner: SignedIn, services: ServicesRoom) -> ServiceView:
    """An inference service, by its id or its name, and how it stands."""
    service = services.get(owner, service_id)
    return ServiceView.of(service, services.standing(service))


@router.post("/{service_id}/predict", openapi_extra=ROWS, response_model=Predictions)
@needs("read")
@asks_only
async def predict_by_service(service_id: ServiceId, rows: RowsAsked, desk: TheInference) -> Response:
    """What a service's model says of raw rows: of one, `input`, or of several, `inputs`."""
    return await desk.predict_by(service_id, rows)


@router.delete("/{service_id}")
async def delete_service(service_id: ServiceId, owner: SignedIn, services: ServicesRoom) -> Deleted:
    """Stop an inference service and forget it; its model stays."""
    services.delete(owner, service_id)
    return Deleted()
