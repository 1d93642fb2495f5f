"""QFLARE's routes: S2-03."""

from __future__ import annotations

from fastapi import APIRouter, Response

from tg_workbench.contracts.providers import ThePremises
from tg_workbench.contracts.qflare import schemas
from tg_workbench.contracts.qflare.errors import QFLARE_FAILURES, QflareRoute
from tg_workbench.contracts.route import public

router = APIRouter(prefix="/api/v1", route_class=QflareRoute, tags=["QFLARE"], responses=QFLARE_FAILURES)


@router.get("/health", responses={503: {"model": schemas.SystemHealth}})
@public
async def check_health(premises: ThePremises, answer: Response) -> schemas.SystemHealth:
    """Check system health status; 503 when something is not healthy."""
    found = await schemas.SystemHealth.of(premises)
    answer.status_code = 200 if found.status == "healthy" else 503
    return found
