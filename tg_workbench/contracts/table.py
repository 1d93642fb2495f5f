"""Which contract a path belongs to, for what no router sees: 404, 405, 413, 500.

The longest prefix wins, on whole segments, also where a contract serves nothing yet.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from tg_workbench.contracts.aitip.errors import AITIP
from tg_workbench.contracts.coordination.errors import COORDINATION
from tg_workbench.contracts.deep_learning.errors import DEEP_LEARNING
from tg_workbench.contracts.failures import Failure
from tg_workbench.contracts.limits import CONTRACT
from tg_workbench.contracts.open_inference.errors import OPEN_INFERENCE
from tg_workbench.contracts.qflare.errors import QFLARE
from tg_workbench.contracts.route import Contract, request_id_of
from tg_workbench.contracts.tg_tinker.errors import TG_TINKER, WORKBENCH

CONTRACTS: dict[str, Contract] = {
    contract.name: contract
    for contract in (TG_TINKER, AITIP, QFLARE, DEEP_LEARNING, COORDINATION, WORKBENCH, OPEN_INFERENCE)
}

PREFIXES = {
    "/api/v1/training_clients": "tg_tinker",
    "/api/v1/futures": "tg_tinker",
    "/health": "tg_tinker",
    "/ready": "tg_tinker",
    "/live": "tg_tinker",
    "/version": "tg_tinker",
    "/workbench": "workbench",
    "/workbench/v1/inference": "open_inference",
    "/api/v1/auth/register": "aitip",
    "/api/v1/auth/login": "aitip",
    "/api/v1/auth/me": "aitip",
    "/api/v1/datasets": "aitip",
    "/api/v1/training": "aitip",
    "/api/v1/inference": "aitip",
    "/api/v1": "qflare",
    "/ws": "qflare",
    "/.well-known": "qflare",
    "/api": "coordination",
    "/": "deep_learning",
}


def contract_name_at(path: str) -> str:
    """The document that `path` belongs to."""
    segments = path.rstrip("/").split("/")
    candidates = ("/".join(segments[:count]) or "/" for count in range(len(segments), 0, -1))
    return next((PREFIXES[candidate] for candidate in candidates if candidate in PREFIXES), "deep_learning")


def contract_of(request: Request) -> Contract:
    """The contract whose route was taken, or else the one its path belongs to."""
    routed: Contract | None = request.scope.get(CONTRACT)
    return routed or CONTRACTS[contract_name_at(request.scope["path"])]


def render(request: Request, error: Exception) -> Response:
    """The answer to a failed request, in the words of its contract."""
    return contract_of(request).render(Failure.of(error), request_id_of(request.scope))


async def answer_failure(request: Request, error: Exception) -> Response:
    """The application's one exception handler."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        error = HTTPException(405, headers={"Allow": ", ".join(_methods_at(request))})
    return render(request, error)


def _methods_at(request: Request) -> list[str]:
    """What a path takes, by whichever routes: the router knows of the first one only."""
    there = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in there for method in getattr(route, "methods", None) or ()})
